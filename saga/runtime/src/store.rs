//! Every statement about the sagas of one kind, as something to be called.

pub(crate) mod actions;
pub(crate) mod completeness;
mod history;
mod lists;
mod operator;
mod read;
mod write;

use std::marker::PhantomData;
use std::time::Duration;

use chassis::indexes::Index;
use chassis::listed::named;
use chrono::TimeDelta;

use crate::saga::{Layout, Saga};
use crate::search::By;
use crate::statements::Statements;
use crate::steps::step_names;

pub use history::{HistoryPage, NewEntry, Served};
pub(crate) use lists::{InFlight, Part, SagaFilter};
pub(crate) use operator::{Exported, Waiting, record_plan};
pub(crate) use read::{Keyed, Unreadable, plan_of};
pub(crate) use write::Written;

/// The statements about the sagas of one kind.
pub(crate) struct Store<S: Saga> {
    sql: &'static Statements,
    saga: PhantomData<fn() -> S>,
}

impl<S: Saga> Clone for Store<S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S: Saga> Copy for Store<S> {}

impl<S: Saga> Store<S> {
    /// Makes the statements. Once for each kind of saga: their text is kept for as long as the process.
    pub fn new() -> Self {
        Self { sql: Box::leak(Box::new(Statements::of(&<S::Layout as Layout<S>>::TABLE, &step_names::<S>()))), saga: PhantomData }
    }

    /// The index that finds the entries of a span of time, however many there are. One entry for many pages of the table, which are in the order of
    /// time: it costs writing nothing that shows.
    pub fn moved_index(&self) -> Index {
        let [create, drop, name] = self.sql.moved_index;
        Index { name, create, drop }
    }

    /// The index that finds what operators did. An entry that is none of theirs costs it a look at how its text begins.
    pub fn actions_index(&self) -> Index {
        let [create, drop, name] = self.sql.actions_index;
        Index { name, create, drop }
    }

    /// The indexes that lists need and no migration makes.
    pub fn list_indexes(&self) -> Vec<Index> {
        let [create, drop, name] = self.sql.created_index;
        let searched = S::Layout::TABLE.searches.iter().filter_map(|search| match search.walk?.by {
            By::Column { index, .. } => Some(index),
            By::Beside { .. } => None,
        });
        std::iter::once(Index { name, create, drop }).chain(searched).collect()
    }

    /// Deletes keys of cancellations that are older than so many seconds, the oldest first and so many at most.
    pub fn expire_keys(&self) -> &'static str {
        self.sql.expire_keys
    }

    /// The same of what operators did outside of any saga, each kind by a statement of its own.
    pub fn expire_actions(&self) -> [&'static str; 2] {
        self.sql.expire_actions
    }
}

fn corrupt(what: String) -> sqlx::Error {
    sqlx::Error::Decode(what.into())
}

/// A span of more than a hundred years is as good as for ever.
pub(crate) fn delta(span: Duration) -> TimeDelta {
    TimeDelta::from_std(span).unwrap_or(TimeDelta::MAX).min(TimeDelta::days(36_500))
}
