//! What is said in this shop: the words every part of it shares.
//!
//! Ids and values that cannot be wrong, the names of streams and subjects, and each context's commands and events. They travel in the
//! envelope of the crate `envelope`, which is used as one with this one. Nothing here does I/O, reads a clock or draws a random number; those are
//! arguments.
//!
//! A value is checked once, where it enters. From there on its type is the proof.

pub mod contract;
#[cfg(test)]
mod fuzz;
mod ids;
mod money;
pub mod order;
pub mod product;
mod quantity;
mod reason;
mod schema;
pub mod streams;
mod tags;
mod text;
pub mod user;

pub use envelope::{
    BATCH_CONTENT_TYPE, BATCH_MAX_BYTES, BATCH_MAX_EVENTS, CloudEvent, Consumer, Data, DecodeError, Message, Participant, Stream,
    Topology, TraceContext, TraceParent, TraceState, dead_letter, event_subject, hidden, split_batch, vocabularies, vocabulary,
};
pub use ids::{NotAnId, OrderId, ProductId, ReservationId, UserId};
pub use iso_currency::Currency;
pub use money::{CurrencyCode, Money, MoneyError, UnitPrice};
pub use quantity::{Quantity, StockLevel};
pub use reason::{Reason, ReasonCode, ShortLine};
pub use tags::{Tag, TagError, Tags};
pub use text::{Description, Email, Name, Reference, TextError};
