//! Which of the rows that were left behind may go out now.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::seen::Seen;

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

/// What may go out now, and what may not.
#[derive(Debug, Default)]
pub(super) struct Choice<'a> {
    /// The rows to publish now, in their order, each with those of the things it tells of that are held up by a row that is set aside or stalled.
    pub chosen: Vec<(Uuid, Vec<Uuid>)>,
    /// Due rows that wait behind such rows with all they tell of.
    pub behind: Vec<&'a Seen>,
}

/// How much is chosen at once: rows, and messages in them, but for the row that is the one too many.
#[derive(Clone, Copy)]
pub(super) struct Room {
    pub rows: usize,
    pub messages: usize,
}

impl Room {
    fn is_left(self) -> bool {
        self.rows > 0 && self.messages > 0
    }

    fn take(&mut self, row: &Seen) {
        self.rows -= 1;
        self.messages = self.messages.saturating_sub(row.about.len().max(1));
    }
}

/// Chooses so many rows that were not tried before, and so many that were: those that fail again and again take no room from the others. One
/// that is not published holds up younger ones that tell of the same thing; one that failed before does so until it has succeeded. What waits
/// behind a row that is set aside, or that a relay which may have died was at, holds up nothing else: its row goes without it.
pub(super) fn choose<'a>(candidates: &[Candidate<'a>], most: Room) -> Choice<'a> {
    let (mut held, mut held_aside): (HashSet<&Uuid>, HashSet<&Uuid>) = (HashSet::new(), HashSet::new());
    let (mut choice, mut room) = (Choice::default(), [most; 2]);
    for Candidate { row, due } in candidates {
        let room = &mut room[usize::from(row.tried)];
        let waits: Vec<Uuid> = row.about.iter().filter(|thing| held.contains(thing)).copied().collect();
        let is_behind = !waits.is_empty() && waits.iter().all(|thing| held_aside.contains(thing));
        let goes = *due && room.is_left() && (waits.is_empty() || (is_behind && waits.len() < row.about.len()));
        if !goes || row.tried {
            held.extend(&row.about);
        }
        if row.waiting || row.stalled {
            held_aside.extend(&row.about);
        }
        if goes {
            room.take(row);
            choice.chosen.push((row.id, waits));
        } else if *due && is_behind {
            choice.behind.push(row);
        }
    }
    choice
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u128) -> Uuid {
        Uuid::from_u128(number)
    }

    fn row(number: u128, about: &[u128]) -> Seen {
        let about = about.iter().copied().map(id).collect();
        let place = (Some(number as i64), id(number));
        Seen {
            id: id(number),
            place,
            about,
            old: false,
            claimed: false,
            stalled: false,
            aside: false,
            waiting: false,
            tried: false,
        }
    }

    const MOST: Room = Room { rows: 3, messages: 4 };

    fn chosen(rows: &[(Seen, bool)]) -> Vec<u128> {
        let candidates: Vec<_> = rows.iter().map(|(row, due)| Candidate { row, due: *due }).collect();
        choose(&candidates, MOST).chosen.into_iter().map(|(id, _)| id.as_u128()).collect()
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
        let large = [(row(1, &[1, 2, 3]), true), (row(2, &[4, 5, 6]), true), (row(3, &[7]), true)];
        assert_eq!(chosen(&large), [1, 2], "beyond the second there is no room for its messages");
    }

    #[test]
    fn rows_that_failed_take_no_room_from_the_others_and_what_waits_behind_them_is_told_apart() {
        let tried = |number| Seen { tried: true, aside: true, ..row(number, &[number]) };
        let mut rows: Vec<_> = (1..9).map(|number| (tried(number), true)).collect();
        rows.extend([(row(20, &[]), true), (row(21, &[8]), true)]);
        assert_eq!(chosen(&rows), [1, 2, 3, 20], "8 is due and has no room, so 21 waits");
        let waits = Seen { waiting: true, ..tried(1) };
        let rows = [
            (waits, false),
            (row(2, &[1, 5]), true),
            (row(3, &[5]), true),
            (row(4, &[1]), true),
            (row(5, &[4]), false),
            (row(6, &[4, 6]), true),
            (row(7, &[1, 6]), true),
        ];
        let candidates: Vec<_> = rows.iter().map(|(row, due)| Candidate { row, due: *due }).collect();
        let choice = choose(&candidates, MOST);
        let behind: Vec<u128> = choice.behind.iter().map(|row| row.id.as_u128()).collect();
        assert_eq!(choice.chosen, [(id(2), vec![id(1)]), (id(3), vec![])], "2 goes without what waits");
        assert_eq!(behind, [4], "6 and 7 wait for somebody who is at 5");
    }

    #[test]
    fn what_a_relay_that_may_have_died_was_at_holds_up_only_what_tells_of_the_same() {
        let stalled = Seen { claimed: true, stalled: true, ..row(1, &[10, 11]) };
        let rows = [(stalled, false), (row(2, &[11, 12]), true), (row(3, &[10]), true), (row(4, &[12]), true)];
        let candidates: Vec<_> = rows.iter().map(|(row, due)| Candidate { row, due: *due }).collect();
        let choice = choose(&candidates, MOST);
        assert_eq!(choice.chosen, [(id(2), vec![id(11)]), (id(4), vec![])]);
        assert_eq!(choice.behind.iter().map(|row| row.id).collect::<Vec<_>>(), [id(3)]);
    }
}
