//! The connections that write: few, and each kept from batch to batch.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::{Executor, PgConnection, Postgres};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::database::Database;

/// How long a kept connection may take to begin a transaction before it is given up for a new one.
const BEGIN_TIMEOUT: Duration = Duration::from_secs(5);

/// The connections a service writes on: one for each turn, and one more, because the next batch begins while the last is being committed.
pub(crate) struct Writers {
    database: Database,
    turns: Arc<Semaphore>,
    connections: Arc<Semaphore>,
    kept: Mutex<Vec<PoolConnection<Postgres>>>,
}

/// The right to run a transaction. Take it before gathering a batch: what arrives while waiting for it shares the transaction.
pub struct Turn(#[allow(dead_code)] OwnedSemaphorePermit);

/// A connection inside a transaction. Dropped before the commit, it is rolled back before anybody else has it.
pub(crate) struct Transaction {
    pub(crate) connection: PoolConnection<Postgres>,
    _place: OwnedSemaphorePermit,
}

impl Writers {
    pub(crate) fn new(database: Database, turns: u32) -> Self {
        let connections = Arc::new(Semaphore::new(connections(turns) as usize));
        Self { database, turns: Arc::new(Semaphore::new(turns as usize)), connections, kept: Mutex::default() }
    }

    /// Waits for a turn. First come, first served.
    pub(crate) async fn turn(&self) -> Turn {
        Turn(place(&self.turns).await)
    }

    /// Begins a transaction.
    pub(crate) async fn begin(&self) -> sqlx::Result<Transaction> {
        let place = place(&self.connections).await;
        if let Some(mut connection) = self.pop() {
            match tokio::time::timeout(BEGIN_TIMEOUT, begin(&mut connection)).await {
                Ok(Ok(())) => return Ok(Transaction { connection, _place: place }),
                // It broke since its last commit, and nothing was done on it. Closed, not released: the pool could not mend it.
                _ => drop(connection.detach()),
            }
        }
        let mut connection = self.database.writing_pool().acquire().await?;
        begin(&mut connection).await?;
        Ok(Transaction { connection, _place: place })
    }

    /// Commits, and keeps the connection for the next batch.
    pub(crate) async fn commit(&self, mut transaction: Transaction) -> sqlx::Result<()> {
        transaction.connection.execute("commit").await?;
        self.kept.lock().expect("the list is never poisoned").push(transaction.connection);
        Ok(())
    }

    /// Lets go of the connections, so that the pool can close.
    pub(crate) fn release(&self) {
        self.kept.lock().expect("the list is never poisoned").clear();
    }

    fn pop(&self) -> Option<PoolConnection<Postgres>> {
        self.kept.lock().expect("the list is never poisoned").pop()
    }
}

/// How many connections so many turns need.
pub(crate) fn connections(turns: u32) -> u32 {
    turns + 1
}

async fn place(places: &Arc<Semaphore>) -> OwnedSemaphorePermit {
    places.clone().acquire_owned().await.expect("the semaphore is never closed")
}

async fn begin(connection: &mut PgConnection) -> sqlx::Result<()> {
    connection.execute("begin").await.map(drop)
}
