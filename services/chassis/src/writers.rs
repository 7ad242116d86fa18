//! The connections that write: few, and each kept from batch to batch.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::{Executor, PgConnection, Postgres};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::database::Database;

/// How long a kept connection may take to begin a transaction before it is given up for a new one.
const BEGIN_TIMEOUT: Duration = Duration::from_secs(5);

/// The connections a service writes on.
pub(crate) struct Writers {
    database: Database,
    turns: Arc<Semaphore>,
    kept: Mutex<Vec<PoolConnection<Postgres>>>,
}

/// The right to run a transaction. Take it before gathering a batch: what arrives while waiting for it shares the transaction.
pub struct Turn(#[allow(dead_code)] OwnedSemaphorePermit);

impl Writers {
    pub(crate) fn new(database: Database, at_once: usize) -> Self {
        Self { database, turns: Arc::new(Semaphore::new(at_once)), kept: Mutex::default() }
    }

    /// Waits for a turn. First come, first served.
    pub(crate) async fn turn(&self) -> Turn {
        Turn(self.turns.clone().acquire_owned().await.expect("the turns are never closed"))
    }

    /// A connection inside a new transaction. Dropped there, it is rolled back before anybody else has it.
    pub(crate) async fn begin(&self) -> sqlx::Result<PoolConnection<Postgres>> {
        if let Some(mut connection) = self.pop() {
            match tokio::time::timeout(BEGIN_TIMEOUT, begin(&mut connection)).await {
                Ok(Ok(())) => return Ok(connection),
                // It broke since its last commit, and nothing was done on it. Closed, not released: the pool could not mend it.
                _ => drop(connection.detach()),
            }
        }
        let mut connection = self.database.writing_pool().acquire().await?;
        begin(&mut connection).await?;
        Ok(connection)
    }

    /// Commits, and keeps the connection for the next batch.
    pub(crate) async fn commit(&self, mut connection: PoolConnection<Postgres>) -> sqlx::Result<()> {
        connection.execute("commit").await?;
        self.kept.lock().expect("the list is never poisoned").push(connection);
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

async fn begin(connection: &mut PgConnection) -> sqlx::Result<()> {
    connection.execute("begin").await.map(drop)
}
