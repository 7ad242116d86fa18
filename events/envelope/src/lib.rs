//! The wire format, for anyone: CloudEvents alone and in batches, trace context, dead letters, and streams and consumers as values.
//!
//! Nothing here knows what is said in it, does I/O, reads a clock or draws a random number. A closed set of messages is declared with
//! [`vocabulary!`], one of several such sets with [`vocabularies!`].

pub mod dead_letter;
mod decode_error;
mod event;
mod schema;
mod text;
mod topology;
mod trace;
mod trace_state;
mod vocabulary;

pub use decode_error::DecodeError;
pub use event::{BATCH_CONTENT_TYPE, BATCH_MAX_BYTES, BATCH_MAX_EVENTS, CloudEvent, split_batch};
pub use schema::words;
pub use text::{LINE_MAX, Line, TextError, checked, hidden, is_hidden, line};
pub use topology::{Consumer, Participant, Stream, Topology, event_subject};
pub use trace::{TraceContext, TraceParent};
pub use trace_state::TraceState;
pub use vocabulary::{Data, Message, Typed};
