//! Sagas as they are read: for a decision, with their states.
//!
//! One row that this build cannot read is that row's trouble alone: whoever reads several gets the others.

use std::collections::HashMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use envelope::TraceContext;
use saga::{State, Timer, Timers};
use serde::Deserialize;
use serde_json::value::RawValue;
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use sqlx::{PgConnection, PgExecutor, Row as _};
use uuid::Uuid;

use super::history::entries_of;
use super::{Store, corrupt, delta, named};
use crate::saga::{Layout, LoadedSaga, Record, Saga, View};

/// A saga whose row this build cannot read.
#[derive(Clone, Debug)]
pub(crate) struct Unreadable {
    /// The saga.
    pub id: Uuid,
    /// Where it stands.
    pub status: String,
    /// The plan version it was begun with, as far as that can be told.
    pub plan: Option<u32>,
    /// What stands in the way.
    pub why: String,
}

/// What a persisted state says of its plan, whatever else it says.
pub(crate) fn plan_of(state: &RawValue) -> Option<u32> {
    #[derive(Deserialize)]
    struct Planned {
        plan: u32,
    }
    serde_json::from_str::<Planned>(state.get()).ok().map(|planned| planned.plan)
}

/// A saga by the key it was begun with.
#[derive(Clone, Debug)]
pub(crate) struct Keyed<S: Saga> {
    /// What was asked for with it.
    pub request: S,
    /// The saga, as whoever began it sees it.
    pub view: View<S>,
}

impl<S: Saga> Store<S> {
    /// Sagas without their histories, to be decided; those that cannot be read beside those that can.
    pub async fn records(&self, db: impl PgExecutor<'_>, ids: &[Uuid]) -> sqlx::Result<Vec<Result<Record<S>, Unreadable>>> {
        let rows = sqlx::query(self.sql.records).bind(ids).fetch_all(db).await?;
        let readable = |row: &PgRow| {
            record(row).map(Ok).or_else(|error| {
                let state: Option<Json<&RawValue>> = row.try_get("state").ok();
                let plan = state.and_then(|Json(state)| plan_of(state));
                Ok(Err(Unreadable { id: row.try_get("id")?, status: row.try_get("status")?, plan, why: error.to_string() }))
            })
        };
        rows.iter().map(readable).collect()
    }

    /// Those of these sagas whose histories are not whole.
    pub async fn holed(&self, db: impl PgExecutor<'_>, ids: &[Uuid]) -> sqlx::Result<Vec<Unreadable>> {
        let rows = sqlx::query(self.sql.holed).bind(ids).fetch_all(db).await?;
        let holed = |row: &PgRow| {
            let missing: i32 = row.try_get("missing")?;
            let why = format!("entry {missing} is missing from its history");
            Ok(Unreadable { id: row.try_get("id")?, status: row.try_get("status")?, plan: None, why })
        };
        rows.iter().map(holed).collect()
    }

    /// Sagas with their whole histories.
    pub async fn loaded(&self, db: &mut PgConnection, ids: &[Uuid]) -> sqlx::Result<Vec<LoadedSaga<S>>> {
        let rows = sqlx::query(self.sql.loaded).bind(ids).fetch_all(db).await?;
        rows.iter().map(|row| Ok(LoadedSaga { record: record(row)?, history: entries_of(row)? })).collect()
    }

    /// Sagas that were begun with these keys.
    pub async fn by_keys(&self, db: impl PgExecutor<'_>, keys: &[&str]) -> sqlx::Result<HashMap<String, Keyed<S>>> {
        let rows = sqlx::query(self.sql.by_keys).bind(keys).fetch_all(db).await?;
        let keyed = |row: &PgRow| Keyed::read(row).and_then(|keyed| Ok((row.try_get("idempotency_key")?, keyed)));
        rows.iter().map(keyed).collect()
    }

    /// One saga, as whoever began it sees it. `only`: where it is this user's.
    pub async fn view(&self, db: &mut PgConnection, id: Uuid, only: Option<Uuid>) -> sqlx::Result<Option<View<S>>> {
        let row = sqlx::query(self.sql.view).bind(id).bind(only).fetch_optional(db).await?;
        row.map(|row| S::Layout::view_of_row(&row)).transpose().map_err(|error| named(S::NAME, id, error))
    }

