//! Every statement of the order service.

/// The columns a [`Row`] is read from.
macro_rules! columns {
    () => {
        "id, user_id, items, unit_prices, currency, state, sequence, traceparent, created_at, updated_at, \
         coalesce(began_at, created_at) as began_at, waiting_since, due_at"
    };
}

/// Appends what [`with_entries`] binds.
macro_rules! append {
    () => {
        "insert into order_history (order_id, sequence, at, entry) \
         select order_id, sequence, $9, entry from unnest($6::uuid[], $7::int[], $8::text[]) as new (order_id, sequence, entry)"
    };
}

mod operator;

use std::collections::HashMap;

use chassis::database::execute;
use chassis::{Outgoing, Statement};
use chrono::{DateTime, Utc};
use events::order::Status;
use events::product::Line;
use events::{Currency, Money, OrderId, TraceParent, UserId};
use saga::order::Order;
use saga::{Input, Message, State, Verdict};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use sqlx::{FromRow, PgConnection, Row as _};
use uuid::Uuid;

use crate::recent::Kept;
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
            began_at: row.try_get("began_at")?,
            waiting_since: row.try_get("waiting_since")?,
            due_at: row.try_get("due_at")?,
        })
    }
}

fn corrupt(what: String) -> sqlx::Error {
    sqlx::Error::Decode(what.into())
}

/// Inserts orders with the first entries of their waybills, and what is said of them. Whoever used one of their keys first wins.
pub async fn insert(
    db: &mut PgConnection,
    outgoing: &mut Outgoing,
    now: DateTime<Utc>,
    new: &[(&Row, Option<&str>)],
    entries: &[HistoryRow],
) -> anyhow::Result<()> {
    let (mut items, mut states) = (Vec::with_capacity(new.len()), Vec::with_capacity(new.len()));
    for (row, _) in new {
        items.push(serde_json::to_string(&row.order.items)?);
        states.push(serde_json::to_string(&row.state)?);
    }
    let statement = outgoing.statement(concat!(
        "with told as (",
        chassis::outbox!(),
        "), appended as (",
        append!(),
        ") insert into orders (id, user_id, items, status, state, sequence, began_at, waiting_since, due_at, traceparent, \
                               idempotency_key, created_at, updated_at) \
         select id, user_id, items::json, $12, state::json, 1, began_at, began_at, due_at, traceparent, key, $9, $9 \
         from unnest($10::uuid[], $11::uuid[], $13::text[], $14::text[], $15::timestamptz[], $16::timestamptz[], $17::text[], \
                     $18::text[]) as new (id, user_id, items, state, began_at, due_at, traceparent, key)"
    ));
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
    execute(statement, db).await
}

/// Orders by the keys they were placed with.
pub async fn by_keys(db: &mut PgConnection, keys: &[&str]) -> sqlx::Result<HashMap<String, Row>> {
    let rows = sqlx::query(concat!("select ", columns!(), ", idempotency_key from orders where idempotency_key = any($1)"))
        .bind(keys)
        .fetch_all(db)
        .await?;
    rows.iter().map(|row| Ok((row.try_get("idempotency_key")?, Row::from_row(row)?))).collect()
}

/// Orders alone.
pub async fn rows(db: &mut PgConnection, ids: &[Uuid]) -> sqlx::Result<Vec<Row>> {
    sqlx::query_as(concat!("select ", columns!(), " from orders where id = any($1)")).bind(ids).fetch_all(db).await
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
    let kept = |row: &PgRow| {
        let (times, entries): (Vec<DateTime<Utc>>, Vec<String>) = (row.try_get("times")?, row.try_get("entries")?);
        let entries = (1..).zip(times).zip(entries).map(|((sequence, at), entry)| whole_entry(sequence, at, &entry));
        Ok(Kept { row: Row::from_row(row)?, history: entries.collect::<sqlx::Result<_>>()? })
    };
    rows.iter().map(kept).collect()
}

/// Writes orders after their decisions, with what was appended to their waybills, and what is said of them.
///
/// Each comes with the sequence it was decided at. The rows need no locks: where one of them stands elsewhere by now, somebody was first, and
/// nothing of all this is written.
pub async fn write(
    db: &mut PgConnection,
    outgoing: &mut Outgoing,
    now: DateTime<Utc>,
    moved: &[(&Row, u32)],
    entries: &[HistoryRow],
) -> anyhow::Result<()> {
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
    let statement = outgoing.statement(concat!(
        "with told as (",
        chassis::outbox!(),
        "), appended as (",
        append!(),
        "), moved as (\
             update orders set state = new.state::json, sequence = new.sequence, status = new.status, reason = new.reason, \
                    settled = new.settled, currency = new.currency, total = new.total, unit_prices = new.prices::bigint[], \
                    waiting_since = new.waiting_since, due_at = new.due_at, updated_at = new.updated_at \
             from unnest($10::uuid[], $11::int[], $12::int[], $13::text[], $14::text[], $15::jsonb[], $16::boolean[], $17::text[], \
                         $18::bigint[], $19::text[], $20::timestamptz[], $21::timestamptz[], $22::timestamptz[]) \
                  as new (id, was, sequence, state, status, reason, settled, currency, total, prices, waiting_since, due_at, updated_at) \
             where orders.id = new.id and orders.sequence = new.was returning 1) \
         select 1 / (count(*) = cardinality($10))::int from moved" // A division by zero undoes the statement.
    ));
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
        .bind(moved.iter().map(|(row, _)| row.updated_at).collect::<Vec<_>>());
    execute(statement, db).await
}

