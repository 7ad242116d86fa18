//! How many rows are in the outbox and how old the oldest is, for /metrics and /readyz.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::Outbox;
use super::rows::{self, COUNT_MAX, Standing};
use crate::database::Reader;
use crate::health::Health;

/// How often is counted.
const COUNT_EVERY: Duration = Duration::from_secs(5);

/// What `/readyz` calls it.
const OUTBOX: &str = "outbox";

impl Outbox {
    /// Counts until shutdown.
    pub(super) async fn watch(&self, health: &Health, shutdown: &CancellationToken) {
        let mut before = None;
        while !shutdown.is_cancelled() {
            let behind: Vec<Uuid> = self.behind().iter().copied().collect();
            let count = |mut db: Reader| {
                let behind = behind.clone();
                async move { rows::standing(&mut **db, &behind).await }
            };
            if let Ok(standing) = self.0.database.read(count).await {
                self.0.metrics.outbox(standing.rows, standing.refused, standing.age);
                health.note(OUTBOX, note(&standing));
                match stale(&standing, before, self.0.settings.outbox_stale_after) {
                    Some(why) => health.set(OUTBOX, Err(why)),
                    None => health.forget(OUTBOX),
                }
                before = standing.oldest.map(|(id, _)| id);
            }
            tokio::select! {
                () = tokio::time::sleep(COUNT_EVERY.min(self.0.settings.outbox_stale_after)) => {}
                () = shutdown.cancelled() => {}
            }
        }
    }
}

fn note(standing: &Standing) -> String {
    let more = if standing.rows == COUNT_MAX { " or more" } else { "" };
    let mut note = match standing.rows {
        0 => "empty".to_owned(),
        rows => format!("{rows}{more} rows to publish, the oldest for {:.1} s", standing.age),
    };
    if standing.refused > 0 {
        note += &format!("; {} set aside after refusals", standing.refused);
        if let Some((row, why)) = &standing.last_error {
            note += &format!(": the row {row}: {}", why.escape_debug());
        }
    }
    note
}

/// Why the service is not ready: a row that nothing but the relay stands in the way of. One that the broker refuses is no reason, nor is one
/// that waits behind it: they are set aside, and the rest goes on. Seen twice, so that a clock that was set ahead makes no row old.
fn stale(standing: &Standing, before: Option<Uuid>, after: Duration) -> Option<String> {
    let (id, age) = standing.oldest.filter(|(id, age)| before == Some(*id) && *age > after.as_secs_f64())?;
    let why = standing.oldest_error.as_deref().unwrap_or("it was not tried: is the broker there, with every stream?");
    Some(format!("the row {id} has waited to be published for {age:.0} s: {}", why.escape_debug()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_that_waits_for_nothing_but_the_relay_shows() {
        let (id, after) = (Uuid::from_u128(7), Duration::from_secs(60));
        let mut standing = Standing { rows: 2, oldest: Some((id, 61.0)), age: 61.0, ..Standing::default() };
        assert_eq!(stale(&standing, None, after), None);
        assert!(stale(&standing, Some(id), after).unwrap().contains("for 61 s: it was not tried"));
        standing.oldest_error = Some("a.b: no stream".to_owned());
        assert!(stale(&standing, Some(id), after).unwrap().ends_with("for 61 s: a.b: no stream"));
        assert_eq!(note(&standing), "2 rows to publish, the oldest for 61.0 s");
        (standing.refused, standing.last_error, standing.oldest) = (1, Some((id, "too\nlarge".to_owned())), None);
        assert_eq!(stale(&standing, Some(id), after), None);
        let refused = format!("2 rows to publish, the oldest for 61.0 s; 1 set aside after refusals: the row {id}: too\\nlarge");
        assert_eq!(note(&standing), refused);
        assert_eq!(note(&Standing::default()), "empty");
    }
}
