//! The statements behind the saga routes: sagas in flight, sagas by age, and the plans they were begun under.

use std::time::Duration;

use crate::saga::{Order, Step};
use chrono::{DateTime, TimeDelta, Utc};
use events::order::Status;
use events::{OrderId, UserId};
use saga::step_name;
use serde_json::value::RawValue;
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use sqlx::{FromRow, PgConnection, Row as _};
use uuid::Uuid;

use crate::plans::{self, InFlightOf};

/// A saga with what an operator wants to know of it, also one that this build cannot read.
pub struct InFlight {
    pub id: OrderId,
    pub user_id: UserId,
    pub status: Status,
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

impl FromRow<'_, PgRow> for InFlight {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        let Json(state): Json<Box<RawValue>> = row.try_get("state")?;
        Ok(Self {
            id: OrderId(row.try_get("id")?),
            user_id: UserId(row.try_get("user_id")?),
            status: row.try_get::<&str, _>("status")?.parse().map_err(super::corrupt)?,
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
    // What waits for a step, or for too long, is in flight, whatever its status.
    let in_flight_only = filter.order.is_none()
        && (filter.status.is_none_or(|status| !status.is_final()) || filter.step.is_some() || filter.stuck_only);
    // Those placed later are not walked through one by one: ids begin with their time.
    let placed_before = filter.older_than.map(|age| ids_at(Utc::now() - delta(age) + CLOCKS_DIFFER));
    let upto = after.into_iter().chain(placed_before).min();
    // Readings of the steady clock as times of day: what has passed since is the same by both.
    sqlx::query_as(
        "select id, user_id, status, state, settled, waiting_since + (now() - $12) as waiting_since, due_at + (now() - $12) as due_at, \
                created_at, updated_at, coalesce(waiting_since < $1, false) or (not settled and not known) as stuck, \
                (select fingerprint from plans where version::text = state->>'plan') as fingerprint, \
                case when not settled then (\
                    select said from (\
                        select sequence, substring(entry from '^\\{\"message\":\\{\"answer\":\\{\"type\":\"([^\"]+)') as said \
                        from order_history where order_id = id order by sequence desc limit 64) as lately \
                    where said is not null order by sequence desc limit 1) end as last_answer \
         from orders cross join lateral (select coalesce(state->>'plan' = any($11) and state->'phase' is not null \
                  and json_typeof(state->'steps') = 'object', false) as known) as plan \
         where (not $2 or not settled) and ($3::uuid is null or id = $3) and ($4::text is null or status = $4) \
           and ($5::text is null or coalesce(state->'steps'->$5->>'asked', state->'steps'->$5->>'undoing') is not null) \
           and ($6::float8 is null or created_at < now() - make_interval(secs => $6)) and ($7::uuid is null or user_id = $7) \
           and (not $8 or waiting_since < $1 or not known) and ($9::uuid is null or id < $9) \
         order by id desc limit $10",
    )
    .bind(before(steady, filter.stuck_after))
    .bind(in_flight_only)
    .bind(filter.order.map(|order| order.0))
    .bind(filter.status.map(Status::as_str))
    .bind(filter.step.map(step_name::<Order>))
    .bind(filter.older_than.map(|age| age.as_secs_f64()))
    .bind(filter.user.map(|user| user.0))
    .bind(filter.stuck_only)
    .bind(upto)
    .bind(rows)
    .bind(plans::known())
    .bind(steady)
    .fetch_all(db)
    .await
}

/// By how much the clock that made an order's id may differ from the database's, which dates it.
const CLOCKS_DIFFER: TimeDelta = TimeDelta::days(1);

/// Where the ids made at a moment begin (RFC 9562, section 5.7).
fn ids_at(moment: DateTime<Utc>) -> Uuid {
    Uuid::from_u128(u128::from(moment.timestamp_millis().max(0).unsigned_abs()) << 80)
}

/// So long before a reading of the steady clock.
fn before(steady: DateTime<Utc>, span: Duration) -> DateTime<Utc> {
    steady - delta(span)
}

/// A span of more than a hundred years is as good as for ever.
pub fn delta(age: Duration) -> TimeDelta {
    TimeDelta::from_std(age).unwrap_or(TimeDelta::MAX).min(TimeDelta::days(36_500))
}

/// An order to be exported.
pub struct Exported {
    pub id: OrderId,
    /// What was asked for, or why that cannot be read.
    pub order: Result<Order, String>,
    /// How many entries its history has.
    pub entries: u32,
}

impl FromRow<'_, PgRow> for Exported {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        let (id, order) = (OrderId(row.try_get("id")?), super::rows::order(row).map_err(|error| error.to_string()));
        Ok(Self { id, order, entries: row.try_get::<i32, _>("sequence")?.unsigned_abs() })
    }
}

/// One order to be exported.
pub async fn exported(db: &mut PgConnection, id: OrderId) -> sqlx::Result<Option<Exported>> {
    sqlx::query_as("select id, user_id, items, sequence from orders where id = $1").bind(id.0).fetch_optional(db).await
}

/// Orders placed since a moment, oldest first.
pub async fn oldest_first(
    db: &mut PgConnection,
    since: Option<DateTime<Utc>>,
    status: Option<Status>,
    after: Option<Uuid>,
    rows: i64,
) -> sqlx::Result<Vec<Exported>> {
    // Those placed before are not walked through one by one.
    let placed_after = since.map(|since| ids_at(since - CLOCKS_DIFFER));
    sqlx::query_as(
        "select id, user_id, items, sequence from orders \
         where ($1::timestamptz is null or created_at >= $1) and ($2::text is null or status = $2) and ($3::uuid is null or id > $3) \
           and (not $4 or not settled) \
         order by id limit $5",
    )
    .bind(since)
    .bind(status.map(Status::as_str))
    .bind(after.into_iter().chain(placed_after).max())
    .bind(status.is_some_and(|status| !status.is_final()))
    .bind(rows)
    .fetch_all(db)
    .await
}

/// How many sagas are in flight on each plan version, and how many of them have waited for too long. `steady`: what the steady
/// clock says now.
pub async fn count(db: &mut PgConnection, steady: DateTime<Utc>, stuck_after: Duration) -> sqlx::Result<Vec<InFlightOf>> {
    let rows: Vec<(Option<String>, i64, i64)> = sqlx::query_as(
        "select case when json_typeof(state->'plan') = 'number' and state->'phase' is not null and json_typeof(state->'steps') = 'object' \
                     then left(state->>'plan', 20) end, count(*), count(*) filter (where waiting_since < $1) \
         from orders where not settled group by 1",
    )
    .bind(before(steady, stuck_after))
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(|(plan, in_flight, stuck)| InFlightOf { plan, in_flight, stuck }).collect())
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
