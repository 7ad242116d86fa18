//! Every statement of the order service.

mod operator;

use std::time::Duration;

use chrono::{DateTime, Utc};
use events::order::Status;
use events::product::Line;
use events::{Currency, Money, OrderId, TraceParent, UserId};
use saga::State;
use saga::order::Order;
use serde_json::value::RawValue;
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use sqlx::{FromRow, PgConnection, PgExecutor, Row as _};
use uuid::Uuid;

use crate::view::Row;

pub use operator::{InFlight, SagaFilter, count, oldest_first, record_plan, sagas};

impl FromRow<'_, PgRow> for Row {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        let Json(items): Json<Vec<Line>> = row.try_get("items")?;
        let Json(state): Json<State<Order>> = row.try_get("state")?;
        let trace: &str = row.try_get("traceparent")?;
        let prices = match (row.try_get::<Option<Vec<i64>>, _>("unit_prices")?, row.try_get::<Option<&str>, _>("currency")?) {
            (Some(amounts), Some(code)) => {
                let currency = Currency::from_code(code).ok_or_else(|| corrupt(format!("no currency: {code}")))?;
                Some(amounts.into_iter().map(|amount| Money::new(amount, currency)).collect())
            }
            _ => None,
        };
        Ok(Self {
            order: Order { id: OrderId(row.try_get("id")?), user_id: UserId(row.try_get("user_id")?), items },
            state,
            sequence: row.try_get::<i32, _>("sequence")?.unsigned_abs(),
            prices,
            trace: TraceParent::parse(trace).ok_or_else(|| corrupt(format!("no traceparent: {trace}")))?,
            created_at: row.try_get("created_at")?,
            updated_at: row.try_get("updated_at")?,
        })
    }
}

fn corrupt(what: String) -> sqlx::Error {
    sqlx::Error::Decode(what.into())
}

/// The database's clock.
pub async fn now(tx: &mut PgConnection) -> sqlx::Result<DateTime<Utc>> {
    sqlx::query_scalar("select now()").fetch_one(tx).await
}

/// When an order is due again. What has a deadline is due then at the latest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timer {
    /// Until the unanswered command is sent again; `None`: nothing is unanswered.
    pub due_in: Option<Duration>,
    /// Whether the waiting begins now; otherwise it goes on.
    pub begins: bool,
    /// Whether what is waited for can be given up. A compensation cannot.
    pub can_expire: bool,
}

/// The two deadlines of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadlines {
    /// How long a step may go unanswered.
    pub step: Duration,
    /// How long an order may take in all.
    pub order: Duration,
}

/// A new order, with its key and timer.
pub struct NewRow<'a> {
    pub row: &'a Row,
    pub key: Option<&'a str>,
    pub timer: Timer,
}

