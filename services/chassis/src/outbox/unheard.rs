//! Messages whose subject no stream takes. A stream that was lost comes back within seconds; one that never was there never will.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::unpublished::{Cause, Unpublished};

/// The most that passes between two attempts at one row. Longer, and somebody else was at it, or the broker was away: it begins anew.
const GAP_MAX: Duration = Duration::from_secs(60);

/// Rows are kept up to this number; beyond, they wait as they do in an outage.
const ROWS_MAX: usize = 10_000;

/// For how long this relay has seen, attempt after attempt, that no stream takes a message of a row, while the broker answered. By a clock
/// that nobody can set.
#[derive(Default)]
pub(super) struct Unheard(HashMap<Uuid, (Instant, Instant)>);

impl Unheard {
    /// How an attempt at a row failed; returns since when no stream takes what is in it.
    pub(super) fn saw(&mut self, row: Uuid, failures: &[(usize, Unpublished)]) -> Duration {
        self.saw_at(Instant::now(), row, failures)
    }

    fn saw_at(&mut self, now: Instant, row: Uuid, failures: &[(usize, Unpublished)]) -> Duration {
        let has = |cause| failures.iter().any(|(_, failure)| failure.cause == cause);
        // In an outage nobody knows which streams there will be after it.
        if has(Cause::Outage) || !has(Cause::Unheard) {
            self.0.remove(&row);
            return Duration::ZERO;
        }
        if self.0.len() >= ROWS_MAX && !self.0.contains_key(&row) {
            self.0.retain(|_, (_, last)| now - *last <= GAP_MAX);
            if self.0.len() >= ROWS_MAX {
                return Duration::ZERO;
            }
        }
        let (since, last) = self.0.entry(row).or_insert((now, now));
        if now - *last > GAP_MAX {
            *since = now;
        }
        *last = now;
        now - *since
    }

    /// The connection broke, or came back: what was seen before says nothing.
    pub(super) fn forget(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_seen_without_a_break_counts() {
        let (begun, row, other) = (Instant::now(), Uuid::from_u128(1), Uuid::from_u128(2));
        let unheard = [(0, Unpublished { cause: Cause::Unheard, reason: "no stream".to_owned() })];
        let at = |seconds| begun + Duration::from_secs(seconds);
        let mut seen = Unheard::default();
        let mut saw = |seconds, row, failures: &[_]| seen.saw_at(at(seconds), row, failures).as_secs();
        assert_eq!(
            [saw(0, row, &unheard), saw(15, row, &unheard), saw(16, other, &unheard), saw(30, row, &unheard)],
            [0, 15, 0, 30]
        );
        let outage = [(1, Unpublished::outage("away")), unheard[0].clone()];
        assert_eq!(
            [saw(31, row, &outage), saw(32, row, &unheard), saw(40, other, &unheard)],
            [0, 0, 24],
            "an outage begins it anew"
        );
        assert_eq!([saw(101, row, &unheard), saw(102, other, &unheard)], [0, 0], "and so does a gap");
        seen.forget();
        assert_eq!(seen.saw_at(at(103), row, &unheard).as_secs(), 0);
    }
}
