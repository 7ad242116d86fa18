//! How a service lives: settings, telemetry, health, shutdown, database, topology, outbox, consumer, HTTP edge.
//!
//! The one idea to know: **the batch is the unit of work, from the edge to the end.** Whatever queued up while the last transaction
//! was running becomes the next batch: one transaction, one outbox row, one message. A [`Handler`] is a function from a connection
//! and a batch to outputs and the [`Statement`] that writes the batch and its [`Outgoing`] messages; the same handler serves HTTP requests
//! ([`GroupCommit`]), messages ([`consumer`]) and timers. It holds no broker handle, so it cannot publish around the outbox.

mod address;
mod batch_span;
pub mod broker;
mod causes;
mod client;
pub mod clock;
pub mod consumer;
mod credentials;
pub mod database;
mod dead_letter;
mod delivery;
pub mod discovery;
pub mod environment;
mod failure;
mod fair_limit;
pub mod gather;
mod group_commit;
mod handler;
pub mod health;
mod held;
pub mod http;
pub mod identity;
pub mod indexes;
mod intake;
pub mod keys;
pub mod listed;
pub mod meaning;
pub mod metrics;
mod note;
mod origins;
pub mod otlp;
mod outbox;
mod outgoing;
mod packet;
mod read_connection;
pub mod seldom;
mod service;
pub mod settings;
mod statement;
mod stored;
pub mod telemetry;
pub mod topology;
mod unit_of_work;
pub mod unpublished;
mod unsure;
mod writers;

pub use causes::{causes, each_once};
pub use client::{Client, Networks};
pub use consumer::Source;
pub use failure::Failure;
pub use fair_limit::{FairLimit, Permit};
pub use group_commit::{GroupCommit, Overloaded};
pub use handler::{Handled, Handler, InTransaction, OneStatement, Shape};
pub use meaning::Conflict;
pub use note::Note;
pub use origins::{Hosts, Origins};
pub use outbox::{CannotRebuild, OUTBOX_SQL, RebuildMessages, Rebuilt};
pub use outgoing::{NewEvent, Outgoing};
pub use packet::Packet;
pub use read_connection::ReadConnection;
pub use service::{Parts, Running, Service, Start, cores, main, runtime};
pub use statement::Statement;
pub use unit_of_work::UnitOfWork;
pub use writers::WritePermit;
