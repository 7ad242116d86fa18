//! The statements behind the operators' routes: sagas by age, and the plans they were begun under.

use std::time::Duration;

use chrono::{DateTime, Utc};
use saga::Direction;
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row as _};
use uuid::Uuid;

use super::{Store, delta};
use crate::cause::commands;
use crate::filter::CLOCKS_DIFFER;
use crate::saga::{Layout as _, Saga, StatusWord};

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

/// Sagas in flight on one plan version that wait for the same.
#[derive(Clone, Debug)]
pub(crate) struct Waiting<S: Saga> {
    /// The version as the states name it; `None`: they are not readable as states.
    pub plan: Option<String>,
    /// The command that they wait for, if it is one this build knows; the first where they are several.
    pub command: Option<(S::Step, Direction)>,
    /// Whether they have waited for too long.
    pub late: bool,
    /// Whether they could not be decided, and are set aside.
    pub aside: bool,
    pub sagas: i64,
    /// Since when the first of them waits, as a time of day.
    pub since: Option<DateTime<Utc>>,
    /// Some of them.
    pub newest: Vec<Uuid>,
}

impl<S: Saga> Store<S> {
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

    /// How many sagas are in flight, by what they wait for. `steady`: what the steady clock says now; `aside`: those that could not be decided.
    pub async fn count(
        &self,
        db: &mut PgConnection,
        steady: DateTime<Utc>,
        stuck_after: Duration,
        aside: &[Uuid],
    ) -> sqlx::Result<Vec<Waiting<S>>> {
        let asked = sqlx::query(self.sql.count).bind(before(steady, stuck_after)).bind(steady).bind(aside);
        let counted = asked.fetch_all(db).await?;
        let commands = commands::<S>();
        let read = |row: &PgRow| {
            let place: Option<i32> = row.try_get("waits")?;
            let command = place.and_then(|place| commands.get(usize::try_from(place).ok()?).copied());
            Ok(Waiting {
                plan: row.try_get("plan")?,
                command,
                late: row.try_get("late")?,
                aside: row.try_get("aside")?,
                sagas: row.try_get("sagas")?,
                since: row.try_get("since")?,
                newest: row.try_get("newest")?,
            })
        };
        counted.iter().map(read).collect()
    }
}

/// Where the ids made at a moment begin (RFC 9562, section 5.7).
pub(super) fn ids_at(moment: DateTime<Utc>) -> Uuid {
    Uuid::from_u128(u128::from(moment.timestamp_millis().max(0).unsigned_abs()) << 80)
}

/// So long before a reading of the steady clock.
pub(super) fn before(steady: DateTime<Utc>, span: Duration) -> DateTime<Utc> {
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
