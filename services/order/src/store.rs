//! Every statement of the order service.

/// The columns a [`Row`] is read from.
macro_rules! columns {
    () => {
        "id, user_id, items, unit_prices, currency, status, state, sequence, history_bytes, traceparent, created_at, updated_at, \
         coalesce(began_at, created_at) as began_at, waiting_since, due_at"
    };
}

/// The columns a [`View`] is read from.
macro_rules! view_columns {
    () => {
        "id, user_id, items, unit_prices, currency, status, reason, created_at, updated_at"
    };
}

/// Appends what [`with_entries`] binds.
macro_rules! append {
    () => {
        "insert into order_history (order_id, sequence, at, entry) \
         select order_id, sequence, $9, entry from unnest($6::uuid[], $7::int[], $8::text[]) as new (order_id, sequence, entry)"
    };
}

pub mod cancellations;
pub mod complete;
mod history;
mod operator;
mod rows;

use std::collections::{HashMap, HashSet};

use crate::saga::Order;
use chassis::listed::{Listed, named};
use chassis::{Outgoing, Statement};
use chrono::{DateTime, TimeDelta, Utc};
use events::order::Status;
use events::{Money, OrderId, UserId};
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use sqlx::{FromRow, PgConnection, PgExecutor, Row as _};
use uuid::Uuid;

use crate::recent::Kept;
use crate::view::{Row, View};

pub use history::{HistoryPage, HistoryRow, Served, history, history_page, history_served};
use history::{entries_of, with_entries};
pub use operator::{Exported, InFlight, SagaFilter, count, delta, exported, oldest_first, record_plan, sagas};
use rows::readable;
pub use rows::{Unreadable, plan_of};

fn corrupt(what: String) -> sqlx::Error {
    sqlx::Error::Decode(what.into())
}

/// Inserts orders with the first entries of their waybills, and what is said of them. Whoever used one of their keys first wins.
pub fn insert(
    outgoing: Outgoing,
    now: DateTime<Utc>,
    new: &[(&Row, Option<&str>)],
    entries: &[HistoryRow],
) -> anyhow::Result<Statement> {
    let (mut items, mut states) = (Vec::with_capacity(new.len()), Vec::with_capacity(new.len()));
    for (row, _) in new {
        items.push(serde_json::to_string(&row.order.items)?);
        states.push(serde_json::to_string(&row.state)?);
    }
    const SQL: &str = concat!(
        "with told as (",
        chassis::outbox!(),
        "), appended as (",
        append!(),
        ") insert into orders (id, user_id, items, status, state, sequence, began_at, waiting_since, due_at, traceparent, \
                               idempotency_key, created_at, updated_at) \
         select id, user_id, items::json, $12, state::json, 1, began_at, began_at, due_at, traceparent, key, $9, $9 \
         from unnest($10::uuid[], $11::uuid[], $13::text[], $14::text[], $15::timestamptz[], $16::timestamptz[], $17::text[], \
                     $18::text[]) as new (id, user_id, items, state, began_at, due_at, traceparent, key)"
    );
    let statement = outgoing.statement(SQL, &["orders_idempotency_key", "order_history_pkey"]);
    let statement = with_entries(statement, now, entries)
        .bind(new.iter().map(|(row, _)| row.order.id.0).collect::<Vec<_>>())
        .bind(new.iter().map(|(row, _)| row.order.user_id.0).collect::<Vec<_>>())
        .bind(Status::Pending.as_str())
        .bind(items)
        .bind(states)
        .bind(new.iter().map(|(row, _)| row.began_at).collect::<Vec<_>>())
        .bind(new.iter().map(|(row, _)| row.due_at).collect::<Vec<_>>())
        .bind(new.iter().map(|(row, _)| row.trace.as_str()).collect::<Vec<_>>())
        .bind(new.iter().map(|(_, key)| *key).collect::<Vec<_>>());
    Ok(statement)
}

/// Orders, as they were asked for and as they stand, by the keys they were placed with.
pub async fn by_keys(db: impl PgExecutor<'_>, keys: &[&str]) -> sqlx::Result<HashMap<String, (Order, View)>> {
    let rows = sqlx::query(concat!("select ", view_columns!(), ", idempotency_key from orders where idempotency_key = any($1)"))
        .bind(keys)
        .fetch_all(db)
        .await?;
    rows.iter().map(|row| Ok((row.try_get("idempotency_key")?, (rows::order(row)?, View::from_row(row)?)))).collect()
}

/// Orders without their histories, to be decided; those that cannot be read beside those that can.
pub async fn rows(db: impl PgExecutor<'_>, ids: &[Uuid]) -> sqlx::Result<Vec<Result<Row, Unreadable>>> {
    let rows = sqlx::query(concat!("select ", columns!(), " from orders where id = any($1)")).bind(ids).fetch_all(db).await?;
    rows.iter().map(readable).collect()
}

