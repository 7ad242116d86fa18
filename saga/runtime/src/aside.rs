//! Sagas that could not be decided step aside, each with a wait of its own that grows, so that they hold up no other.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use uuid::Uuid;

/// The longest wait: whoever mended such an order does not wait for long, and many of them cost little.
const LONGEST: Duration = Duration::from_secs(300);

/// Sagas remembered, each with why; some megabytes. Those beyond are tried again each time, which is slow and loses nothing.
const REMEMBERED: usize = 20_000;

/// So much is remembered of why.
const LONGEST_WHY: usize = 300;

/// In this process only: another build may well decide what this one cannot.
#[derive(Default)]
pub struct Aside(Mutex<HashMap<Uuid, Failed>>);

struct Failed {
    wait: Duration,
    until: Instant,
    why: String,
}

impl Aside {
    /// Whether a saga's wait is over, or it has none.
    pub fn may_try(&self, id: Uuid, now: Instant) -> bool {
        self.0.lock().expect("never poisoned").get(&id).is_none_or(|failed| failed.until <= now)
    }

    /// It failed, and why: twice as long as before until it is tried again. Returns how long.
    pub fn put(&self, id: Uuid, why: &str, first: Duration, now: Instant) -> Duration {
        let mut sagas = self.0.lock().expect("never poisoned");
        let wait = sagas.get(&id).map_or(first, |failed| failed.wait * 2).min(LONGEST);
        if sagas.len() < REMEMBERED || sagas.contains_key(&id) {
            let why = why.chars().take(LONGEST_WHY).collect();
            sagas.insert(id, Failed { wait, until: now + wait, why });
        }
        wait
    }

    /// It was decided.
    pub fn clear(&self, id: Uuid) {
        self.0.lock().expect("never poisoned").remove(&id);
    }

    /// Those that are set aside.
    pub fn ids(&self) -> Vec<Uuid> {
        self.0.lock().expect("never poisoned").keys().copied().collect()
    }

    /// Why one is, if it is.
    pub fn why(&self, id: Uuid) -> Option<String> {
        self.0.lock().expect("never poisoned").get(&id).map(|failed| failed.why.clone())
    }

    /// How many are set aside. What nobody asked for any more is forgotten: it was put right, or carried on by another instance.
    pub fn count(&self, now: Instant) -> usize {
        let mut sagas = self.0.lock().expect("never poisoned");
        sagas.retain(|_, failed| failed.until + LONGEST > now);
        sagas.len()
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn each_failure_doubles_a_sagas_wait_and_success_ends_it() {
        let (aside, now) = (Aside::default(), Instant::now());
        let (first, [bad, good]) = (Duration::from_secs(1), [1, 2].map(Uuid::from_u128));
        let waits: Vec<u64> = (0..11).map(|_| aside.put(bad, "no", first, now).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        assert!(!aside.may_try(bad, now + Duration::from_secs(299)) && aside.may_try(bad, now + LONGEST));
        assert!(aside.may_try(good, now));
        assert_eq!((aside.ids(), aside.why(bad).as_deref(), aside.why(good)), (vec![bad], Some("no"), None));
        aside.clear(bad);
        assert!(aside.may_try(bad, now) && aside.ids().is_empty());
    }

    #[test]
    fn what_is_remembered_is_bounded_and_what_nobody_asks_for_is_forgotten() {
        let (aside, now) = (Aside::default(), Instant::now());
        let saga = |number: usize| Uuid::from_u128(number as u128);
        for number in 0..=REMEMBERED {
            aside.put(saga(number), "no", LONGEST, now);
        }
        assert_eq!(aside.count(now), REMEMBERED);
        assert!(aside.may_try(saga(REMEMBERED), now), "there was no room for it");
        assert_eq!(aside.count(now + 2 * LONGEST), 0);
    }
}