/// Inserts those whose key is free, and returns their ids.
pub async fn insert(tx: &mut PgConnection, new: &[NewRow<'_>], deadlines: Deadlines) -> sqlx::Result<Vec<Uuid>> {
    sqlx::query_scalar(
        "insert into orders (id, user_id, items, status, state, sequence, waiting_since, due_at, traceparent, idempotency_key) \
         select id, user_id, items, $5, state, 1, now(), \
                now() + make_interval(secs => least(due_in, $7, $8)), traceparent, key \
         from unnest($1::uuid[], $2::uuid[], $3::jsonb[], $4::jsonb[], $6::float8[], $9::text[], $10::text[]) \
              as new (id, user_id, items, state, due_in, traceparent, key) \
         on conflict do nothing returning id",
    )
    .bind(new.iter().map(|new| new.row.order.id.0).collect::<Vec<_>>())
    .bind(new.iter().map(|new| new.row.order.user_id.0).collect::<Vec<_>>())
    .bind(new.iter().map(|new| Json(&new.row.order.items)).collect::<Vec<_>>())
    .bind(new.iter().map(|new| Json(&new.row.state)).collect::<Vec<_>>())
    .bind(Status::Pending.as_str())
    .bind(new.iter().map(|new| new.timer.due_in.map(|wait| wait.as_secs_f64())).collect::<Vec<_>>())
    .bind(deadlines.step.as_secs_f64())
    .bind(deadlines.order.as_secs_f64())
    .bind(new.iter().map(|new| new.row.trace.as_str()).collect::<Vec<_>>())
    .bind(new.iter().map(|new| new.key).collect::<Vec<_>>())
    .fetch_all(tx)
    .await
}

/// Orders by the keys they were placed with.
pub async fn by_keys(tx: &mut PgConnection, keys: &[&str]) -> sqlx::Result<Vec<(String, Row)>> {
    let rows = sqlx::query(
        "select id, user_id, items, unit_prices, currency, state, sequence, traceparent, created_at, updated_at, idempotency_key \
         from orders where idempotency_key = any($1)",
    )
    .bind(keys)
    .fetch_all(tx)
    .await?;
    rows.iter().map(|row| Ok((row.try_get("idempotency_key")?, Row::from_row(row)?))).collect()
}

/// An order locked for a decision, and what its timers say.
pub struct Locked {
    pub row: Row,
    /// It is time to ask again, or to give up.
    pub due: bool,
    /// The step has run past its deadline.
    pub expired: bool,
    /// The order has run past its deadline.
    pub overdue: bool,
}

/// Locks orders, in the order of their ids, so that two batches never wait for each other in a circle.
pub async fn lock(tx: &mut PgConnection, ids: &[Uuid], deadlines: Deadlines) -> sqlx::Result<Vec<Locked>> {
    let rows = sqlx::query(
        "select id, user_id, items, unit_prices, currency, state, sequence, traceparent, created_at, updated_at, \
                coalesce(due_at <= now(), false) as due, \
                coalesce(waiting_since + make_interval(secs => $2) <= now(), false) as expired, \
                created_at + make_interval(secs => $3) <= now() as overdue \
         from orders where id = any($1) order by id for update",
    )
    .bind(ids)
    .bind(deadlines.step.as_secs_f64())
    .bind(deadlines.order.as_secs_f64())
    .fetch_all(tx)
    .await?;
    rows.iter()
        .map(|row| {
            let (due, expired, overdue) = (row.try_get("due")?, row.try_get("expired")?, row.try_get("overdue")?);
            Ok(Locked { row: Row::from_row(row)?, due, expired, overdue })
        })
        .collect()
}

/// Writes orders after their decisions.
pub async fn update(tx: &mut PgConnection, moved: &[(&Row, Timer)], deadlines: Deadlines) -> sqlx::Result<()> {
    let (mut prices, mut currencies, mut totals, mut reasons) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (row, _) in moved {
        let total = row.total();
        prices.push(row.prices.as_ref().map(|prices| Json(prices.iter().map(|price| price.amount).collect::<Vec<i64>>())));
        currencies.push(total.map(|total| total.currency.code()));
        totals.push(total.map(|total| total.amount));
        reasons.push(Order::reason(&row.state).map(Json));
    }
    sqlx::query(
        "update orders set state = new.state, sequence = new.sequence, status = new.status, reason = new.reason, \
                settled = new.settled, currency = new.currency, total = new.total, \
                unit_prices = (select array_agg(price::bigint order by position) \
                               from jsonb_array_elements_text(new.prices) with ordinality as each (price, position)), \
                waiting_since = case when new.due_in is null then null when new.begins then now() else orders.waiting_since end, \
                due_at = case when new.due_in is null then null \
                              when not new.can_expire then now() + make_interval(secs => new.due_in) \
                              else least(now() + make_interval(secs => new.due_in), \
                                         case when new.begins then now() else orders.waiting_since end + make_interval(secs => $13), \
                                         orders.created_at + make_interval(secs => $14)) end, \
                updated_at = new.updated_at \
         from unnest($1::uuid[], $2::jsonb[], $3::int[], $4::text[], $5::jsonb[], $6::boolean[], $7::text[], $8::bigint[], \
                     $9::jsonb[], $10::float8[], $11::boolean[], $12::boolean[], $15::timestamptz[]) \
              as new (id, state, sequence, status, reason, settled, currency, total, prices, due_in, begins, can_expire, updated_at) \
         where orders.id = new.id",
    )
    .bind(moved.iter().map(|(row, _)| row.order.id.0).collect::<Vec<_>>())
    .bind(moved.iter().map(|(row, _)| Json(&row.state)).collect::<Vec<_>>())
    .bind(moved.iter().map(|(row, _)| row.sequence as i32).collect::<Vec<_>>())
    .bind(moved.iter().map(|(row, _)| row.status().as_str()).collect::<Vec<_>>())
    .bind(reasons)
    .bind(moved.iter().map(|(row, _)| row.state.is_settled()).collect::<Vec<_>>())
    .bind(currencies)
    .bind(totals)
    .bind(prices)
    .bind(moved.iter().map(|(_, timer)| timer.due_in.map(|wait| wait.as_secs_f64())).collect::<Vec<_>>())
    .bind(moved.iter().map(|(_, timer)| timer.begins).collect::<Vec<_>>())
    .bind(moved.iter().map(|(_, timer)| timer.can_expire).collect::<Vec<_>>())
    .bind(deadlines.step.as_secs_f64())
    .bind(deadlines.order.as_secs_f64())
    .bind(moved.iter().map(|(row, _)| row.updated_at).collect::<Vec<_>>())
    .execute(tx)
    .await?;
    Ok(())
}

/// One line of a waybill: the order, the sequence, and the entry without the two and its time.
pub struct HistoryRow {
    pub order_id: OrderId,
    pub sequence: u32,
    pub entry: Box<RawValue>,
}

/// Appends to waybills.
pub async fn append(tx: &mut PgConnection, at: DateTime<Utc>, entries: &[&HistoryRow]) -> sqlx::Result<()> {
    sqlx::query(
        "insert into order_history (order_id, sequence, at, entry) \
         select order_id, sequence, $3, entry::json from unnest($1::uuid[], $2::int[], $4::text[]) as new (order_id, sequence, entry)",
    )
    .bind(entries.iter().map(|entry| entry.order_id.0).collect::<Vec<_>>())
    .bind(entries.iter().map(|entry| entry.sequence as i32).collect::<Vec<_>>())
    .bind(at)
    .bind(entries.iter().map(|entry| entry.entry.get()).collect::<Vec<_>>())
    .execute(tx)
    .await?;
    Ok(())
}

/// The waybills of orders: each entry whole, in order.
pub async fn history(db: impl PgExecutor<'_>, ids: &[Uuid]) -> sqlx::Result<Vec<(OrderId, Box<RawValue>)>> {
    let rows = sqlx::query(
        "select order_id, sequence, at, entry from order_history where order_id = any($1) order by order_id, sequence",
    )
    .bind(ids)
    .fetch_all(db)
    .await?;
    rows.iter().map(|row| Ok((OrderId(row.try_get("order_id")?), entry(row)?.1))).collect()
}

/// What was appended to an order's waybill after an entry.
pub async fn history_after(db: impl PgExecutor<'_>, id: OrderId, after: u32) -> sqlx::Result<Vec<(u32, Box<RawValue>)>> {
    let rows =
        sqlx::query("select sequence, at, entry from order_history where order_id = $1 and sequence > $2 order by sequence")
            .bind(id.0)
            .bind(i64::from(after))
            .fetch_all(db)
            .await?;
    rows.iter().map(entry).collect()
}

fn entry(row: &PgRow) -> sqlx::Result<(u32, Box<RawValue>)> {
    let Json(entry): Json<&RawValue> = row.try_get("entry")?;
    let sequence = row.try_get::<i32, _>("sequence")?.unsigned_abs();
    Ok((sequence, whole_entry(sequence, row.try_get("at")?, entry)?))
}

/// An entry with its sequence and time in front.
pub fn whole_entry(sequence: u32, at: DateTime<Utc>, entry: &RawValue) -> sqlx::Result<Box<RawValue>> {
    let rest = entry.get().strip_prefix('{').ok_or_else(|| corrupt("a history entry is no object".to_owned()))?;
    let time = at.to_rfc3339_opts(chrono::SecondsFormat::Micros, true);
    RawValue::from_string(format!(r#"{{"sequence":{sequence},"time":"{time}",{rest}"#))
        .map_err(|error| corrupt(error.to_string()))
}

/// Orders that are due, the oldest first. Unlocked: the decision locks them and looks again.
pub async fn due(db: impl PgExecutor<'_>, limit: i64) -> sqlx::Result<Vec<Uuid>> {
    sqlx::query_scalar("select id from orders where not settled and due_at <= now() order by id limit $1")
        .bind(limit)
        .fetch_all(db)
        .await
}

/// One order.
pub async fn get(db: impl PgExecutor<'_>, id: OrderId) -> sqlx::Result<Option<Row>> {
    sqlx::query_as(
        "select id, user_id, items, unit_prices, currency, state, sequence, traceparent, created_at, updated_at from orders where id = $1",
    )
    .bind(id.0)
    .fetch_optional(db)
    .await
}

/// Which orders to list.
#[derive(Clone, Copy, Debug, Default)]
pub struct Filter {
    pub user: Option<UserId>,
    pub status: Option<Status>,
}

/// A page, newest first.
pub async fn list(db: impl PgExecutor<'_>, filter: Filter, after: Option<Uuid>, rows: i64) -> sqlx::Result<Vec<Row>> {
    // The statement is planned with its values: what is not asked for folds away, and each status finds its own index.
    sqlx::query_as(
        "select id, user_id, items, unit_prices, currency, state, sequence, traceparent, created_at, updated_at from orders \
         where ($1::uuid is null or user_id = $1) and ($2::text is null or status = $2) and ($3::uuid is null or id < $3) \
           and (not $4 or not settled) \
         order by id desc limit $5",
    )
    .bind(filter.user.map(|user| user.0))
    .bind(filter.status.map(Status::as_str))
    .bind(after)
    // An order that is pending or cancelling waits for somebody.
    .bind(filter.status.is_some_and(|status| !status.is_final()))
    .bind(rows)
    .fetch_all(db)
    .await
}