    /// The sagas that were cancelled with these keys.
    pub async fn cancelled_with(&self, db: impl PgExecutor<'_>, keys: &[&str]) -> sqlx::Result<HashMap<String, Uuid>> {
        let rows: Vec<(String, Uuid)> = sqlx::query_as(self.sql.cancelled_with).bind(keys).fetch_all(db).await?;
        Ok(rows.into_iter().collect())
    }

    /// Sagas that are due by the steady clock, the longest due first, after one of them. Unlocked: the decision looks again. Those of plan
    /// versions that this build does not know are left alone. `deadlines`: only those that have waited for one reply for longer than the first, or
    /// in all for longer than the second.
    pub async fn due(
        &self,
        db: &mut PgConnection,
        now: DateTime<Utc>,
        known_plans: &[String],
        deadlines: Option<(Duration, Duration)>,
        after: Option<(DateTime<Utc>, Uuid)>,
        limit: i64,
    ) -> sqlx::Result<Vec<(DateTime<Utc>, Uuid)>> {
        let due = sqlx::query_as(self.sql.due).bind(known_plans);
        let due = due.bind(after.map(|(due, _)| due)).bind(after.map(|(_, id)| id));
        let due = due.bind(limit).bind(now);
        let due = due.bind(deadlines.map(|(step, _)| now - delta(step))).bind(deadlines.map(|(_, saga)| now - delta(saga)));
        due.fetch_all(db).await
    }

    /// Where a saga stands: the sequence of its last entry, and its status. `only`: where it is this user's.
    pub async fn position(&self, db: &mut PgConnection, id: Uuid, only: Option<Uuid>) -> sqlx::Result<Option<(u32, String)>> {
        let row: Option<(i32, String)> = sqlx::query_as(self.sql.position).bind(id).bind(only).fetch_optional(db).await?;
        Ok(row.map(|(sequence, status)| (sequence.unsigned_abs(), status)))
    }

    /// The sequence of each saga's last entry.
    pub async fn sequences(&self, db: &mut PgConnection, ids: &[Uuid]) -> sqlx::Result<Vec<(Uuid, u32)>> {
        let rows: Vec<(Uuid, i32)> = sqlx::query_as(self.sql.sequences).bind(ids).fetch_all(db).await?;
        Ok(rows.into_iter().map(|(id, sequence)| (id, sequence.unsigned_abs())).collect())
    }
}

impl<S: Saga> Keyed<S> {
    fn read(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self { request: S::Layout::request(row)?, view: S::Layout::view_of_row(row)? })
    }
}

/// A row, for a decision.
fn record<S: Saga>(row: &PgRow) -> sqlx::Result<Record<S>> {
    let Json(state): Json<State<S>> = row.try_get("state")?;
    let (trace, trace_state): (&str, Option<&str>) = (row.try_get("traceparent")?, row.try_get("tracestate")?);
    Ok(Record {
        request: S::Layout::request(row)?,
        projection: S::Layout::projection(row)?,
        sequence: row.try_get::<i32, _>("sequence")?.unsigned_abs(),
        history_bytes: row.try_get::<i64, _>("history_bytes")?.unsigned_abs(),
        trace: TraceContext::parse(trace, trace_state).ok_or_else(|| corrupt(format!("no traceparent: {trace}")))?,
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
        began_at: row.try_get("began_at")?,
        timers: timers(row, &state)?,
        state,
    })
}

/// A timer of its own for each outstanding command. One alone, and those that a build before wrote, are what the two columns say.
fn timers<S: Saga>(row: &PgRow, state: &State<S>) -> sqlx::Result<Timers<S>> {
    let (since, due): (Option<DateTime<Utc>>, Option<DateTime<Utc>>) = (row.try_get("waiting_since")?, row.try_get("due_at")?);
    if let Some(Json(timers)) = row.try_get::<Option<Json<Timers<S>>>, _>("timers")?
        && timers.waiting_since() == since
        && timers.due_at() == due
    {
        return Ok(timers);
    }
    Ok(match (since, due) {
        (Some(since), Some(due)) => Timers::same(state, Timer { since, due }),
        _ => Timers::none(),
    })
}
