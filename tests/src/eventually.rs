//! Waiting without sleep-and-hope.

use std::fmt::Debug;
use std::time::{Duration, Instant};

/// How often is looked. Short, as every test waits somewhere.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Looks until `look` says `Ok`; past the deadline panics with what was seen last.
pub async fn eventually<T, E, F, L>(within: Duration, mut look: L) -> T
where
    E: Debug,
    F: Future<Output = Result<T, E>>,
    L: FnMut() -> F,
{
    let deadline = Instant::now() + within;
    loop {
        match look().await {
            Ok(value) => return value,
            Err(seen) if Instant::now() > deadline => panic!("not within {within:?}; last seen: {seen:#?}"),
            Err(_) => tokio::time::sleep(LOOK_EVERY).await,
        }
    }
}
