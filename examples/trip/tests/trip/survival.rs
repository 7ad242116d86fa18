//! However bad the network was, once it is good again every trip ends, and leaves all of it or nothing. No I/O: the plan and ideal participants.

use std::collections::{BTreeMap, BTreeSet};

use saga::testkit::{Participants, survives};
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

#[test]
fn whatever_goes_wrong_a_trip_ends_and_leaves_all_of_it_or_nothing() {
    let trip = Trip { id: Uuid::from_u128(1), traveller: "Ann".to_owned(), to: "Lisbon".to_owned(), nights: 4 };
    let survived = survives(&trip, &World::default(), 1_000);
    assert!(survived.completed > 50 && survived.compensated > 50, "{survived:?}");
}
