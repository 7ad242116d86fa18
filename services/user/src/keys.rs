//! Fills in the keys of addresses that were written without one: rows older than the column, and those of a build that does not know it.

use std::time::Duration;

use chassis::causes;
use chassis::database::Database;
use chassis::indexes::Index;
use events::Email;
use sqlx::Connection as _;
use tokio_util::sync::CancellationToken;

use crate::store;

/// Rows in one transaction.
const BATCH: i64 = 500;

/// How often is looked for rows that an older build has written meanwhile, while there is none.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Finds those rows.
const WITHOUT: Index = Index {
    name: "users_without_email_key",
    create: "create index concurrently users_without_email_key on users (id) where email_key is null",
    drop: "drop index concurrently users_without_email_key",
};

/// Runs until shutdown.
pub async fn fill(database: Database, shutdown: CancellationToken) {
    tokio::join!(WITHOUT.ensure(database.clone(), shutdown.clone()), fill_in(database, shutdown));
}

async fn fill_in(database: Database, shutdown: CancellationToken) {
    loop {
        let pause = match batch(&database).await {
            Ok(filled) if filled == BATCH => Duration::from_millis(50),
            Ok(_) => LOOK_EVERY,
            Err(error) => {
                tracing::warn!(error = causes(&error), "the keys of addresses cannot be filled in; trying again");
                LOOK_EVERY
            }
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = shutdown.cancelled() => return,
        }
    }
}

async fn batch(database: &Database) -> anyhow::Result<i64> {
    let filled = database.read(|mut db| async move {
        let mut tx = db.begin().await?;
        let rows = store::without_email_key(&mut tx, BATCH).await?;
        for (id, email) in &rows {
            // What an older build took and this one would not is compared as it is.
            let key = Email::new(email).map_or_else(|_| email.clone(), |email| email.key());
            store::set_email_key(&mut tx, *id, &key).await?;
        }
        tx.commit().await?;
        Ok::<i64, sqlx::Error>(rows.len() as i64)
    });
    Ok(filled.await?)
}