/// Orders with their whole waybills.
pub async fn kept(db: &mut PgConnection, ids: &[Uuid]) -> sqlx::Result<Vec<Kept>> {
    let rows = sqlx::query(concat!(
        "select ",
        columns!(),
        ", array(select at from order_history where order_id = orders.id order by sequence) as times, \
           array(select entry from order_history where order_id = orders.id order by sequence) as entries \
         from orders where id = any($1)"
    ))
    .bind(ids)
    .fetch_all(db)
    .await?;
    let kept = |row: &PgRow| Ok(Kept { row: Row::from_row(row)?, history: entries_of(row)? });
    rows.iter().map(kept).collect()
}

/// Writes orders after their decisions, with what was appended to their waybills, and what is said of them.
///
/// Each comes with the sequence it was decided at. The rows need no locks: where one of them stands elsewhere by now, somebody was first, and
/// nothing of all this is written. `cancelled`: the keys of cancellations among them.
pub fn write(
    outgoing: Outgoing,
    now: DateTime<Utc>,
    moved: &[(&Row, u32)],
    entries: &[HistoryRow],
    cancelled: &[(&str, OrderId)],
) -> anyhow::Result<Statement> {
    let (mut states, mut prices, mut currencies) = (Vec::new(), Vec::new(), Vec::new());
    let (mut totals, mut reasons) = (Vec::new(), Vec::new());
    for (row, _) in moved {
        let total = row.total();
        states.push(serde_json::to_string(&row.state)?);
        prices.push(row.prices.as_deref().map(array));
        currencies.push(total.map(|total| total.currency.code()));
        totals.push(total.map(|total| total.amount));
        reasons.push(Order::reason(&row.state).map(Json));
    }
    // Few batches have a key to keep; the others are not to pay for it.
    macro_rules! sql {
        ($keys:literal) => {
            concat!(
        "with told as (",
        chassis::outbox!(),
        "), appended as (",
        append!(),
        ")",
        $keys,
        ", moved as (\
             update orders set state = new.state::json, sequence = new.sequence, status = new.status, reason = new.reason, \
                    settled = new.settled, currency = new.currency, total = new.total, unit_prices = new.prices::bigint[], \
                    waiting_since = new.waiting_since, due_at = new.due_at, updated_at = new.updated_at, \
                    history_bytes = new.history_bytes \
             from unnest($10::uuid[], $11::int[], $12::int[], $13::text[], $14::text[], $15::jsonb[], $16::boolean[], $17::text[], \
                         $18::bigint[], $19::text[], $20::timestamptz[], $21::timestamptz[], $22::timestamptz[], $23::bigint[]) \
                  as new (id, was, sequence, state, status, reason, settled, currency, total, prices, waiting_since, due_at, updated_at, \
                          history_bytes) \
             where orders.id = new.id and orders.sequence = new.was returning 1) \
         select 1 / (count(*) = cardinality($10))::int from moved" // A division by zero undoes the statement.
            )
        };
    }
    let sql = match cancelled {
        [] => sql!(""),
        _ => sql!(
            ", keyed as (insert into cancellations (idempotency_key, order_id) select * from unnest($24::text[], $25::uuid[]))"
        ),
    };
    let statement = outgoing.statement(sql, &["order_history_pkey", "cancellations_pkey"]);
    let statement = with_entries(statement, now, entries)
        .bind(moved.iter().map(|(row, _)| row.order.id.0).collect::<Vec<_>>())
        .bind(moved.iter().map(|(_, was)| *was as i32).collect::<Vec<_>>())
        .bind(moved.iter().map(|(row, _)| row.sequence as i32).collect::<Vec<_>>())
        .bind(states)
        .bind(moved.iter().map(|(row, _)| row.status().as_str()).collect::<Vec<_>>())
        .bind(reasons)
        .bind(moved.iter().map(|(row, _)| row.state.is_settled()).collect::<Vec<_>>())
        .bind(currencies)
        .bind(totals)
        .bind(prices)
        .bind(moved.iter().map(|(row, _)| row.waiting_since).collect::<Vec<_>>())
        .bind(moved.iter().map(|(row, _)| row.due_at).collect::<Vec<_>>())
        .bind(moved.iter().map(|(row, _)| row.updated_at).collect::<Vec<_>>())
        .bind(moved.iter().map(|(row, _)| row.history_bytes as i64).collect::<Vec<_>>());
    Ok(match cancelled {
        [] => statement,
        _ => statement
            .bind(cancelled.iter().map(|(key, _)| *key).collect::<Vec<_>>())
            .bind(cancelled.iter().map(|(_, order)| order.0).collect::<Vec<_>>()),
    })
}

