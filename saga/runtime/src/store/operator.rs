//! The statements behind the operators' routes: sagas in flight, sagas by age, and the plans they were begun under.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use saga::step_name;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use sqlx::{PgConnection, Row as _};
use uuid::Uuid;

use super::{Store, delta};
use crate::saga::{Layout as _, Saga, StatusWord};
use crate::steps::known_plans;

/// A saga with what an operator wants to know of it, also one that this build cannot read.
pub(crate) struct InFlight {
    pub id: Uuid,
    /// What tells it from others beside its id.
    pub summary: Map<String, Value>,
    pub status: String,
    /// As it is persisted.
    pub state: Box<RawValue>,
    pub settled: bool,
    /// Since when the command under way is unanswered, as a time of day.
    pub waiting_since: Option<DateTime<Utc>>,
    /// When to ask again, or to give up, as a time of day.
    pub due_at: Option<DateTime<Utc>>,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
    pub fingerprint: Option<String>,
    pub stuck: bool,
    /// The type of the last answer in its history, if it is among the last entries.
    pub last_answer: Option<String>,
}

impl InFlight {
    fn read<S: Saga>(row: &PgRow) -> sqlx::Result<Self> {
        let Json(state): Json<Box<RawValue>> = row.try_get("state")?;
        Ok(Self {
            id: row.try_get("id")?,
            summary: S::Layout::summary(row)?,
            status: row.try_get("status")?,
            state,
            settled: row.try_get("settled")?,
            waiting_since: row.try_get("waiting_since")?,
            due_at: row.try_get("due_at")?,
            created_at: row.try_get("created_at")?,
            updated_at: row.try_get("updated_at")?,
            fingerprint: row.try_get("fingerprint")?,
            stuck: row.try_get("stuck")?,
            last_answer: row.try_get("last_answer")?,
        })
    }
}

/// Which sagas to list. Without a status and an id: those in flight.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SagaFilter<S: Saga> {
    pub id: Option<Uuid>,
    pub status: Option<StatusWord>,
    pub step: Option<S::Step>,
    pub older_than: Option<Duration>,
    pub owner: Option<Uuid>,
    pub stuck_only: bool,
    /// How long a saga may wait before it is stuck.
    pub stuck_after: Duration,
}

impl<S: Saga> SagaFilter<S> {
    /// All in flight.
    pub fn new(stuck_after: Duration) -> Self {
        Self { id: None, status: None, step: None, older_than: None, owner: None, stuck_only: false, stuck_after }
    }
}

/// A saga to be exported.
pub(crate) struct Exported<S> {
    pub id: Uuid,
    /// What was asked for, or why that cannot be read.
    pub request: Result<S, String>,
    /// How many entries its history has.
    pub entries: u32,
}

impl<S: Saga> Exported<S> {
    fn read(row: &PgRow) -> sqlx::Result<Self> {
        let (id, request) = (row.try_get("id")?, S::Layout::request(row).map_err(|error| error.to_string()));
        Ok(Self { id, request, entries: row.try_get::<i32, _>("sequence")?.unsigned_abs() })
    }
}

/// Sagas in flight on one plan version.
pub(crate) struct InFlightOf {
    /// The version as the states name it; `None`: they are not readable as states.
    pub plan: Option<String>,
    pub in_flight: i64,
    /// Those of them that have waited for too long.
    pub stuck: i64,
}

