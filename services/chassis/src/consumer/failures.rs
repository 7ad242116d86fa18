//! How often a message failed by its own fault. The broker's count of deliveries also has those that met an outage, which is nobody's fault.

use std::collections::HashMap;

/// Failures of its own after which an event is a dead letter.
const MAX: u32 = 3;

/// Messages remembered. Beyond them all are forgotten, and have all their tries again.
const REMEMBERED: usize = 10_000;

/// Messages that failed, by stream and sequence, as far as this process saw. Another instance counts for itself.
#[derive(Default)]
pub(super) struct Failures(HashMap<(&'static str, u64), u32>);

impl Failures {
    /// Whether a message that fails now has failed often enough.
    pub(super) fn is_last(&self, message: (&'static str, u64)) -> bool {
        self.0.get(&message).copied().unwrap_or_default() + 1 >= MAX
    }

    /// It failed, and comes again.
    pub(super) fn add(&mut self, message: (&'static str, u64)) {
        if self.0.len() >= REMEMBERED {
            self.0.clear();
        }
        *self.0.entry(message).or_default() += 1;
    }

    /// It is settled.
    pub(super) fn forget(&mut self, message: (&'static str, u64)) {
        if !self.0.is_empty() {
            self.0.remove(&message);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_third_failure_of_a_message_is_its_last() {
        let (mut failures, one, other) = (Failures::default(), ("A", 7), ("B", 7));
        for last in [false, false, true] {
            assert_eq!(failures.is_last(one), last);
            failures.add(one);
        }
        assert!(!failures.is_last(other));
        failures.forget(one);
        assert!(!failures.is_last(one), "sent back, it is as good as new");
        (0..=REMEMBERED as u64).for_each(|sequence| failures.add(("C", sequence)));
        assert!(failures.0.len() <= REMEMBERED);
    }
}
