//! Histories: their entries as they are appended, and read back whole or by pages.

use std::collections::BTreeMap;

use anyhow::Context as _;
use chassis::Statement;
use chrono::{DateTime, Utc};
use saga::{Effect, Entry, Input, State, Verdict};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, PgExecutor, Row as _};
use uuid::Uuid;

use super::{Store, corrupt};
use crate::saga::Saga;

/// An entry to be appended.
pub struct NewEntry {
    saga: Uuid,
    sequence: u32,
    /// Without its sequence and time, which stand in columns of their own.
    stored: String,
    /// Whole, as it is read back.
    pub whole: Box<RawValue>,
}

impl NewEntry {
    /// The entry of a saga.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn new<S: Saga>(saga: Uuid, entry: &Entry<S>) -> anyhow::Result<Self> {
        /// An [`Entry`] as it is read back.
        #[derive(Serialize)]
        #[serde(bound = "")]
        struct Whole<'a, S: Saga> {
            sequence: u32,
            time: &'a str,
            message: &'a Input<S>,
            decision: Verdict,
            sent: &'a [Effect<S>],
            #[serde(skip_serializing_if = "BTreeMap::is_empty")]
            attempts: &'a BTreeMap<S::Step, u32>,
            state: &'a State<S>,
        }
        let Entry { sequence, time, input, verdict, sent, attempts, state } = entry;
        let (sequence, time) = (*sequence, entry_time(*time));
        let whole = Whole { sequence, time: &time, message: input, decision: *verdict, sent, attempts, state };
        // Written once, and never read here: it is many times longer than what it begins with.
        let whole = to_raw_value(&whole)?;
        let rest = whole.get().strip_prefix(&beginning(sequence, &time)).context("an entry begins with its sequence and time")?;
        Ok(Self { saga, sequence, stored: format!("{{{rest}"), whole })
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
pub(super) fn with_entries(statement: Statement, now: DateTime<Utc>, entries: &[&NewEntry]) -> Statement {
    statement
        .bind(entries.iter().map(|entry| entry.saga).collect::<Vec<_>>())
        .bind(entries.iter().map(|entry| entry.sequence as i32).collect::<Vec<_>>())
        .bind(entries.iter().map(|entry| entry.stored.as_str()).collect::<Vec<_>>())
        .bind(now)
}

/// An entry as it is served.
#[derive(Serialize)]
#[serde(transparent)]
pub struct Served {
    /// Its sequence.
    #[serde(skip)]
    pub sequence: u32,
    /// The entry.
    pub json: Box<RawValue>,
}

/// A part of a history.
pub struct HistoryPage {
    /// The entries.
    pub entries: Vec<Served>,
    /// Whether there are more after them.
    pub more: bool,
}

impl<S: Saga> Store<S> {
    /// The histories of sagas, each whole and in order. For few, and where the whole is needed: nothing bounds their length.
    pub async fn histories(&self, db: impl PgExecutor<'_>, ids: &[Uuid]) -> sqlx::Result<Vec<(Uuid, Box<RawValue>)>> {
        self.histories_as(db, ids, entry).await
    }

    /// The same to be shown: an entry that cannot be read says so.
    pub async fn histories_served(&self, db: &mut PgConnection, ids: &[Uuid]) -> sqlx::Result<Vec<(Uuid, Box<RawValue>)>> {
        self.histories_as(db, ids, served::<S>).await
    }

    async fn histories_as(
        &self,
        db: impl PgExecutor<'_>,
        ids: &[Uuid],
        entry: impl Fn(&PgRow) -> sqlx::Result<Served>,
    ) -> sqlx::Result<Vec<(Uuid, Box<RawValue>)>> {
        let rows = sqlx::query(self.sql.histories).bind(ids).fetch_all(db).await?;
        rows.iter().map(|row| Ok((row.try_get("id")?, entry(row)?.json))).collect()
    }

    /// The entries of one saga after one, at most so many, and no more once they have reached so many bytes. `only`: where it is this user's.
    pub async fn history_page(
        &self,
        db: &mut PgConnection,
        id: Uuid,
        only: Option<Uuid>,
        after: u32,
        entries: i64,
        bytes: i64,
    ) -> sqlx::Result<HistoryPage> {
        let page = sqlx::query(self.sql.history_page).bind(id).bind(i64::from(after)).bind(entries).bind(bytes).bind(only);
        let rows = page.fetch_all(db).await?;
        let found: i64 = rows.first().map_or(Ok(0), |row| row.try_get("found"))?;
        let entries = rows.iter().map(served::<S>).collect::<sqlx::Result<Vec<_>>>()?;
        Ok(HistoryPage { more: found > entries.len() as i64, entries })
    }
}

/// The entries of one saga, as columns of its row.
pub(super) fn entries_of(row: &PgRow) -> sqlx::Result<Vec<Box<RawValue>>> {
    let (times, entries): (Vec<DateTime<Utc>>, Vec<String>) = (row.try_get("times")?, row.try_get("entries")?);
    // Their own, not their places: one may be missing.
    let sequences: Vec<i32> = row.try_get("sequences")?;
    let placed = sequences.into_iter().zip(times).zip(entries);
    placed.map(|((sequence, at), entry)| whole_entry(sequence.unsigned_abs(), at, &entry)).collect()
}

fn entry(row: &PgRow) -> sqlx::Result<Served> {
    let entry: &str = row.try_get("entry")?;
    let sequence = row.try_get::<i32, _>("sequence")?.unsigned_abs();
    Ok(Served { sequence, json: whole_entry(sequence, row.try_get("at")?, entry)? })
}

/// An entry as it is shown, and one that cannot be read as such: the others are served.
fn served<S: Saga>(row: &PgRow) -> sqlx::Result<Served> {
    #[derive(Serialize)]
    struct Unreadable {
        sequence: u32,
        time: String,
        unreadable: String,
    }
    entry(row).or_else(|error| {
        let (id, sequence) = (row.try_get::<Uuid, _>("id")?, row.try_get::<i32, _>("sequence")?.unsigned_abs());
        tracing::error!(saga = S::NAME, %id, entry = sequence, %error, "a history entry cannot be read; it is shown as such");
        let unreadable = Unreadable { sequence, time: entry_time(row.try_get("at")?), unreadable: error.to_string() };
        Ok(Served { sequence, json: to_raw_value(&unreadable).map_err(|error| corrupt(error.to_string()))? })
    })
}
