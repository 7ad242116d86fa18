//! When orders are due in the open loop.

use std::time::{Duration, Instant};

/// The moments, evenly spaced, without end. Each is computed from the first, so that roundings do not add up.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    begin: Instant,
    rate: f64,
    number: u64,
}

impl Schedule {
    /// So many a second from `begin` on.
    pub fn new(begin: Instant, rate: f64) -> Self {
        Self { begin, rate, number: 0 }
    }
}

impl Iterator for Schedule {
    type Item = Instant;

    fn next(&mut self) -> Option<Instant> {
        let due = self.begin + Duration::from_secs_f64(self.number as f64 / self.rate);
        self.number += 1;
        Some(due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_kept_to_the_last_order_of_an_hour() {
        let begin = Instant::now();
        for rate in [1.0, 3.0, 7_000.0] {
            let hour = (rate * 3_600.0) as usize;
            let last = Schedule { number: hour as u64, ..Schedule::new(begin, rate) }.next().unwrap();
            let off = (last - begin).as_secs_f64() - 3_600.0;
            assert!(off.abs() < 1e-6, "{rate}: {off}");
        }
    }

    #[test]
    fn moments_are_evenly_spaced_and_do_not_depend_on_when_they_are_asked_for() {
        let begin = Instant::now();
        let due: Vec<_> = Schedule::new(begin, 4.0).take(5).map(|due| (due - begin).as_millis()).collect();
        assert_eq!(due, [0, 250, 500, 750, 1_000]);
    }
}
