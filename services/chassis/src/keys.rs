//! Idempotency keys in tables of their own: of what leaves no row to keep the key on. They are kept for a time, then deleted.

use std::time::Duration;

use clap::Args;
use tokio_util::sync::CancellationToken;

use crate::database::{Database, Reader};
use crate::settings::{LONGEST, seconds_from};

/// How often is looked for keys that have expired.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// Keys deleted in one statement, and the pause between two: others come first.
const BATCH: i64 = 500;
const PAUSE: Duration = Duration::from_millis(200);

/// A client is promised this much, in seconds.
const LEAST: f64 = 86_400.0;

/// How long keys live.
#[derive(Args, Clone, Copy, Debug)]
pub struct KeySettings {
    /// Seconds after which an Idempotency-Key is forgotten that is not kept on what it made (that of a cancellation, or of a change); at least a
    /// day. Longer than any client goes on trying; what repeats a forgotten key is done again. Keys of things that were made last as long as
    /// these.
    #[arg(long, env = "WAYBILL_KEYS_EXPIRE_AFTER", default_value = "604800", value_parser = a_day_or_more)]
    pub keys_expire_after: Duration,
}

/// Reads a span of a day at least, in seconds.
///
/// # Errors
/// Says what it must be.
pub fn a_day_or_more(text: &str) -> Result<Duration, String> {
    seconds_from(text, LEAST, LONGEST)
}

/// Deletes expired rows (keys, replies, what operators did) until shutdown, few at a time. The statement is given the seconds a row lives and how many it may delete,
/// and leaves alone what somebody else is at: any number of instances may do this.
pub async fn expire(database: Database, after: Duration, statement: &'static str, shutdown: CancellationToken) {
    let seconds = after.as_secs_f64();
    while !shutdown.is_cancelled() {
        let delete = |mut db: Reader| async move { sqlx::query(statement).bind(seconds).bind(BATCH).execute(&mut **db).await };
        let more = match database.read(delete).await {
            Ok(done) => done.rows_affected() >= BATCH.unsigned_abs(),
            Err(error) => {
                tracing::warn!(%error, "expired rows are not deleted; trying again later");
                false
            }
        };
        tokio::select! {
            () = tokio::time::sleep(if more { PAUSE } else { LOOK_EVERY }) => {}
            () = shutdown.cancelled() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_lives_a_day_at_least() {
        assert_eq!(a_day_or_more("86400"), Ok(Duration::from_secs(86_400)));
        for wrong in ["86399", "0", "-1", "soon", "1e300"] {
            assert!(a_day_or_more(wrong).unwrap_err().contains(wrong), "{wrong}");
        }
    }
}
