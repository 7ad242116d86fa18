//! The trip saga: flight and hotel side by side, then the payment, after which there is no way back, then the ticket.

use std::sync::LazyLock;
use std::time::Duration;

use envelope::{Message, Stream, Topology};
use saga::{Exportable, Milestone, Outcome, Plan, RetryPolicy, Stages, State, compensatable, pivot, retriable};
use saga_runtime::{Channel, History, Plain, PlainEvent, Record, Saga};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::messages::{Book, Cancel, Done, FLIGHT, HOTEL, Issue, PAYMENT, Pay, TICKET, TRIPS};
use crate::messages::{Command, Reply, flight, hotel, payment, ticket};

/// Every stream and every durable consumer of trips.
pub static TOPOLOGY: LazyLock<Topology> = LazyLock::new(saga_runtime::steps::topology::<Trip>);

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trip {
    /// The trip's id.
    pub id: Uuid,
    /// Who travels, and pays.
    pub traveller: String,
    /// Where to.
    pub to: String,
    /// For how many nights.
    pub nights: u32,
}

/// The steps, by their persisted names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Reserve a seat.
    BookFlight,
    /// Reserve a room.
    BookHotel,
    /// Take the money.
    TakePayment,
    /// Issue the ticket.
    IssueTicket,
}

envelope::vocabulary! {
    /// What everyone is told.
    pub enum Event {
        /// A trip has moved.
        "trip.moved.v1" => Moved(PlainEvent<Trip>),
    }
}

const fn within(deadline: u64) -> RetryPolicy {
    let [first_retry, max_retry] = [Duration::from_secs(5), Duration::from_secs(60)];
    RetryPolicy { first_retry, max_retry, deadline: Duration::from_secs(deadline) }
}

impl Plan for Trip {
    type Step = Step;
    type Command = Command;
    type Reply = Reply;
    type Output = Done;
    type Refusal = String;

    const VERSIONS: &'static [(u32, Stages<Self>)] = &[(
        1,
        Stages::new(&[
            &[
                compensatable(Step::BookFlight, within(300), Self::book_flight, Self::cancel_flight),
                compensatable(Step::BookHotel, within(600), Self::book_hotel, Self::cancel_hotel),
            ],
            &[pivot(Step::TakePayment, within(120), Self::take_payment)],
            &[retriable(Step::IssueTicket, within(300), Self::issue_ticket)],
        ]),
    )];

    fn outcome(&self, reply: &Reply) -> Option<(Step, Outcome<Self>)> {
        let (_, step, outcome) = meaning(reply);
        Some((step, outcome))
    }
}

impl Exportable for Trip {
    const NAME: &'static str = "trip";

    fn id(&self) -> Uuid {
        self.id
    }
}

impl Saga for Trip {
    type Event = Event;
    type Layout = Plain;

    const SOURCE: &'static str = "/trip";
    const EVENTS: Stream = TRIPS;

    fn channel(step: Step) -> &'static Channel {
        match step {
            Step::BookFlight => &Channel {
                participant: FLIGHT,
                execute: "commands.flight.book",
                compensate: Some("commands.flight.cancel"),
                replies: <flight::Reply as Message>::kinds,
                executing: "reserve a seat",
                compensating: "give back the seat",
            },
            Step::BookHotel => &Channel {
                participant: HOTEL,
                execute: "commands.hotel.book",
                compensate: Some("commands.hotel.cancel"),
                replies: <hotel::Reply as Message>::kinds,
                executing: "reserve a room",
                compensating: "give back the room",
            },
            Step::TakePayment => &Channel {
                participant: PAYMENT,
                execute: "commands.payment.pay",
                compensate: None,
                replies: <payment::Reply as Message>::kinds,
                executing: "take the money",
                compensating: "",
            },
            Step::IssueTicket => &Channel {
                participant: TICKET,
                execute: "commands.ticket.issue",
                compensate: None,
                replies: <ticket::Reply as Message>::kinds,
                executing: "issue the ticket",
                compensating: "",
            },
        }
    }

    fn correlate(reply: &Reply) -> Uuid {
        meaning(reply).0
    }

    fn event(milestone: Milestone, record: &Record<Self>, history: History<'_>) -> anyhow::Result<(&'static str, Event)> {
        let word = if milestone == Milestone::Started { "started" } else { record.status() };
        Ok((word, PlainEvent::new(record, history)?.into()))
    }
}

/// The commands.
impl Trip {
    fn book_flight(&self, _: &State<Self>) -> Command {
        Command::Flight(Book { trip_id: self.id, to: self.to.clone(), nights: self.nights }.into())
    }

    fn cancel_flight(&self, _: &State<Self>) -> Command {
        Command::Flight(Cancel { trip_id: self.id }.into())
    }

    fn book_hotel(&self, _: &State<Self>) -> Command {
        Command::Hotel(Book { trip_id: self.id, to: self.to.clone(), nights: self.nights }.into())
    }

    fn cancel_hotel(&self, _: &State<Self>) -> Command {
        Command::Hotel(Cancel { trip_id: self.id }.into())
    }

    fn take_payment(&self, state: &State<Self>) -> Command {
        let cents = [Step::BookFlight, Step::BookHotel].map(|step| state.output(step).map_or(0, |done| done.cents)).iter().sum();
        Command::Payment(Pay { trip_id: self.id, traveller: self.traveller.clone(), cents }.into())
    }

    fn issue_ticket(&self, _: &State<Self>) -> Command {
        Command::Ticket(Issue { trip_id: self.id, traveller: self.traveller.clone() }.into())
    }
}

/// What a reply means: for which trip, to which step, and what of it.
fn meaning(reply: &Reply) -> (Uuid, Step, Outcome<Trip>) {
    use Step::*;
    let done = |step, done: &Done| (done.trip_id, step, Outcome::Done(done.clone()));
    match reply {
        Reply::Flight(flight::Reply::Booked(booked)) => done(BookFlight, booked),
        Reply::Flight(flight::Reply::Refused(no)) => (no.trip_id, BookFlight, Outcome::Refused(no.reason.clone())),
        Reply::Flight(flight::Reply::Cancelled(cancelled)) => (cancelled.trip_id, BookFlight, Outcome::Undone),
        Reply::Hotel(hotel::Reply::Booked(booked)) => done(BookHotel, booked),
        Reply::Hotel(hotel::Reply::Refused(no)) => (no.trip_id, BookHotel, Outcome::Refused(no.reason.clone())),
        Reply::Hotel(hotel::Reply::Cancelled(cancelled)) => (cancelled.trip_id, BookHotel, Outcome::Undone),
        Reply::Payment(payment::Reply::Paid(paid)) => done(TakePayment, paid),
        Reply::Payment(payment::Reply::Refused(no)) => (no.trip_id, TakePayment, Outcome::Refused(no.reason.clone())),
        Reply::Ticket(ticket::Reply::Issued(issued)) => done(IssueTicket, issued),
    }
}
