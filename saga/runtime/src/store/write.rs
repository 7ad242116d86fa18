//! Sagas as they are begun and carried on: one statement a batch.

use std::collections::HashSet;

use chassis::{Outgoing, Statement};
use chrono::{DateTime, Utc};
use envelope::TraceState;
use sqlx::PgConnection;
use uuid::Uuid;

use super::history::with_entries;
use super::{NewEntry, Store};
use crate::saga::{Layout as _, Record, Saga};

/// What a batch writes.
pub(crate) struct Written<'a, S: Saga> {
    /// Sagas that begin, each with the key it was asked for with.
    pub placed: Vec<(&'a Record<S>, Option<&'a str>)>,
    /// Sagas that go on, each with the sequence it was decided at.
    pub moved: Vec<(&'a Record<S>, u32)>,
    /// What is appended to their histories.
    pub entries: Vec<&'a NewEntry>,
    /// The keys of cancellations among those that go on.
    pub cancelled: Vec<(&'a str, Uuid)>,
}

impl<S: Saga> Store<S> {
    /// The one statement that writes a batch, and what is sent with it.
    ///
    /// The rows need no locks: where one of those that go on stands elsewhere by now, somebody was first, and nothing of all this is
    /// written. The same where a saga that begins is there already: whoever uses a key first wins.
    pub fn write(&self, outgoing: Outgoing, now: DateTime<Utc>, written: Written<'_, S>) -> anyhow::Result<Statement> {
        let Written { placed, moved, entries, cancelled } = written;
        let sql = match (placed.is_empty(), moved.is_empty(), cancelled.is_empty()) {
            (true, true, _) => return Ok(outgoing.into()),
            (false, true, _) => self.sql.place,
            // Few batches have a key to keep; the others are not to pay for it.
            (true, false, true) => self.sql.advance,
            (false, false, true) => self.sql.both,
            (true, false, false) => self.sql.advance_keyed,
            (false, false, false) => self.sql.both_keyed,
        };
        let mut statement = with_entries(outgoing.statement(sql, self.sql.raced_for), now, &entries);
        if !placed.is_empty() {
            let records: Vec<&Record<S>> = placed.iter().map(|(record, _)| *record).collect();
            statement = statement
                .bind(records.iter().map(|record| record.id()).collect::<Vec<_>>())
                .bind(states(&records)?)
                .bind(records.iter().map(|record| record.status()).collect::<Vec<_>>())
                .bind(records.iter().map(|record| record.began_at).collect::<Vec<_>>())
                .bind(records.iter().map(|record| record.timers.due_at()).collect::<Vec<_>>())
                .bind(timers(&records)?)
                .bind(records.iter().map(|record| record.trace.parent.as_str()).collect::<Vec<_>>())
                .bind(records.iter().map(|record| record.trace.state.as_ref().map(TraceState::as_str)).collect::<Vec<_>>())
                .bind(placed.iter().map(|(_, key)| *key).collect::<Vec<_>>());
            for values in S::Layout::placed(&records)? {
                statement = values.bind(statement);
            }
        }
        if !cancelled.is_empty() {
            statement = statement
                .bind(cancelled.iter().map(|(key, _)| *key).collect::<Vec<_>>())
                .bind(cancelled.iter().map(|(_, saga)| *saga).collect::<Vec<_>>());
        }
        if !moved.is_empty() {
            let records: Vec<&Record<S>> = moved.iter().map(|(record, _)| *record).collect();
            statement = statement
                .bind(records.iter().map(|record| record.id()).collect::<Vec<_>>())
                .bind(moved.iter().map(|(_, was)| *was as i32).collect::<Vec<_>>())
                .bind(records.iter().map(|record| record.sequence as i32).collect::<Vec<_>>())
                .bind(states(&records)?)
                .bind(records.iter().map(|record| record.status()).collect::<Vec<_>>())
                .bind(records.iter().map(|record| record.state.is_settled()).collect::<Vec<_>>())
                .bind(records.iter().map(|record| record.timers.waiting_since()).collect::<Vec<_>>())
                .bind(records.iter().map(|record| record.timers.due_at()).collect::<Vec<_>>())
                .bind(timers(&records)?)
                .bind(records.iter().map(|record| record.updated_at).collect::<Vec<_>>())
                .bind(records.iter().map(|record| record.history_bytes as i64).collect::<Vec<_>>());
            for values in S::Layout::moved(&records)? {
                statement = values.bind(statement);
            }
        }
        Ok(statement)
    }

    /// Keeps the key of a cancellation that changed nothing, because the saga was going back already. `false`: it cancelled another saga
    /// meanwhile.
    pub async fn keep_cancelled(&self, db: &mut PgConnection, key: &str, saga: Uuid) -> sqlx::Result<bool> {
        sqlx::query(self.sql.keep_cancelled).bind(key).bind(saga).execute(&mut *db).await?;
        Ok(self.cancelled_with(db, &[key]).await?.get(key).is_none_or(|cancelled| *cancelled == saga))
    }

    /// Which of these sagas somebody else holds, without waiting for them.
    pub async fn held(&self, db: &mut PgConnection, ids: &[Uuid]) -> sqlx::Result<HashSet<Uuid>> {
        let held: Vec<Uuid> = sqlx::query_scalar(self.sql.held).bind(ids).fetch_all(db).await?;
        Ok(held.into_iter().collect())
    }
}

fn states<S: Saga>(records: &[&Record<S>]) -> serde_json::Result<Vec<String>> {
    records.iter().map(|record| serde_json::to_string(&record.state)).collect()
}

/// Timers of their own; one alone is what `waiting_since` and `due_at` say.
fn timers<S: Saga>(records: &[&Record<S>]) -> serde_json::Result<Vec<Option<String>>> {
    let several = |record: &&Record<S>| (record.timers.len() > 1).then(|| serde_json::to_string(&record.timers)).transpose();
    records.iter().map(several).collect()
}
