//! What is said: the commands and replies of the four participants, and where. `hotel.py` knows no more than this.

use envelope::{Participant, Stream, vocabularies, vocabulary};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Reserve what the trip needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Book {
    /// The trip that asks.
    pub trip_id: Uuid,
    /// Where it goes.
    pub to: String,
    /// For how many nights.
    pub nights: u32,
}

/// Give back whatever is reserved for the trip.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cancel {
    /// The trip that asks.
    pub trip_id: Uuid,
}

/// Take the money.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pay {
    /// The trip that asks.
    pub trip_id: Uuid,
    /// Who pays.
    pub traveller: String,
    /// How much.
    pub cents: u32,
}

/// Issue the ticket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Issue {
    /// The trip that asks.
    pub trip_id: Uuid,
    /// Who travels.
    pub traveller: String,
}

/// It is done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// The trip that asked.
    pub trip_id: Uuid,
    /// What was booked, paid or issued.
    pub reference: String,
    /// What it costs.
    #[serde(default)]
    pub cents: u32,
}

/// It will not be done; nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// The trip that asked.
    pub trip_id: Uuid,
    /// Why.
    pub reason: String,
}

/// Nothing is reserved (any more).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cancelled {
    /// The trip that asked.
    pub trip_id: Uuid,
}

/// Asked of the airline, and replied by it.
pub mod flight {
    use super::{Book, Cancel, Cancelled, Done, Refused, vocabulary};

    vocabulary! {
        /// What is asked.
        pub enum Command {
            /// Reserve a seat.
            "trip.flight.book.v1" => Book(Book),
            /// Give it back.
            "trip.flight.cancel.v1" => Cancel(Cancel),
        }
    }

    vocabulary! {
        /// What is replied.
        pub enum Reply {
            /// A seat is reserved.
            "trip.flight.booked.v1" => Booked(Done),
            /// There is none.
            "trip.flight.refused.v1" => Refused(Refused),
            /// None is reserved (any more).
            "trip.flight.cancelled.v1" => Cancelled(Cancelled),
        }
    }
}

/// Asked of the hotel, and replied by it.
pub mod hotel {
    use super::{Book, Cancel, Cancelled, Done, Refused, vocabulary};

    vocabulary! {
        /// What is asked.
        pub enum Command {
            /// Reserve a room.
            "trip.hotel.book.v1" => Book(Book),
            /// Give it back.
            "trip.hotel.cancel.v1" => Cancel(Cancel),
        }
    }

    vocabulary! {
        /// What is replied.
        pub enum Reply {
            /// A room is reserved.
            "trip.hotel.booked.v1" => Booked(Done),
            /// There is none.
            "trip.hotel.refused.v1" => Refused(Refused),
            /// None is reserved (any more).
            "trip.hotel.cancelled.v1" => Cancelled(Cancelled),
        }
    }
}

/// Asked of the bank, and replied by it.
pub mod payment {
    use super::{Done, Pay, Refused, vocabulary};

    vocabulary! {
        /// What is asked.
        pub enum Command {
            /// Take the money.
            "trip.payment.pay.v1" => Pay(Pay),
        }
    }

    vocabulary! {
        /// What is replied.
        pub enum Reply {
            /// It is paid.
            "trip.payment.paid.v1" => Paid(Done),
            /// It is not, and will not be.
            "trip.payment.refused.v1" => Refused(Refused),
        }
    }
}

/// Asked of who issues tickets, and replied.
pub mod ticket {
    use super::{Done, Issue, vocabulary};

    vocabulary! {
        /// What is asked.
        pub enum Command {
            /// Issue the ticket.
            "trip.ticket.issue.v1" => Issue(Issue),
        }
    }

    vocabulary! {
        /// What is replied.
        pub enum Reply {
            /// It is issued.
            "trip.ticket.issued.v1" => Issued(Done),
        }
    }
}

vocabularies! {
    /// What the participants are asked to do.
    pub enum Command {
        /// Asked of the airline.
        Flight(flight::Command),
        /// Asked of the hotel.
        Hotel(hotel::Command),
        /// Asked of the bank.
        Payment(payment::Command),
        /// Asked of who issues tickets.
        Ticket(ticket::Command),
    }
}

vocabularies! {
    /// What the participants reply.
    pub enum Reply {
        /// By the airline.
        Flight(flight::Reply),
        /// By the hotel.
        Hotel(hotel::Reply),
        /// By the bank.
        Payment(payment::Reply),
        /// By who issues tickets.
        Ticket(ticket::Reply),
    }
}

/// The airline.
pub const FLIGHT: Participant =
    participant("flight", ["FLIGHT_COMMANDS", "FLIGHT_REPLIES"], [&["commands.flight.*"], &["replies.flight"]]);
/// The hotel.
pub const HOTEL: Participant =
    participant("hotel", ["HOTEL_COMMANDS", "HOTEL_REPLIES"], [&["commands.hotel.*"], &["replies.hotel"]]);
/// The bank.
pub const PAYMENT: Participant =
    participant("payment", ["PAYMENT_COMMANDS", "PAYMENT_REPLIES"], [&["commands.payment.*"], &["replies.payment"]]);
/// Who issues tickets.
pub const TICKET: Participant =
    participant("ticket", ["TICKET_COMMANDS", "TICKET_REPLIES"], [&["commands.ticket.*"], &["replies.ticket"]]);

/// The stream of what became of every trip.
pub const TRIPS: Stream =
    Stream { name: "TRIP_EVENTS", subjects: &["events.trip.*.*"], description: "What became of every trip", producer: "trip" };

const fn participant(name: &'static str, streams: [&'static str; 2], subjects: [&'static [&'static str]; 2]) -> Participant {
    let commands =
        Stream { name: streams[0], subjects: subjects[0], description: "Batches of commands of trips", producer: "trip" };
    let replies = Stream { name: streams[1], subjects: subjects[1], description: "Batches of replies to trips", producer: name };
    Participant { name, commands, replies }
}
