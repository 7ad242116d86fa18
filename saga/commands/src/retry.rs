//! Patience with a server that is busy or away: try again, slower each time, never sooner than it asks.

use std::cell::Cell;
use std::time::{Duration, Instant};

use backon::{ExponentialBuilder, Retryable};

use crate::problem::Failure;

const FIRST_DELAY: Duration = Duration::from_millis(100);
const LONGEST_DELAY: Duration = Duration::from_secs(5);

/// Repeats a request while its failure is transient and the patience lasts. Only for requests that may be repeated: reads,
/// and writes that carry an idempotency key.
pub async fn patiently<T>(
    patience: Duration,
    mut on_retry: impl FnMut(&Failure),
    attempt: impl AsyncFn() -> Result<T, Failure>,
) -> Result<T, Failure> {
    let started = Instant::now();
    let delays =
        ExponentialBuilder::new().with_jitter().with_min_delay(FIRST_DELAY).with_max_delay(LONGEST_DELAY).without_max_times();
    (|| attempt())
        .retry(delays)
        .when(|failure| failure.is_transient() && started.elapsed() < patience)
        .adjust(|failure, planned| {
            planned.map(|delay| pause(delay, failure.retry_after(), patience.saturating_sub(started.elapsed())))
        })
        .notify(|failure, _| on_retry(failure))
        .await
}

/// How long a change is repeated of which nobody knows whether it was carried out.
const DOUBT: Duration = Duration::from_secs(5);

/// A change that failed.
#[derive(Debug)]
pub struct Unmade {
    failure: Failure,
    may_have_happened: bool,
}

impl Unmade {
    /// The failure, with what can be done about a change that may have been carried out.
    pub fn or_perhaps(self, advice: impl FnOnce() -> String) -> anyhow::Error {
        let failure = anyhow::Error::from(self.failure);
        if self.may_have_happened { failure.context(advice()) } else { failure }
    }
}

/// Repeats a change that bears an idempotency key while it may have been carried out and its answer was lost. What cannot have happened is told
/// at once.
pub async fn surely<T>(attempt: impl AsyncFn() -> Result<T, Failure>) -> Result<T, Unmade> {
    let started = Instant::now();
    let may_have_happened = Cell::new(false);
    let in_doubt = |failure: &Failure| {
        may_have_happened.set(failure.is_transient() && (may_have_happened.get() || failure.may_have_happened()));
        may_have_happened.get()
    };
    let delays =
        ExponentialBuilder::new().with_jitter().with_min_delay(FIRST_DELAY).with_max_delay(LONGEST_DELAY).without_max_times();
    let result = (|| attempt()).retry(delays).when(|failure| in_doubt(failure) && started.elapsed() < DOUBT).await;
    result.map_err(|failure| Unmade { may_have_happened: in_doubt(&failure), failure })
}

/// How long to pause: as planned, not less than the server asks, not past the end of the patience.
fn pause(planned: Duration, asked: Option<Duration>, left: Duration) -> Duration {
    planned.max(asked.unwrap_or_default()).min(left)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_may_slow_us_down_but_not_past_our_patience() {
        let [short, second, long] = [100, 1_000, 60_000].map(Duration::from_millis);
        assert_eq!(pause(short, None, long), short);
        assert_eq!(pause(short, Some(second), long), second);
        assert_eq!(pause(second, Some(short), long), second);
        assert_eq!(pause(short, Some(long), second), second);
    }
}
