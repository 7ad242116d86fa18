//! The table of a saga: where its sagas are kept, and its own columns beside the runtime's.

use chassis::Statement;
use uuid::Uuid;

use crate::search::Search;

/// Where the sagas of one kind are kept. The names are part of the SQL, so they are constants; what comes from outside is bound.
///
/// The constraints that a batch may race for bear the names that Postgres gives them: `orders_idempotency_key` (the unique index of the
/// column), `order_history_pkey`, `cancellations_pkey`.
#[derive(Clone, Copy, Debug)]
pub struct Table {
    /// The table of sagas: `orders`.
    pub name: &'static str,
    /// The table of their histories: `order_history`.
    pub history: &'static str,
    /// Its column with the saga's id, which operators see by this name too: `order_id`.
    pub history_id: &'static str,
    /// The table of the keys that cancellations came with; the saga's id has the same name there.
    pub cancellations: &'static str,
    /// The column that says whose a saga is, if there is one: its owner sees it, and lists take it as a parameter. There is an index of this column
    /// and the id.
    pub owner: Option<&'static str>,
    /// The final statuses that few sagas have, for which there is an index of the status and the id.
    pub rare_statuses: &'static [&'static str],
    /// What sagas are found by beside their owner, status and time. What has few sagas for a value comes first.
    pub searches: &'static [Search],
    /// The saga's own columns that are written when it begins.
    pub placed: &'static [Column],
    /// Those that are written at every step.
    pub moved: &'static [Column],
}

/// A column of a saga's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: &'static str,
    /// How its values are bound.
    pub bound: Bound,
    /// The SQL type that what is bound is cast to; empty where it is that type already.
    pub cast: &'static str,
}

/// How the values of a column are bound: as an array of one of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// `uuid[]`
    Uuid,
    /// `text[]`
    Text,
    /// `bigint[]`
    BigInt,
}

/// The values of a column, one for each saga.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// See [`Bound::Uuid`].
    Uuid(Vec<Uuid>),
    /// See [`Bound::Text`].
    Text(Vec<Option<String>>),
    /// See [`Bound::BigInt`].
    BigInt(Vec<Option<i64>>),
}

impl Values {
    /// Binds them as the next parameter.
    pub(crate) fn bind(self, statement: Statement) -> Statement {
        match self {
            Self::Uuid(values) => statement.bind(values),
            Self::Text(values) => statement.bind(values),
            Self::BigInt(values) => statement.bind(values),
        }
    }
}

impl Bound {
    pub(crate) const fn array(self) -> &'static str {
        match self {
            Self::Uuid => "uuid[]",
            Self::Text => "text[]",
            Self::BigInt => "bigint[]",
        }
    }
}

impl Column {
    /// As it is read from what was bound.
    pub(crate) fn bound_as(&self) -> String {
        match self.cast {
            "" => format!("new.{}", self.name),
            cast => format!("new.{}::{cast}", self.name),
        }
    }
}

impl Table {
    /// Whether a saga is this user's, of a parameter; everybody's where that is null.
    pub(crate) fn owned_by(&self, user: &str) -> String {
        match self.owner {
            Some(owner) => format!("({user}::uuid is null or {owner} = {user})"),
            // Where sagas have no owner they are nobody's.
            None => format!("{user}::uuid is null"),
        }
    }

    /// The columns a saga is read from for a decision.
    pub(crate) fn record_columns(&self) -> String {
        let runtime = "id, status, state, sequence, history_bytes, traceparent, tracestate, created_at, updated_at, waiting_since, due_at, timers, \
                       coalesce(began_at, created_at) as began_at";
        [runtime].into_iter().chain(self.own()).collect::<Vec<_>>().join(", ")
    }

    /// The columns it is shown from.
    pub(crate) fn view_columns(&self) -> String {
        ["id, status, created_at, updated_at"].into_iter().chain(self.own()).collect::<Vec<_>>().join(", ")
    }

    /// The columns that what was asked for is read from.
    pub(crate) fn request_columns(&self) -> String {
        ["id"].into_iter().chain(self.placed.iter().map(|column| column.name)).collect::<Vec<_>>().join(", ")
    }

    fn own(&self) -> impl Iterator<Item = &'static str> {
        self.placed.iter().chain(self.moved).map(|column| column.name)
    }
}
