//! Histories: their entries as they are appended, and read back whole or by pages.

use crate::saga::{Order, Step};
use anyhow::Context as _;
use chassis::Statement;
use chrono::{DateTime, Utc};
use events::OrderId;
use saga::{Effect, Entry, Input, State, Verdict};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, PgExecutor, Row as _};
use std::collections::BTreeMap;
use uuid::Uuid;

use super::corrupt;

/// An entry to be appended.
pub struct HistoryRow {
    order_id: OrderId,
    sequence: u32,
    /// Without its sequence and time, which stand in columns of their own.
    stored: String,
    /// The entry whole, as it is read back.
    pub whole: Box<RawValue>,
}

impl HistoryRow {
    /// The entry of an order's history.
    pub fn new(order_id: OrderId, entry: &Entry<Order>) -> anyhow::Result<Self> {
        /// An [`Entry`] as it is read back.
        #[derive(Serialize)]
        struct Whole<'a> {
            sequence: u32,
            time: &'a str,
            message: &'a Input<Order>,
            decision: Verdict,
            sent: &'a [Effect<Order>],
            #[serde(skip_serializing_if = "BTreeMap::is_empty")]
            attempts: &'a BTreeMap<Step, u32>,
            state: &'a State<Order>,
        }
        let Entry { sequence, time, input, verdict, sent, attempts, state } = entry;
        let (sequence, time) = (*sequence, entry_time(*time));
        let whole = Whole { sequence, time: &time, message: input, decision: *verdict, sent, attempts, state };
        // Written once, and never read here: it is many times longer than what it begins with.
        let whole = to_raw_value(&whole)?;
        let rest = whole.get().strip_prefix(&beginning(sequence, &time)).context("an entry begins with its sequence and time")?;
        Ok(Self { order_id, sequence, stored: format!("{{{rest}"), whole })
    }
}

/// An entry with its sequence and time in front.
fn whole_entry(sequence: u32, at: DateTime<Utc>, stored: &str) -> sqlx::Result<Box<RawValue>> {
    let rest = stored.strip_prefix('{').ok_or_else(|| corrupt("a history entry is no object".to_owned()))?;
    RawValue::from_string(beginning(sequence, &entry_time(at)) + rest).map_err(|error| corrupt(error.to_string()))
}

/// How an entry begins; the rest is stored.
fn beginning(sequence: u32, time: &str) -> String {
    format!(r#"{{"sequence":{sequence},"time":"{time}","#)
}

fn entry_time(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(chrono::SecondsFormat::Micros, true)
}

/// Binds entries after the outbox row.
pub(super) fn with_entries(statement: Statement, now: DateTime<Utc>, entries: &[HistoryRow]) -> Statement {
    statement
        .bind(entries.iter().map(|entry| entry.order_id.0).collect::<Vec<_>>())
        .bind(entries.iter().map(|entry| entry.sequence as i32).collect::<Vec<_>>())
        .bind(entries.iter().map(|entry| entry.stored.as_str()).collect::<Vec<_>>())
        .bind(now)
}

/// The waybills of orders, each whole and in order. For few, and where the whole is needed: nothing bounds their length.
pub async fn history(db: impl PgExecutor<'_>, ids: &[Uuid]) -> sqlx::Result<Vec<(OrderId, Box<RawValue>)>> {
    histories(db, ids, entry).await
}

/// The same to be shown: an entry that cannot be read says so.
pub async fn history_served(db: &mut PgConnection, ids: &[Uuid]) -> sqlx::Result<Vec<(OrderId, Box<RawValue>)>> {
    histories(db, ids, served).await
}

async fn histories(
    db: impl PgExecutor<'_>,
    ids: &[Uuid],
    entry: impl Fn(&PgRow) -> sqlx::Result<Served>,
) -> sqlx::Result<Vec<(OrderId, Box<RawValue>)>> {
    let rows = sqlx::query(
        "select order_id, sequence, at, entry from order_history where order_id = any($1) order by order_id, sequence",
    )
    .bind(ids)
    .fetch_all(db)
    .await?;
    rows.iter().map(|row| Ok((OrderId(row.try_get("order_id")?), entry(row)?.json))).collect()
}

/// An entry as it is served.
#[derive(Serialize)]
#[serde(transparent)]
pub struct Served {
    #[serde(skip)]
    pub sequence: u32,
    pub json: Box<RawValue>,
}

/// A part of an order's waybill.
pub struct HistoryPage {
    pub entries: Vec<Served>,
    /// Whether there are more after them.
    pub more: bool,
}

/// The entries after one, at most so many, and no more once they have reached so many bytes.
pub async fn history_page(db: &mut PgConnection, id: OrderId, after: u32, entries: i64, bytes: i64) -> sqlx::Result<HistoryPage> {
    // The length of a stored text is known without reading it.
    let rows = sqlx::query(
        "select order_id, sequence, at, entry, found from (\
             select order_id, sequence, at, entry, count(*) over () as found, \
                    sum(octet_length(entry)) over (order by sequence) - octet_length(entry) as before \
             from (select order_id, sequence, at, entry from order_history where order_id = $1 and sequence > $2 order by sequence limit $3 + 1) \
                  as next) as counted \
         where before < $4 order by sequence limit $3",
    )
    .bind(id.0)
    .bind(i64::from(after))
    .bind(entries)
    .bind(bytes)
    .fetch_all(db)
    .await?;
    let found: i64 = rows.first().map_or(Ok(0), |row| row.try_get("found"))?;
    let entries = rows.iter().map(served).collect::<sqlx::Result<Vec<_>>>()?;
    Ok(HistoryPage { more: found > entries.len() as i64, entries })
}

/// The entries of one order, as columns of its row.
pub(super) fn entries_of(row: &PgRow) -> sqlx::Result<Vec<Box<RawValue>>> {
    let (times, entries): (Vec<DateTime<Utc>>, Vec<String>) = (row.try_get("times")?, row.try_get("entries")?);
    (1..).zip(times).zip(entries).map(|((sequence, at), entry)| whole_entry(sequence, at, &entry)).collect()
}

fn entry(row: &PgRow) -> sqlx::Result<Served> {
    let entry: &str = row.try_get("entry")?;
    let sequence = row.try_get::<i32, _>("sequence")?.unsigned_abs();
    Ok(Served { sequence, json: whole_entry(sequence, row.try_get("at")?, entry)? })
}

/// An entry as it is shown, and one that cannot be read as such: the others are served.
fn served(row: &PgRow) -> sqlx::Result<Served> {
    #[derive(Serialize)]
    struct Unreadable {
        sequence: u32,
        time: String,
        unreadable: String,
    }
    entry(row).or_else(|error| {
        let (id, sequence) = (OrderId(row.try_get("order_id")?), row.try_get::<i32, _>("sequence")?.unsigned_abs());
        tracing::error!(order = %id, entry = sequence, %error, "a history entry cannot be read; it is shown as such");
        let unreadable = Unreadable { sequence, time: entry_time(row.try_get("at")?), unreadable: error.to_string() };
        Ok(Served { sequence, json: to_raw_value(&unreadable).map_err(|error| corrupt(error.to_string()))? })
    })
}
