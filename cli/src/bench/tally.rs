//! What one run counts: how many orders ended how, how long each took, what went wrong.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

/// The longest latency told apart; a longer one counts as this. Microseconds.
const LONGEST_US: u64 = 3_600_000_000;

/// How an order ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Every step is done.
    Confirmed,
    /// It will not be.
    Rejected,
    /// Somebody called it off; not us.
    Cancelled,
}

/// The time that is measured, after the warm-up.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// When it begins.
    pub start: Instant,
    /// When it ends, and no more orders are sent.
    pub end: Instant,
}

impl Window {
    fn holds(&self, moment: Instant) -> bool {
        self.start <= moment && moment < self.end
    }
}

/// The counts of one run. Latency and errors are those of orders submitted in the window, whenever they ended: an order that takes
/// longer than the window is not forgotten. Throughput is what ended in the window, whenever it was submitted.
#[derive(Debug)]
pub struct Tally {
    /// What is counted.
    pub window: Window,
    finals: AtomicU64,
    counts: Mutex<Counts>,
}

/// What was counted.
#[derive(Clone, Debug)]
pub struct Counts {
    /// From submission to the final state, in microseconds.
    pub latency: Histogram<u64>,
    /// Orders that ended in the window.
    pub confirmed: u64,
    /// The same.
    pub rejected: u64,
    /// The same.
    pub cancelled: u64,
    /// What went wrong, by kind.
    pub errors: BTreeMap<String, u64>,
}

impl Counts {
    /// Orders that ended in the window.
    pub fn ended(&self) -> u64 {
        self.confirmed + self.rejected + self.cancelled
    }
}

impl Tally {
    /// Nothing counted yet.
    pub fn new(window: Window) -> Self {
        let latency = histogram();
        let counts = Counts { latency, confirmed: 0, rejected: 0, cancelled: 0, errors: BTreeMap::new() };
        Self { window, finals: AtomicU64::new(0), counts: Mutex::new(counts) }
    }

    /// An order submitted (or due to be) at `since` ended at `at`.
    pub fn ended(&self, since: Instant, at: Instant, outcome: Outcome) {
        self.finals.fetch_add(1, Ordering::Relaxed);
        let mut counts = self.lock();
        if self.window.holds(at) {
            match outcome {
                Outcome::Confirmed => counts.confirmed += 1,
                Outcome::Rejected => counts.rejected += 1,
                Outcome::Cancelled => counts.cancelled += 1,
            }
        }
        if self.window.holds(since) {
            counts.latency.saturating_record(microseconds(at.saturating_duration_since(since)));
        }
    }

    /// An order submitted at `since` came to nothing. During the warm-up that is no news.
    pub fn failed(&self, since: Instant, kind: &str) {
        if self.window.holds(since) {
            self.lost(kind);
        }
    }

    /// Something went wrong that must be known whenever it happened.
    pub fn lost(&self, kind: &str) {
        let mut counts = self.lock();
        match counts.errors.get_mut(kind) {
            Some(count) => *count += 1,
            None => drop(counts.errors.insert(kind.to_owned(), 1)),
        }
    }

    /// How many orders ended so far, warm-up included: for those who watch.
    pub fn finals(&self) -> u64 {
        self.finals.load(Ordering::Relaxed)
    }

    /// The counts as they are now.
    pub fn counts(&self) -> Counts {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A histogram of microseconds, true to three digits.
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST_US, 3).expect("bounds that fit")
}

/// A percentile in milliseconds; 0 where nothing was recorded.
pub fn percentile_ms(latency: &Histogram<u64>, percentile: f64) -> f64 {
    latency.value_at_percentile(percentile) as f64 / 1_000.0
}

fn microseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally() -> (Tally, Instant) {
        let start = Instant::now() + Duration::from_secs(10);
        (Tally::new(Window { start, end: start + Duration::from_secs(10) }), start)
    }

    #[test]
    fn percentiles_are_those_of_the_orders_submitted_in_the_window() {
        let (tally, start) = tally();
        for ms in 1..=1_000 {
            tally.ended(start, start + Duration::from_millis(ms), Outcome::Confirmed);
        }
        tally.ended(start - Duration::from_secs(5), start, Outcome::Confirmed);
        let latency = tally.counts().latency;
        assert_eq!(latency.len(), 1_000);
        for (percentile, ms) in [(50.0, 500.0), (90.0, 900.0), (99.0, 990.0), (99.9, 999.0), (100.0, 1_000.0)] {
            let found = percentile_ms(&latency, percentile);
            assert!((found / ms - 1.0).abs() < 0.002, "p{percentile}: {found} for {ms}");
        }
        assert_eq!(percentile_ms(&histogram(), 50.0), 0.0);
    }

    #[test]
    fn throughput_is_what_ended_in_the_window_and_latency_what_began_there() {
        let (tally, start) = tally();
        let (before, within, after) =
            (start - Duration::from_secs(1), start + Duration::from_secs(1), start + Duration::from_secs(11));
        tally.ended(before, within, Outcome::Confirmed);
        tally.ended(within, within, Outcome::Rejected);
        tally.ended(within, after, Outcome::Confirmed);
        tally.failed(before, "503");
        tally.failed(within, "503");
        let counts = tally.counts();
        assert_eq!((counts.confirmed, counts.rejected, counts.ended(), counts.latency.len()), (1, 1, 2, 2));
        assert_eq!((counts.errors["503"], tally.finals()), (1, 3));
    }
}
