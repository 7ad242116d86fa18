//! The statements behind the saga routes: sagas in flight, sagas by age, and the plans they were begun under.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use events::order::Status;
use events::{OrderId, UserId};
use saga::order::Step;
use sqlx::{FromRow, PgConnection, Row as _};
use uuid::Uuid;

use crate::view::Row;

/// A saga with what an operator wants to know of it.
pub struct InFlight {
    pub row: Row,
    pub fingerprint: Option<String>,
    pub stuck: bool,
    /// Since when the command under way is unanswered, as a time of day.
    pub waiting_since: Option<DateTime<Utc>>,
    /// When to ask again, or to give up, as a time of day.
    pub due_at: Option<DateTime<Utc>>,
    /// The type of the last answer in its history.
    pub last_answer: Option<String>,
}

/// Which sagas to list. Without a status and an order: those in flight.
#[derive(Clone, Copy, Debug, Default)]
pub struct SagaFilter {
    pub order: Option<OrderId>,
    pub status: Option<Status>,
    pub step: Option<Step>,
    pub older_than: Option<Duration>,
    pub user: Option<UserId>,
    pub stuck_only: bool,
    /// How long a saga may wait before it is stuck.
    pub stuck_after: Duration,
}

/// Sagas, newest first. `steady`: what the steady clock says now.
pub async fn sagas(
    db: &mut PgConnection,
    steady: DateTime<Utc>,
    filter: &SagaFilter,
    after: Option<Uuid>,
    rows: i64,
) -> sqlx::Result<Vec<InFlight>> {
    let in_flight_only = filter.order.is_none() && filter.status.is_none_or(|status| !status.is_final());
    let rows = sqlx::query(
        concat!("select ", columns!(), ", \
                coalesce(waiting_since < $1, false) as stuck, now() as now, \
                (select fingerprint from plans where version = (state->>'plan')::int) as fingerprint, \
                (select entry::json->'message'->'answer'->>'type' from order_history \
                 where order_id = id and entry::json->'message'->'answer' is not null order by order_history.sequence desc limit 1) as last_answer \
         from orders \
         where (not $2 or not settled) and ($3::uuid is null or id = $3) and ($4::text is null or status = $4) \
           and ($5::text is null or (state::jsonb)->'steps'->$5 ?| array['asked', 'undoing']) \
           and ($6::float8 is null or created_at < now() - make_interval(secs => $6)) and ($7::uuid is null or user_id = $7) \
           and (not $8 or waiting_since < $1) and ($9::uuid is null or id < $9) \
         order by id desc limit $10"),
    )
    .bind(before(steady, filter.stuck_after))
    .bind(in_flight_only)
    .bind(filter.order.map(|order| order.0))
    .bind(filter.status.map(Status::as_str))
    .bind(filter.step.map(Step::name))
    .bind(filter.older_than.map(|age| age.as_secs_f64()))
    .bind(filter.user.map(|user| user.0))
    .bind(filter.stuck_only)
    .bind(after)
    .bind(rows)
    .fetch_all(db)
    .await?;
    rows.iter()
        .map(|row| {
            // Readings of the steady clock as times of day: what has passed since is the same by both.
            let ahead = row.try_get::<DateTime<Utc>, _>("now")? - steady;
            let of_day = |reading: Option<DateTime<Utc>>| reading.and_then(|reading| reading.checked_add_signed(ahead));
            Ok(InFlight {
                waiting_since: of_day(row.try_get("waiting_since")?),
                due_at: of_day(row.try_get("due_at")?),
                fingerprint: row.try_get("fingerprint")?,
                stuck: row.try_get("stuck")?,
                last_answer: row.try_get("last_answer")?,
                row: Row::from_row(row)?,
            })
        })
        .collect()
}

/// Orders placed since a moment, oldest first.
pub async fn oldest_first(
    db: &mut PgConnection,
    since: Option<DateTime<Utc>>,
    status: Option<Status>,
    after: Option<Uuid>,
    rows: i64,
) -> sqlx::Result<Vec<Row>> {
    sqlx::query_as(
        concat!("select ", columns!(), " from orders \
         where ($1::timestamptz is null or created_at >= $1) and ($2::text is null or status = $2) and ($3::uuid is null or id > $3) \
         order by id limit $4"),
    )
    .bind(since)
    .bind(status.map(Status::as_str))
    .bind(after)
    .bind(rows)
    .fetch_all(db)
    .await
}

/// How many sagas are in flight, and how many of them are stuck. `steady`: what the steady clock says now.
pub async fn count(db: &mut PgConnection, steady: DateTime<Utc>, stuck_after: Duration) -> sqlx::Result<(i64, i64)> {
    sqlx::query_as("select count(*), count(*) filter (where waiting_since < $1) from orders where not settled")
        .bind(before(steady, stuck_after))
        .fetch_one(db)
        .await
}

/// So long before. A span of more than a hundred years is as good as for ever.
fn before(steady: DateTime<Utc>, span: Duration) -> DateTime<Utc> {
    steady - TimeDelta::from_std(span).unwrap_or(TimeDelta::MAX).min(TimeDelta::days(36_500))
}

/// Records what a plan version means, unless it is recorded; returns what is.
pub async fn record_plan(db: &mut PgConnection, version: u32, fingerprint: &str) -> sqlx::Result<String> {
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
