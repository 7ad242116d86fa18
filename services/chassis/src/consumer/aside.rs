//! Events set aside because somebody else holds a row they need. Their messages are acknowledged; should this process die, their sagas ask
//! again.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// An event set aside.
pub(super) struct Aside<T> {
    /// The event.
    pub item: T,
    /// How often it was tried.
    tries: u32,
    due: Instant,
}

/// Events set aside, the first to come again in front; bounded.
pub(super) struct SetAside<T> {
    items: VecDeque<Aside<T>>,
    max: usize,
}

impl<T> Aside<T> {
    pub(super) fn new(item: T) -> Self {
        Self { item, tries: 0, due: Instant::now() }
    }
}

impl<T> SetAside<T> {
    pub(super) fn new(max: usize) -> Self {
        Self { items: VecDeque::new(), max }
    }

    /// Sets an event aside once more, to come again after a wait by its tries. Returns whether there was room.
    pub(super) fn put(&mut self, mut aside: Aside<T>, wait: impl FnOnce(u32) -> Duration) -> bool {
        if self.items.len() >= self.max {
            return false;
        }
        aside.due = Instant::now() + wait(aside.tries);
        aside.tries += 1;
        let place = self.items.partition_point(|other| other.due <= aside.due);
        self.items.insert(place, aside);
        true
    }

    /// Those that are due, at most so many.
    pub(super) fn take_due(&mut self, at_most: usize) -> Vec<Aside<T>> {
        let now = Instant::now();
        let due = self.items.partition_point(|aside| aside.due <= now).min(at_most);
        self.items.drain(..due).collect()
    }

    /// Waits until one is due; for ever where there is none.
    pub(super) async fn due(&self) {
        match self.items.front() {
            Some(first) => tokio::time::sleep_until(first.due.into()).await,
            None => std::future::pending().await,
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.items.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_aside_comes_again_by_its_time_and_no_more_than_there_is_room_for() {
        let mut aside = SetAside::new(3);
        let wait = |tries: u32| Duration::from_secs(60 * u64::from(tries));
        for item in 1..=3 {
            assert!(aside.put(Aside::new(item), |_| Duration::from_secs(60 * (3 - item))));
        }
        assert!(!aside.put(Aside::new(4), wait), "there is no room");
        let due = |aside: &mut SetAside<u64>| aside.take_due(2).into_iter().map(|aside| aside.item).collect::<Vec<_>>();
        assert_eq!(due(&mut aside), [3], "the others are not due");
        let mut again = Aside::new(5);
        again.tries = 1;
        assert!(aside.put(again, wait) && !aside.put(Aside::new(6), wait));
    }
}
