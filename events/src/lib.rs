//! What is said: the words every part of Waybill shares.
//!
//! Ids and values that cannot be wrong, the CloudEvents envelope, the names of streams and subjects, and each context's
//! commands and events. Nothing here does I/O, reads a clock or draws a random number; those are arguments.
//!
//! A value is checked once, where it enters. From there on its type is the proof.

pub mod dead_letter;
mod envelope;
#[cfg(test)]
mod fuzz;
mod ids;
mod money;
pub mod order;
pub mod product;
mod reason;
pub mod streams;
mod text;
mod trace;
pub mod user;
mod vocabulary;

pub use envelope::{BATCH_CONTENT_TYPE, BATCH_MAX_BYTES, BATCH_MAX_EVENTS, CloudEvent, DecodeError, split_batch};
pub use ids::{NotAnId, OrderId, ProductId, ReservationId, UserId};
pub use iso_currency::Currency;
pub use money::{Money, MoneyError};
pub use product::{Quantity, StockLevel};
pub use reason::{Reason, ReasonCode, ShortLine};
pub use text::{Description, Email, Name, TextError, hidden};
pub use trace::TraceParent;
pub use vocabulary::{Data, Message};
