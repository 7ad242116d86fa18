//! Runs any saga on Postgres and JetStream.
//!
//! [`Saga`] is what a saga says of itself beside its plan; everything about its steps stands in one table, [`Saga::channel`]. The consumers
//! that are bound, how replies are read, the topology and the words that people read follow from it ([`steps`]). [`participant`] is for those who do
//! its steps.

pub mod participant;
mod saga;
pub mod steps;
mod verify;

pub use crate::saga::{Channel, Saga, StatusWord};
pub use crate::verify::{Incomplete, verify};
pub use envelope::Participant;
