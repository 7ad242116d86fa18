//! A circuit breaker: a service that answers nobody is asked by one client at a time, and the others are told at once.
//!
//! It counts failures in a row, not a rate: one answer, whatever its status, proves the service alive. So does it count the gateway's own looks
//! that stay without an answer: no client has to wait until a frozen service is known to be one. While open, one request per
//! interval passes as a probe, so nothing needs to be handed back when that client goes away, and a probe that hangs delays
//! neither the next one nor the recovery. (Breakers that let everybody through while half-open would send each interval's
//! whole traffic into a hanging service.)

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Looks in a row without an answer that open it. One alone may have met a machine that is busy.
const SILENT_LOOKS: u32 = 3;

/// The breaker of one service.
pub struct Breaker {
    name: &'static str,
    threshold: u32,
    probe_interval: Duration,
    /// Since the last answer. Open from the threshold on. Relaxed: it guards no other data.
    failures: AtomicU32,
    /// Looks since the last answer, to a look or to a request.
    silent_looks: AtomicU32,
    /// When the next request may pass while open.
    next_probe: Mutex<Instant>,
}

impl Breaker {
    /// A closed breaker.
    pub fn new(name: &'static str, threshold: u32, probe_interval: Duration) -> Self {
        let (failures, silent_looks) = (AtomicU32::new(0), AtomicU32::new(0));
        Self { name, threshold, probe_interval, failures, silent_looks, next_probe: Mutex::new(Instant::now()) }
    }

    /// Whether a request may pass.
    pub fn admits(&self, now: Instant) -> bool {
        if self.failures.load(Relaxed) < self.threshold && self.silent_looks.load(Relaxed) < SILENT_LOOKS {
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
        self.looked(true);
    }

    /// The gateway looked for itself whether the service answers.
    pub fn looked(&self, answered: bool) {
        if !answered {
            if self.silent_looks.fetch_add(1, Relaxed) + 1 == SILENT_LOOKS {
                tracing::warn!(upstream = self.name, "the service is silent; its clients are turned away until it answers");
            }
        } else if self.silent_looks.load(Relaxed) > 0 && self.silent_looks.swap(0, Relaxed) >= SILENT_LOOKS {
            tracing::info!(upstream = self.name, "the service is no longer silent");
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

    #[test]
    fn opens_after_silent_looks_and_closes_with_any_answer() {
        let (breaker, mut now) = breaker();
        for answered in [breaker_looked, Breaker::succeeded] {
            now += INTERVAL * 2;
            (0..SILENT_LOOKS - 1).for_each(|_| breaker.looked(false));
            assert!(breaker.admits(now));
            breaker.looked(false);
            assert!(breaker.admits(now + INTERVAL), "one is let through");
            assert!(!breaker.admits(now + INTERVAL));
            answered(&breaker);
            assert!((0..10).all(|_| breaker.admits(now)));
        }
        (0..3).for_each(|_| breaker.failed(now));
        breaker.looked(true);
        assert!(!breaker.admits(now), "health alone is no answer to a request");
    }

    fn breaker_looked(breaker: &Breaker) {
        breaker.looked(true);
    }
}
