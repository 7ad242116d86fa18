//! A line of the log that one message could repeat without end: one a second at most, with how many there were.

use std::sync::Mutex;
use std::time::{Duration, Instant};

/// How often such a line is written.
const EVERY: Duration = Duration::from_secs(1);

/// Counts what happened, and says when a line about it is due.
#[derive(Debug, Default)]
pub struct Seldom(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    count: u64,
    said: Option<Instant>,
}

impl Seldom {
    /// It happened so many times more. How often since the last line, if one is due; the first is due at once.
    pub fn happened(&self, times: u64) -> Option<u64> {
        self.at(Instant::now(), times)
    }

    fn at(&self, now: Instant, times: u64) -> Option<u64> {
        if times == 0 {
            return None;
        }
        let mut inner = self.0.lock().expect("the count is never poisoned");
        inner.count += times;
        let due = inner.said.is_none_or(|said| now.saturating_duration_since(said) >= EVERY);
        due.then(|| {
            inner.said = Some(now);
            std::mem::take(&mut inner.count)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_due_once_a_second_and_counts_what_was_not_said() {
        let (seldom, begun) = (Seldom::default(), Instant::now());
        let at = |millis, times| seldom.at(begun + Duration::from_millis(millis), times);
        assert_eq!((at(0, 0), at(0, 3), at(10, 256), at(999, 1)), (None, Some(3), None, None));
        assert_eq!((at(1_000, 2), at(1_001, 1), at(5_000, 0), at(5_000, 1)), (Some(259), None, None, Some(2)));
    }
}