/// An array of prices as Postgres writes one: `unnest` would flatten arrays within an array.
fn array(prices: &[Money]) -> String {
    let amounts: Vec<String> = prices.iter().map(|price| price.amount.to_string()).collect();
    format!("{{{}}}", amounts.join(","))
}

/// One line of a waybill.
pub struct HistoryRow {
    order_id: OrderId,
    sequence: u32,
    /// The entry whole, as it is read back.
    pub whole: Box<RawValue>,
}

impl HistoryRow {
    /// The entry of a decision that left a row as it is.
    pub fn new(
        row: &Row,
        at: DateTime<Utc>,
        message: &Input<Order>,
        decision: Verdict,
        sent: &[Message<Order>],
    ) -> serde_json::Result<Self> {
        #[derive(Serialize)]
        struct Entry<'a> {
            sequence: u32,
            time: String,
            message: &'a Input<Order>,
            decision: Verdict,
            sent: &'a [Message<Order>],
            state: &'a State<Order>,
        }
        let entry = Entry { sequence: row.sequence, time: entry_time(at), message, decision, sent, state: &row.state };
        Ok(Self { order_id: row.order.id, sequence: row.sequence, whole: to_raw_value(&entry)? })
    }

    /// The entry without its sequence and time, which stand in columns of their own.
    fn stored(&self) -> String {
        let whole = self.whole.get();
        format!("{{{}", &whole[whole.find(r#""message":"#).unwrap_or_default()..])
    }
}

/// An entry with its sequence and time in front.
fn whole_entry(sequence: u32, at: DateTime<Utc>, stored: &str) -> sqlx::Result<Box<RawValue>> {
    let rest = stored.strip_prefix('{').ok_or_else(|| corrupt("a history entry is no object".to_owned()))?;
    RawValue::from_string(format!(r#"{{"sequence":{sequence},"time":"{}",{rest}"#, entry_time(at)))
        .map_err(|error| corrupt(error.to_string()))
}

fn entry_time(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(chrono::SecondsFormat::Micros, true)
}

/// Binds entries after the outbox row.
fn with_entries<'a>(statement: Statement<'a>, now: DateTime<Utc>, entries: &[HistoryRow]) -> Statement<'a> {
    statement
        .bind(entries.iter().map(|entry| entry.order_id.0).collect::<Vec<_>>())
        .bind(entries.iter().map(|entry| entry.sequence as i32).collect::<Vec<_>>())
        .bind(entries.iter().map(HistoryRow::stored).collect::<Vec<_>>())
        .bind(now)
}

/// The waybills of orders: each entry whole, in order.
pub async fn history(db: &mut PgConnection, ids: &[Uuid]) -> sqlx::Result<Vec<(OrderId, Box<RawValue>)>> {
    let rows = sqlx::query(
        "select order_id, sequence, at, entry from order_history where order_id = any($1) order by order_id, sequence",
    )
    .bind(ids)
    .fetch_all(db)
    .await?;
    rows.iter().map(|row| Ok((OrderId(row.try_get("order_id")?), entry(row)?.1))).collect()
}

/// What was appended to an order's waybill after an entry.
pub async fn history_after(db: &mut PgConnection, id: OrderId, after: u32) -> sqlx::Result<Vec<(u32, Box<RawValue>)>> {
    let rows =
        sqlx::query("select sequence, at, entry from order_history where order_id = $1 and sequence > $2 order by sequence")
            .bind(id.0)
            .bind(i64::from(after))
            .fetch_all(db)
            .await?;
    rows.iter().map(entry).collect()
}

fn entry(row: &PgRow) -> sqlx::Result<(u32, Box<RawValue>)> {
    let entry: &str = row.try_get("entry")?;
    let sequence = row.try_get::<i32, _>("sequence")?.unsigned_abs();
    Ok((sequence, whole_entry(sequence, row.try_get("at")?, entry)?))
}

/// Orders that are due by the steady clock, the oldest first. Unlocked: the decision looks again.
pub async fn due(db: &mut PgConnection, now: DateTime<Utc>, limit: i64) -> sqlx::Result<Vec<Uuid>> {
    sqlx::query_scalar("select id from orders where not settled and due_at <= $1 order by id limit $2")
        .bind(now)
        .bind(limit)
        .fetch_all(db)
        .await
}

/// One order.
pub async fn get(db: &mut PgConnection, id: OrderId) -> sqlx::Result<Option<Row>> {
    sqlx::query_as(concat!("select ", columns!(), " from orders where id = $1")).bind(id.0).fetch_optional(db).await
}

/// Which orders to list.
#[derive(Clone, Copy, Debug, Default)]
pub struct Filter {
    pub user: Option<UserId>,
    pub status: Option<Status>,
}

/// A page, newest first.
pub async fn list(db: &mut PgConnection, filter: Filter, after: Option<Uuid>, rows: i64) -> sqlx::Result<Vec<Row>> {
    // The statement is planned with its values: what is not asked for folds away, and each status finds its own index.
    sqlx::query_as(concat!(
        "select ",
        columns!(),
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
