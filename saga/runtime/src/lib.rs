//! Runs any saga on Postgres and JetStream.
//!
//! [`Saga`] is what a saga says of itself beside its plan; everything about its steps stands in one table, [`Saga::channel`]. The consumers
//! that are bound, how replies are read, the topology and the words that people read follow from it ([`steps`]). How its sagas are kept is a
//! [`Layout`]: [`Plain`], or one with columns of the saga's own, which are written in the same statement.
//!
//! A service says [`Prepared::new`] before it starts, [`Prepared::start`] after, and serves [`operator_routes`] beside its own routes, most of
//! which are in [`requests`] and [`live`]. [`participant`] is for those who do the steps of sagas.

mod actions;
mod aside;
mod batch;
mod cache;
mod cause;
mod causes;
mod channel;
mod completeness;
mod coordinator;
mod count;
mod described;
mod export;
mod filter;
mod item;
pub mod live;
pub mod messages;
mod metrics;
mod operator;
pub mod participant;
mod plain;
mod plan_registry;
mod progress;
pub mod requests;
mod runtime;
mod saga;
pub mod search;
mod settings;
mod spans;
mod statements;
pub mod steps;
mod store;
mod sweeper;
mod table;
mod traces;
mod verify;
mod waiters;

use std::sync::Arc;

use axum::extract::FromRef;
use chassis::http::Routes;

pub use crate::channel::{Channel, StatusWord};
pub use crate::completeness::Completeness;
pub use crate::filter::Given;
pub use crate::item::{Begun, Moved, NewSaga, Outcome, Trigger};
pub use crate::plain::{ACTIONS_SQL, Plain, PlainEvent, PlainView, RACES_SQL, SAGAS_SQL, TRACESTATE_SQL};
pub use crate::runtime::{Prepared, Runtime};
pub use crate::saga::{History, Layout, LoadedSaga, Projection, Record, Saga, View, status_named};
pub use crate::settings::{HistoryLimit, OperatorSettings, SagaSettings, TimingSettings};
pub use crate::store::NewEntry;
pub use crate::table::{Bound, Column, Table, Values};
pub use crate::verify::{Incomplete, verify};
pub use crate::waiters::Subscription;
pub use envelope::Participant;

/// What operators, and they alone, see and do, for the service's own port only.
pub fn operator_routes<S: Saga>() -> Routes<Arc<Runtime<S>>> {
    operator::routes()
        .merge(actions::routes())
        .merge(actions::record::routes())
        .merge(causes::routes())
        .merge(completeness::routes::routes())
}

impl<S: Saga> FromRef<Arc<Runtime<S>>> for completeness::routes::Facts {
    fn from_ref(runtime: &Arc<Runtime<S>>) -> Self {
        Self(runtime.database().clone())
    }
}
