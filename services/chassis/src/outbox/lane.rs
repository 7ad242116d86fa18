//! The rows this instance has left to its relay, and what they are about.
//!
//! A row is published by the task that committed it, at once, unless an earlier row about the same thing is still here: then it waits
//! behind that one. So the events of one thing go out in the order they were committed in.

use std::collections::{HashMap, HashSet};

use uuid::Uuid;

/// What the rows here may be about before they are only counted: some megabytes. Beyond, every row waits behind every other.
const THINGS_MAX: usize = 100_000;

/// Rows left to the relay.
#[derive(Default)]
pub(super) struct Lane {
    /// Each with the things it tells of; `None`: there was no room to keep them.
    rows: HashMap<Uuid, Option<Vec<Uuid>>>,
    /// How many rows are about a thing.
    things: HashMap<Uuid, usize>,
    /// Rows here of which nobody kept what they tell of.
    unknown: usize,
}

impl Lane {
    /// Whether a row about these things may be published past the lane.
    pub(super) fn lets_pass(&self, about: impl FnOnce() -> Vec<Uuid>) -> bool {
        self.unknown == 0 && (self.things.is_empty() || !about().iter().any(|thing| self.things.contains_key(thing)))
    }

    /// Leaves a row to the relay.
    pub(super) fn leave(&mut self, row: Uuid, about: Vec<Uuid>) {
        self.remove(row);
        let about = (self.things.len() + about.len() <= THINGS_MAX).then_some(about);
        match &about {
            None => self.unknown += 1,
            Some(about) => about.iter().for_each(|thing| *self.things.entry(*thing).or_default() += 1),
        }
        self.rows.insert(row, about);
    }

    /// A row is published, or is gone.
    pub(super) fn remove(&mut self, row: Uuid) {
        let Some(about) = self.rows.remove(&row) else { return };
        self.unknown -= usize::from(about.is_none());
        for thing in about.unwrap_or_default() {
            if let Some(count) = self.things.get_mut(&thing) {
                *count -= 1;
                if *count == 0 {
                    self.things.remove(&thing);
                }
            }
        }
    }

    /// Whether a row was left here.
    pub(super) fn holds(&self, row: Uuid) -> bool {
        self.rows.contains_key(&row)
    }

    /// Whether nothing is left.
    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The rows that are here.
    pub(super) fn rows(&self) -> HashSet<Uuid> {
        self.rows.keys().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: usize) -> Uuid {
        Uuid::from_u128(number as u128)
    }

    #[test]
    fn a_row_waits_behind_one_about_the_same_thing_and_passes_others() {
        let mut lane = Lane::default();
        lane.leave(id(1), vec![id(10), id(11)]);
        lane.leave(id(2), vec![id(11)]);
        assert!(!lane.lets_pass(|| vec![id(9), id(11)]));
        assert!(lane.lets_pass(|| vec![id(9)]) && lane.lets_pass(Vec::new));
        lane.remove(id(1));
        assert!(lane.lets_pass(|| vec![id(10)]) && !lane.lets_pass(|| vec![id(11)]));
        lane.leave(id(2), vec![id(11)]);
        lane.remove(id(2));
        lane.remove(id(2));
        assert!(lane.is_empty() && lane.lets_pass(|| unreachable!("nothing is left: nobody asks what a row is about")));
    }

    #[test]
    fn beyond_what_can_be_kept_every_row_waits() {
        let mut lane = Lane::default();
        lane.leave(id(1), (0..THINGS_MAX).map(id).collect());
        lane.leave(id(2), vec![id(THINGS_MAX + 1)]);
        assert!(!lane.lets_pass(|| vec![id(THINGS_MAX + 5)]));
        lane.remove(id(2));
        assert!(lane.lets_pass(|| vec![id(THINGS_MAX + 1)]));
    }
}