/// Which of these orders somebody else holds, without waiting for them.
pub async fn held(db: &mut PgConnection, ids: &[Uuid]) -> sqlx::Result<HashSet<Uuid>> {
    let held: Vec<Uuid> = sqlx::query_scalar(
        "with free as (select id from orders where id = any($1) order by id for update skip locked) \
         select id from orders where id = any($1) and id not in (select id from free)",
    )
    .bind(ids)
    .fetch_all(db)
    .await?;
    Ok(held.into_iter().collect())
}

/// An array of prices as Postgres writes one: `unnest` would flatten arrays within an array.
fn array(prices: &[Money]) -> String {
    let amounts: Vec<String> = prices.iter().map(|price| price.amount.to_string()).collect();
    format!("{{{}}}", amounts.join(","))
}

/// Orders that are due by the steady clock, the longest due first, after one of them. Unlocked: the decision looks again. Those of plan
/// versions that this build does not know are left alone. `deadlines`: only those that have waited for one reply for longer than the first, or
/// in all for longer than the second.
pub async fn due(
    db: &mut PgConnection,
    now: DateTime<Utc>,
    known_plans: &[String],
    deadlines: Option<(TimeDelta, TimeDelta)>,
    after: Option<(DateTime<Utc>, OrderId)>,
    limit: i64,
) -> sqlx::Result<Vec<(DateTime<Utc>, OrderId)>> {
    let rows: Vec<(DateTime<Utc>, Uuid)> = sqlx::query_as(
        "select due_at, id from orders \
         where not settled and due_at <= $5 and ($2::timestamptz is null or (due_at, id) > ($2, $3)) and state->>'plan' = any($1) \
           and ($6::timestamptz is null or waiting_since <= $6 or coalesce(began_at, created_at) <= $7) \
         order by due_at, id limit $4",
    )
    .bind(known_plans)
    .bind(after.map(|(due, _)| due))
    .bind(after.map(|(_, id)| id.0))
    .bind(limit)
    .bind(now)
    .bind(deadlines.map(|(step, _)| now - step))
    .bind(deadlines.map(|(_, order)| now - order))
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(|(due, id)| (due, OrderId(id))).collect())
}

/// One order.
pub async fn get(db: &mut PgConnection, id: OrderId) -> sqlx::Result<Option<View>> {
    let found =
        sqlx::query_as(concat!("select ", view_columns!(), " from orders where id = $1")).bind(id.0).fetch_optional(db).await;
    found.map_err(|error| named("order", id, error))
}

/// Where an order stands: the sequence of its last entry, and its status.
pub async fn standing(db: &mut PgConnection, id: OrderId) -> sqlx::Result<Option<(u32, Status)>> {
    let row: Option<(i32, String)> =
        sqlx::query_as("select sequence, status from orders where id = $1").bind(id.0).fetch_optional(db).await?;
    row.map(|(sequence, status)| Ok((sequence.unsigned_abs(), status.parse().map_err(corrupt)?))).transpose()
}

/// The sequence of each order's last entry.
pub async fn sequences(db: &mut PgConnection, ids: &[OrderId]) -> sqlx::Result<Vec<(OrderId, u32)>> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
    let rows: Vec<(Uuid, i32)> =
        sqlx::query_as("select id, sequence from orders where id = any($1)").bind(ids).fetch_all(db).await?;
    Ok(rows.into_iter().map(|(id, sequence)| (OrderId(id), sequence.unsigned_abs())).collect())
}

/// Which orders to list.
#[derive(Clone, Copy, Debug, Default)]
pub struct Filter {
    pub user: Option<UserId>,
    pub status: Option<Status>,
}

/// A page, newest first.
pub async fn list(db: &mut PgConnection, filter: Filter, after: Option<Uuid>, rows: i64) -> sqlx::Result<Vec<Listed<View>>> {
    // The statement is planned with its values: what is not asked for folds away, and each status finds its own index.
    sqlx::query_as(concat!(
        "select ",
        view_columns!(),
        " from orders \
         where ($1::uuid is null or user_id = $1) and ($2::text is null or status = $2) and ($3::uuid is null or id < $3) \
           and (not $4 or not settled) \
         order by id desc limit $5"
    ))
    .bind(filter.user.map(|user| user.0))
    .bind(filter.status.map(Status::as_str))
    .bind(after)
    // An order that is pending or cancelling waits for somebody.
    .bind(filter.status.is_some_and(|status| !status.is_final()))
    .bind(rows)
    .fetch_all(db)
    .await
}
