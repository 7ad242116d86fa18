//! The connections that write: few, and each kept from batch to batch.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use metrics::Histogram;
use sqlx::pool::PoolConnection;
use sqlx::{Connection, Postgres};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::causes::causes;
use crate::database::Database;
use crate::meaning::Meaning;
use crate::read_connection::ReadConnection;
use crate::settings::DatabaseSettings;

/// A connection used within this time is taken for alive; one that has rested for longer is asked first.
const FRESH: Duration = Duration::from_secs(1);

/// How long a kept connection may take to answer before it is given up for a new one.
const PING_TIMEOUT: Duration = Duration::from_secs(5);

/// What a batch gets beyond the longest statement before its connection is given up.
const MARGIN: Duration = Duration::from_secs(5);

/// The connections a service writes on: one for each batch at a time, and one more, because the next batch begins while the last is being committed.
pub(crate) struct Writers {
    database: Database,
    permits: Arc<Semaphore>,
    connections: Arc<Semaphore>,
    kept: Mutex<Vec<(PoolConnection<Postgres>, Instant)>>,
    /// How long batches waited for a connection.
    waits: Histogram,
}

/// The right to write a batch. Take it before gathering a batch: what arrives while waiting for it shares the transaction.
pub struct WritePermit(#[allow(dead_code)] OwnedSemaphorePermit);

/// A connection for one batch. Dropped before it is kept again, what was begun on it is rolled back before anybody else has it.
pub(crate) struct Writer {
    pub(crate) connection: ReadConnection,
    _place: OwnedSemaphorePermit,
}

impl Writer {
    /// Closes the connection instead of giving it back: nobody knows what it is at.
    pub(crate) fn close(self) {
        drop(self.connection.into_inner().detach());
    }
}

impl Writers {
    pub(crate) fn new(database: Database, settings: &DatabaseSettings, waits: Histogram) -> Self {
        let places = |count: u32| Arc::new(Semaphore::new(count as usize));
        let (permits, connections) = (places(settings.writers), places(settings.writing_connections()));
        Self { database, permits, connections, kept: Mutex::default(), waits }
    }

    /// Waits for the right to write. First come, first served.
    pub(crate) async fn permit(&self) -> WritePermit {
        WritePermit(place(&self.permits).await)
    }

    /// A connection that is alive.
    pub(crate) async fn writer(&self) -> sqlx::Result<Writer> {
        let begun = Instant::now();
        let writer = self.alive().await;
        self.waits.record(begun.elapsed().as_secs_f64());
        writer
    }

    async fn alive(&self) -> sqlx::Result<Writer> {
        let place = place(&self.connections).await;
        if let Some((mut connection, used)) = self.pop() {
            if used.elapsed() < FRESH || matches!(timeout(PING_TIMEOUT, connection.ping()).await, Ok(Ok(()))) {
                return Ok(Writer { connection: ReadConnection::new(connection), _place: place });
            }
            // It broke while it rested. Closed, not released: the pool could not mend it.
            drop(connection.detach());
        }
        let connection = self.database.writing_pool().acquire().await?;
        Ok(Writer { connection: ReadConnection::new(connection), _place: place })
    }

    /// How long a batch may take: longer than the database lets a statement run.
    pub(crate) fn patience(&self) -> Duration {
        self.database.statement_timeout() + MARGIN
    }

    /// Keeps the connection for the next batch.
    pub(crate) fn keep(&self, writer: Writer) {
        self.kept.lock().expect("the list is never poisoned").push((writer.connection.into_inner(), Instant::now()));
    }

    /// Takes back the connection of a batch that failed, as what the database said of it asks for.
    pub(crate) async fn failed(&self, mut writer: Writer, error: &anyhow::Error) {
        match Meaning::of_any(error) {
            // The next connections find whoever is in charge by then.
            Meaning::Outage => {
                self.database.refused(causes(error));
                writer.close();
                self.close();
            }
            // The same batch, begun again, finds this connection and no other.
            Meaning::StalePlan => {
                self.close();
                if writer.connection.writable().clear_cached_statements().await.is_ok() {
                    self.keep(writer);
                }
            }
            // Rolled back before anybody else has it.
            Meaning::Conflict | Meaning::Busy | Meaning::Own => {}
        }
    }

    /// Lets go of the kept connections, so that the pool can be closed.
    pub(crate) fn release(&self) {
        self.take_kept().clear();
    }

    /// Closes the kept connections.
    fn close(&self) {
        self.take_kept().into_iter().for_each(|(connection, _)| drop(connection.detach()));
    }

    fn take_kept(&self) -> Vec<(PoolConnection<Postgres>, Instant)> {
        std::mem::take(&mut *self.kept.lock().expect("the list is never poisoned"))
    }

    fn pop(&self) -> Option<(PoolConnection<Postgres>, Instant)> {
        self.kept.lock().expect("the list is never poisoned").pop()
    }
}

async fn place(places: &Arc<Semaphore>) -> OwnedSemaphorePermit {
    places.clone().acquire_owned().await.expect("the semaphore is never closed")
}
