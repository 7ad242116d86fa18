//! Which of the rows that were left behind may go out now.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::rows::Seen;

/// What this relay has seen lie in the outbox, and since when: a clock that nobody can set.
#[derive(Default)]
pub(super) struct Watched(HashMap<Uuid, Instant>);

impl Watched {
    /// For how long each of these rows has been here; the others are forgotten.
    pub(super) fn look(&mut self, rows: &[Seen]) -> HashMap<Uuid, Duration> {
        let now = Instant::now();
        self.0 = rows.iter().map(|row| (row.id, self.0.get(&row.id).copied().unwrap_or(now))).collect();
        self.0.iter().map(|(id, since)| (*id, now - *since)).collect()
    }
}

/// A row the relay may choose.
pub(super) struct Candidate<'a> {
    pub(super) row: &'a Seen,
    /// It may be published now, by us.
    pub(super) due: bool,
}

/// The rows to publish now, in their order. One that is not published holds up younger ones that tell of the same thing; one that failed
/// before does so until it has succeeded.
pub(super) fn choose(candidates: &[Candidate<'_>], most: usize) -> Vec<Uuid> {
    let (mut held, mut chosen): (HashSet<&Uuid>, Vec<Uuid>) = (HashSet::new(), Vec::new());
    for Candidate { row, due } in candidates {
        let goes = *due && chosen.len() < most && !row.about.iter().any(|thing| held.contains(thing));
        if goes {
            chosen.push(row.id);
        }
        if !goes || row.tried {
            held.extend(&row.about);
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u128) -> Uuid {
        Uuid::from_u128(number)
    }

    fn row(number: u128, about: &[u128]) -> Seen {
        let about = about.iter().copied().map(id).collect();
        Seen { id: id(number), about, old: false, claimed: false, waiting: false, tried: false }
    }

    fn chosen(rows: &[(Seen, bool)]) -> Vec<u128> {
        let candidates: Vec<_> = rows.iter().map(|(row, due)| Candidate { row, due: *due }).collect();
        choose(&candidates, 3).into_iter().map(|id| id.as_u128()).collect()
    }

    #[test]
    fn a_row_waits_for_older_ones_about_the_same_thing_and_for_no_others() {
        let rows = [(row(1, &[10]), true), (row(2, &[10]), true), (row(3, &[11]), false), (row(4, &[11, 12]), true)];
        assert_eq!(chosen(&rows), [1, 2], "3 is somebody else's, so 4 waits");
        let rows = [(row(1, &[10]), false), (row(2, &[11]), true), (row(3, &[10]), true), (row(4, &[]), true)];
        assert_eq!(chosen(&rows), [2, 4]);
        let waits_itself = [(row(1, &[10]), false), (row(2, &[10, 11]), true), (row(3, &[11]), true)];
        assert_eq!(chosen(&waits_itself), [0; 0], "what waits holds up what it tells of too");
        let tried = Seen { tried: true, ..row(1, &[10]) };
        assert_eq!(chosen(&[(tried, true), (row(2, &[10]), true)]), [1], "it may fail again");
        let many: Vec<_> = (1..9).map(|number| (row(number, &[]), true)).collect();
        assert_eq!(chosen(&many), [1, 2, 3]);
    }
}
