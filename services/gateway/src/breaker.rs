//! A circuit breaker: a service that answers nobody is asked by one client at a time, and the others are told at once.
//!
//! It counts failures in a row, not a rate: one answer, whatever its status, proves the service alive. While open, one request per
//! interval passes as a probe, so nothing needs to be handed back when that client goes away, and a probe that hangs delays
//! neither the next one nor the recovery. (Breakers that let everybody through while half-open would send each interval's
//! whole traffic into a hanging service.)

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// The breaker of one service.
pub struct Breaker {
    name: &'static str,
    threshold: u32,
    probe_interval: Duration,
    /// Since the last answer. Open from the threshold on. Relaxed: it guards no other data.
    failures: AtomicU32,
    /// When the next request may pass while open.
    next_probe: Mutex<Instant>,
}

impl Breaker {
    /// A closed breaker.
    pub fn new(name: &'static str, threshold: u32, probe_interval: Duration) -> Self {
        Self { name, threshold, probe_interval, failures: AtomicU32::new(0), next_probe: Mutex::new(Instant::now()) }
    }

    /// Whether a request may pass.
    pub fn admits(&self, now: Instant) -> bool {
        if self.failures.load(Relaxed) < self.threshold {
            return true;
        }
        let mut next_probe = self.next_probe.lock().expect("the breaker is never poisoned");
        let due = *next_probe <= now;
        if due {
            *next_probe = now + self.probe_interval;
        }
        due
    }

    /// The service answered.
    pub fn succeeded(&self) {
        // Read first: a store per request would bounce the cache line between the cores for nothing.
        if self.failures.load(Relaxed) > 0 && self.failures.swap(0, Relaxed) >= self.threshold {
            tracing::info!(upstream = self.name, "the service answers again");
        }
    }

    /// The service did not answer.
    pub fn failed(&self, now: Instant) {
        if self.failures.fetch_add(1, Relaxed) + 1 == self.threshold {
            *self.next_probe.lock().expect("the breaker is never poisoned") = now + self.probe_interval;
            tracing::warn!(upstream = self.name, "the service does not answer; its clients are turned away until it does");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(1);

    fn breaker() -> (Breaker, Instant) {
        (Breaker::new("test", 3, INTERVAL), Instant::now())
    }

    #[test]
    fn opens_after_failures_in_a_row_only() {
        let (breaker, now) = breaker();
        for _ in 0..10 {
            breaker.failed(now);
            breaker.failed(now);
            assert!(breaker.admits(now));
            breaker.succeeded();
        }
        (0..3).for_each(|_| breaker.failed(now));
        assert!(!breaker.admits(now));
    }

    #[test]
    fn lets_one_request_through_per_interval_while_open() {
        let (breaker, now) = breaker();
        (0..3).for_each(|_| breaker.failed(now));
        for interval in 1..4 {
            let then = now + INTERVAL * interval;
            assert!(breaker.admits(then));
            assert!(!breaker.admits(then));
            if interval == 2 {
                breaker.failed(then);
            }
        }
    }

    #[test]
    fn closes_with_the_first_answer() {
        let (breaker, now) = breaker();
        (0..5).for_each(|_| breaker.failed(now));
        assert!(breaker.admits(now + INTERVAL));
        breaker.succeeded();
        assert!((0..100).all(|_| breaker.admits(now)));
    }
}
