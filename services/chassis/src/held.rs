//! Rows that somebody else holds: what needs one of them is set aside, so that it holds up nothing else.
//!
//! Found out once a batch has met a lock, and remembered: until such a row is looked at again, nobody waits for it.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use uuid::Uuid;

/// How long a row that nobody asks for any more is remembered.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(10);

/// What is known of the rows an item needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Known {
    /// Nobody was seen to hold one.
    Free,
    /// Somebody held one; by now it may be free, which is to be asked before it is waited for.
    Doubtful,
    /// Somebody holds one.
    Held,
}

/// The rows that were held when they were last looked at, each with the time from which it may be looked at again.
#[derive(Debug)]
pub(crate) struct Held {
    rows: Mutex<HashMap<Uuid, Instant>>,
    look_after: Duration,
}

impl Held {
    pub(crate) fn new(look_after: Duration) -> Self {
        Self { rows: Mutex::default(), look_after }
    }

    /// Nearly always.
    pub(crate) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// What is known of these rows together.
    pub(crate) fn known(&self, rows: &[Uuid]) -> Known {
        let (held, now) = (self.lock(), Instant::now());
        let known = |row| match held.get(row) {
            None => Known::Free,
            Some(look) if *look > now => Known::Held,
            Some(_) => Known::Doubtful,
        };
        rows.iter().map(known).max().unwrap_or(Known::Free)
    }

    /// Somebody holds these.
    pub(crate) fn hold(&self, rows: &[Uuid]) {
        let look = Instant::now() + self.look_after;
        self.lock().extend(rows.iter().map(|row| (*row, look)));
    }

    /// Nobody holds these.
    pub(crate) fn free(&self, rows: &[Uuid]) {
        let mut held = self.lock();
        held.retain(|row, _| !rows.contains(row));
    }

    /// Forgets rows that nobody has asked for in a long time.
    pub(crate) fn forget(&self) {
        let now = Instant::now();
        self.lock().retain(|_, look| now.duration_since(*look) < FORGOTTEN_AFTER);
    }

    /// What `/readyz` says of them.
    pub(crate) fn note(&self) -> Option<String> {
        self.forget();
        let held = self.lock();
        let first = held.keys().min()?;
        let more = match held.len() - 1 {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        Some(format!(
            "a transaction of somebody else holds the row {first}{more}: what needs it waits (pg_stat_activity shows who)"
        ))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, Instant>> {
        self.rows.lock().expect("the rows are never poisoned")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_held_row_is_waited_for_by_nobody_until_it_is_looked_at_again() {
        let (one, two) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let held = Held::new(Duration::from_secs(60));
        assert!(held.is_empty());
        held.hold(&[one]);
        assert_eq!((held.known(&[two]), held.known(&[two, one]), held.known(&[])), (Known::Free, Known::Held, Known::Free));
        held.hold(&[two]);
        let note = held.note().unwrap();
        assert!(note.contains("holds the row 00000000-0000-0000-0000-000000000001 and 1 more: "), "{note}");
        held.free(&[one, two]);
        assert!(held.is_empty());
        assert_eq!(held.note(), None);

        let held = Held::new(Duration::ZERO);
        held.hold(&[one]);
        assert_eq!(held.known(&[one, two]), Known::Doubtful);
        held.forget();
        assert!(!held.is_empty(), "it is still of interest");
    }
}
