//! The layout of a saga that needs nothing particular.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sqlx::Row as _;
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use uuid::Uuid;

use crate::saga::{History, Layout, Record, Saga};
use crate::table::{Bound, Column, Table, Values};

/// What makes the tables of a saga whose layout is [`Plain`]: the text of a migration of its service, beside the outbox.
///
/// ```sql
#[doc = include_str!("sagas.sql")]
/// ```
pub const SAGAS_SQL: &str = include_str!("sagas.sql");

/// What the statement that writes a batch fails by where it came too late: the text of another migration of such a service.
///
/// ```sql
#[doc = include_str!("races.sql")]
/// ```
pub const RACES_SQL: &str = include_str!("races.sql");

/// Where the `tracestate` of a saga's request is kept: the text of another migration of such a service.
///
/// ```sql
#[doc = include_str!("tracestate.sql")]
/// ```
pub const TRACESTATE_SQL: &str = include_str!("tracestate.sql");

/// Where is kept what operators do outside of a saga: the text of another migration of such a service.
///
/// ```sql
#[doc = include_str!("actions.sql")]
/// ```
pub const ACTIONS_SQL: &str = include_str!("actions.sql");

/// What was asked for is kept as JSON, and shown as it is.
#[derive(Debug)]
pub enum Plain {}

/// A saga as whoever began it sees it.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(bound = "")]
#[schemars(bound = "")]
pub struct PlainView<S: Saga> {
    /// Its id.
    pub id: Uuid,
    /// Where it stands.
    pub status: String,
    /// What was asked for.
    #[schemars(with = "Map<String, Value>")]
    pub request: S,
    /// When it began.
    pub created_at: DateTime<Utc>,
    /// When it last moved.
    pub updated_at: DateTime<Utc>,
}

/// What everyone is told of a saga: what was asked for, where it stands and, at its end, how it came there. It is enough to replay from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlainEvent<S> {
    /// What was asked for.
    #[serde(flatten)]
    pub request: S,
    /// Where it stands.
    pub status: String,
    /// The entries of its history, at its end; not where that is more than the broker takes in one message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history: Option<Vec<Value>>,
}

impl<S: Saga> PlainEvent<S> {
    /// Of a milestone of this saga.
    ///
    /// # Errors
    /// Where an entry is no JSON.
    pub fn new(record: &Record<S>, history: History<'_>) -> serde_json::Result<Self> {
        let history = match history {
            History::Whole(entries) => {
                Some(entries.iter().map(|entry| serde_json::from_str(entry.get())).collect::<Result<_, _>>()?)
            }
            History::None | History::Claimed(_) => None,
        };
        Ok(Self { request: record.request.clone(), status: record.status().to_owned(), history })
    }
}

impl<S: Saga> Layout<S> for Plain {
    type Projection = ();
    type View = PlainView<S>;

    const TABLE: Table = Table {
        name: "sagas",
        history: "saga_history",
        history_id: "saga_id",
        cancellations: "cancellations",
        owner: None,
        rare_statuses: &[],
        searches: &[],
        placed: &[Column { name: "request", bound: Bound::Text, cast: "json" }],
        moved: &[],
    };

    fn view(record: &Record<S>) -> PlainView<S> {
        PlainView {
            id: record.id(),
            status: record.status().to_owned(),
            request: record.request.clone(),
            created_at: record.created_at,
            updated_at: record.updated_at,
        }
    }

    fn view_of_row(row: &PgRow) -> sqlx::Result<PlainView<S>> {
        Ok(PlainView {
            id: row.try_get("id")?,
            status: row.try_get("status")?,
            request: Self::request(row)?,
            created_at: row.try_get("created_at")?,
            updated_at: row.try_get("updated_at")?,
        })
    }

    fn id_of(view: &PlainView<S>) -> Uuid {
        view.id
    }

    fn is_final(view: &PlainView<S>) -> bool {
        S::STATUSES.iter().any(|word| word.name == view.status && word.is_final)
    }

    fn is_same(first: &S, second: &S) -> bool {
        let without_id = |request: &S| {
            let mut value = serde_json::to_value(request).ok()?;
            value.as_object_mut()?.remove("id");
            Some(value)
        };
        without_id(first).is_some_and(|first| without_id(second) == Some(first))
    }

    fn request(row: &PgRow) -> sqlx::Result<S> {
        row.try_get("request").map(|Json(request)| request)
    }

    fn placed(records: &[&Record<S>]) -> anyhow::Result<Vec<Values>> {
        let requests = records.iter().map(|record| serde_json::to_string(&record.request).map(Some));
        Ok(vec![Values::Text(requests.collect::<Result<_, _>>()?)])
    }
}
