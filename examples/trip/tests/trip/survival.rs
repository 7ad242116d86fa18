//! However bad the network was, once it is good again every trip ends, and leaves all of it or nothing. No I/O: the plan and ideal participants.

use std::collections::{BTreeMap, BTreeSet};

use saga::testkit::{Bounds, Participants, explore, survives};
use saga::{Transcript, Unreadable};
use trip::messages::{Cancelled, Command, Done, Refused, Reply, flight, hotel, payment, ticket};
use trip::saga::{Step, Trip};
use uuid::Uuid;

/// What a participant's row says of the trip.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Row {
    Done,
    Refused,
    Undone,
}

/// Four participants, each with a row for the trip.
#[derive(Clone, Debug, Default)]
struct World {
    rows: BTreeMap<Step, Row>,
    refusing: BTreeSet<Step>,
}

impl World {
    fn execute(&mut self, step: Step) -> Row {
        let new = if self.refusing.contains(&step) { Row::Refused } else { Row::Done };
        *self.rows.entry(step).or_insert(new)
    }
}

impl Participants<Trip> for World {
    fn reply(&mut self, command: Command) -> Reply {
        let done = |trip_id| Done { trip_id, reference: String::new(), cents: 1 };
        let no = |trip_id| Refused { trip_id, reason: "it will not".to_owned() };
        match command {
            Command::Flight(flight::Command::Book(book)) => Reply::Flight(match self.execute(Step::BookFlight) {
                Row::Done => done(book.trip_id).into(),
                Row::Refused => no(book.trip_id).into(),
                Row::Undone => Cancelled { trip_id: book.trip_id }.into(),
            }),
            Command::Hotel(hotel::Command::Book(book)) => Reply::Hotel(match self.execute(Step::BookHotel) {
                Row::Done => done(book.trip_id).into(),
                Row::Refused => no(book.trip_id).into(),
                Row::Undone => Cancelled { trip_id: book.trip_id }.into(),
            }),
            Command::Flight(flight::Command::Cancel(cancel)) => {
                self.rows.insert(Step::BookFlight, Row::Undone);
                Reply::Flight(Cancelled { trip_id: cancel.trip_id }.into())
            }
            Command::Hotel(hotel::Command::Cancel(cancel)) => {
                self.rows.insert(Step::BookHotel, Row::Undone);
                Reply::Hotel(Cancelled { trip_id: cancel.trip_id }.into())
            }
            Command::Payment(payment::Command::Pay(pay)) => Reply::Payment(match self.execute(Step::TakePayment) {
                Row::Done => done(pay.trip_id).into(),
                _ => no(pay.trip_id).into(),
            }),
            Command::Ticket(ticket::Command::Issue(issue)) => {
                self.execute(Step::IssueTicket);
                Reply::Ticket(done(issue.trip_id).into())
            }
        }
    }

    fn refuse(&mut self, step: Step) {
        self.refusing.insert(step);
    }

    fn holds(&self, step: Step) -> bool {
        self.rows.get(&step) == Some(&Row::Done)
    }
}

fn trip() -> Trip {
    Trip { id: Uuid::from_u128(1), traveller: "Ann".to_owned(), to: "Lisbon".to_owned(), nights: 4 }
}

#[test]
fn every_state_that_one_trip_can_get_into_leads_to_its_end() {
    for refusing in [None, Some(Step::BookHotel), Some(Step::TakePayment)] {
        let world = World { refusing: refusing.into_iter().collect(), ..World::default() };
        let explored = explore(&trip(), &world, Bounds { messages: 3, states: 300_000 });
        println!("{refusing:?} {explored:?}");
        assert_eq!(explored.completed > 0, refusing.is_none(), "{refusing:?}: {explored:?}");
        assert!(explored.states > 100 && explored.compensated > 0, "{refusing:?}: {explored:?}");
    }
}

#[test]
fn a_trip_is_written_under_its_own_name_and_read_under_the_one_that_every_saga_had() {
    let mut world = saga::testkit::World::new(trip(), World::default());
    world.settle();
    let entries = world.history.iter().map(|entry| (**entry).clone()).collect();
    let transcript = Transcript { plan: trip(), entries };
    let line = transcript.write().unwrap();
    assert!(line.starts_with(r#"{"saga":"trip","trip":{"id":"#), "{line}");
    let before = line.replacen(r#""trip":{"#, r#""order":{"#, 1);
    assert_ne!(before, line);
    for line in [line, before] {
        assert_eq!(Transcript::read(&line).as_ref(), Ok(&transcript));
    }
    let unread = r#"{"saga":"trip","trip":{"id":"00000000-0000-0000-0000-000000000001"},"unreadable":"a column"}"#;
    assert_eq!(Transcript::<Trip>::read(unread), Err(Unreadable::Unread { id: Uuid::from_u128(1), why: "a column".to_owned() }));
}

#[test]
fn whatever_goes_wrong_a_trip_ends_and_leaves_all_of_it_or_nothing() {
    let survived = survives(&trip(), &World::default(), 1_000);
    assert!(survived.completed > 50 && survived.compensated > 50, "{survived:?}");
}
