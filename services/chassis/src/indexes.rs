//! Indexes that a large table gets while it is in use. A migration would keep everybody from writing to it until the index is there, and holds
//! the lock of all migrations meanwhile.

use std::time::Duration;

use sqlx::{Connection as _, PgConnection};
use tokio_util::sync::CancellationToken;

use crate::database::Database;

/// How soon it is tried again.
const AGAIN: Duration = Duration::from_secs(30);

/// An index, and the statements for it, both `concurrently`, which no transaction may be around.
#[derive(Clone, Copy, Debug)]
pub struct Index {
    /// Its name.
    pub name: &'static str,
    /// Makes it.
    pub create: &'static str,
    /// Removes what was begun and not finished.
    pub drop: &'static str,
}

impl Index {
    /// Makes the index, unless it is there or another instance is at it; tries again until it is there, or shutdown. What needs the index is only
    /// slower without.
    pub async fn ensure(self, database: Database, shutdown: CancellationToken) {
        loop {
            // In a task of its own: it may take longer than a shutdown should, and the server goes on without us or starts anew next time.
            let (options, work) = (database.patient_options(), self);
            let made = tokio::spawn(async move {
                let mut db = PgConnection::connect_with(&options).await?;
                let made = work.make(&mut db).await?;
                db.close().await?;
                Ok::<bool, sqlx::Error>(made)
            });
            let made = tokio::select! {
                made = made => made,
                () = shutdown.cancelled() => return,
            };
            match made {
                Ok(Ok(true)) => return,
                Ok(Ok(false)) => {}
                Ok(Err(error)) => tracing::warn!(index = self.name, %error, "the index cannot be made; trying again"),
                Err(_) => return, // The runtime is going down.
            }
            tokio::select! {
                () = tokio::time::sleep(AGAIN) => {}
                () = shutdown.cancelled() => return,
            }
        }
    }

    /// `false`: another instance is at it.
    async fn make(self, db: &mut PgConnection) -> sqlx::Result<bool> {
        // Not waited for: making an index waits for every transaction, also for one that waits for this lock.
        let ours: bool = sqlx::query_scalar("select pg_try_advisory_lock(hashtextextended($1, 0))")
            .bind(self.name)
            .fetch_one(&mut *db)
            .await?;
        if !ours {
            return Ok(false);
        }
        let valid: Option<bool> = sqlx::query_scalar("select indisvalid from pg_index where indexrelid = to_regclass($1)")
            .bind(self.name)
            .fetch_optional(&mut *db)
            .await?;
        if valid == Some(true) {
            return Ok(true);
        }
        tracing::info!(index = self.name, "making an index beside the work");
        if valid == Some(false) {
            // Whoever began it did not come to its end.
            sqlx::query(self.drop).execute(&mut *db).await?;
        }
        sqlx::query(self.create).execute(db).await?;
        Ok(true)
    }
}