impl<S: Saga> Store<S> {
    /// Sagas, newest first. `steady`: what the steady clock says now.
    pub async fn sagas(
        &self,
        db: &mut PgConnection,
        steady: DateTime<Utc>,
        filter: &SagaFilter<S>,
        after: Option<Uuid>,
        rows: i64,
    ) -> sqlx::Result<Vec<InFlight>> {
        // What waits for a step, or for too long, is in flight, whatever its status.
        let in_flight_only = filter.id.is_none()
            && (filter.status.is_none_or(|status| !status.is_final) || filter.step.is_some() || filter.stuck_only);
        // Those placed later are not walked through one by one: ids begin with their time.
        let placed_before = filter.older_than.map(|age| ids_at(Utc::now() - delta(age) + CLOCKS_DIFFER));
        let upto = after.into_iter().chain(placed_before).min();
        let found = sqlx::query(self.sql.sagas)
            .bind(before(steady, filter.stuck_after))
            .bind(in_flight_only)
            .bind(filter.id)
            .bind(filter.status.map(|status| status.name))
            .bind(filter.step.map(step_name::<S>))
            .bind(filter.older_than.map(|age| age.as_secs_f64()))
            .bind(filter.owner)
            .bind(filter.stuck_only)
            .bind(upto)
            .bind(rows)
            .bind(known_plans::<S>())
            .bind(steady)
            .fetch_all(db)
            .await?;
        found.iter().map(InFlight::read::<S>).collect()
    }

    /// One saga to be exported.
    pub async fn exported(&self, db: &mut PgConnection, id: Uuid) -> sqlx::Result<Option<Exported<S>>> {
        let row = sqlx::query(self.sql.exported).bind(id).fetch_optional(db).await?;
        row.as_ref().map(Exported::read).transpose()
    }

    /// Sagas begun since a moment, oldest first.
    pub async fn oldest_first(
        &self,
        db: &mut PgConnection,
        since: Option<DateTime<Utc>>,
        status: Option<StatusWord>,
        after: Option<Uuid>,
        rows: i64,
    ) -> sqlx::Result<Vec<Exported<S>>> {
        // Those begun before are not walked through one by one.
        let begun_after = since.map(|since| ids_at(since - CLOCKS_DIFFER));
        let found = sqlx::query(self.sql.oldest_first)
            .bind(since)
            .bind(status.map(|status| status.name))
            .bind(after.into_iter().chain(begun_after).max())
            .bind(status.is_some_and(|status| !status.is_final))
            .bind(rows)
            .fetch_all(db)
            .await?;
        found.iter().map(Exported::read).collect()
    }

    /// How many sagas are in flight on each plan version, and how many of them have waited for too long. `steady`: what the steady
    /// clock says now.
    pub async fn count(
        &self,
        db: &mut PgConnection,
        steady: DateTime<Utc>,
        stuck_after: Duration,
    ) -> sqlx::Result<Vec<InFlightOf>> {
        let counted = sqlx::query_as(self.sql.count).bind(before(steady, stuck_after));
        let rows: Vec<(Option<String>, i64, i64)> = counted.fetch_all(db).await?;
        Ok(rows.into_iter().map(|(plan, in_flight, stuck)| InFlightOf { plan, in_flight, stuck }).collect())
    }
}

/// By how much the clock that made a saga's id may differ from the database's, which dates it.
const CLOCKS_DIFFER: TimeDelta = TimeDelta::days(1);

/// Where the ids made at a moment begin (RFC 9562, section 5.7).
fn ids_at(moment: DateTime<Utc>) -> Uuid {
    Uuid::from_u128(u128::from(moment.timestamp_millis().max(0).unsigned_abs()) << 80)
}

/// So long before a reading of the steady clock.
fn before(steady: DateTime<Utc>, span: Duration) -> DateTime<Utc> {
    steady - delta(span)
}

/// Records what a plan version means, unless it is recorded; returns what is.
pub(crate) async fn record_plan(db: &mut PgConnection, version: u32, fingerprint: &str) -> sqlx::Result<String> {
    // The update changes nothing; without it a row that is there already would not be returned.
    sqlx::query_scalar(
        "insert into plans (version, fingerprint) values ($1, $2) \
         on conflict (version) do update set version = excluded.version returning fingerprint",
    )
    .bind(version as i32)
    .bind(fingerprint)
    .fetch_one(db)
    .await
}
