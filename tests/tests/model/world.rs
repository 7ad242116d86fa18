//! The world of two orders: what the databases hold, what the outboxes hold, what is on the broker.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use order::saga::{Order, Step};
use product::inventory::{ReservationState, Stock};
use saga::{Cause, Phase, Progress, State};

use crate::words::Words;

/// A state of the model. The two orders are alike, so they stand in a fixed order: who is first says nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct World {
    pub orders: [Life; 2],
    /// Of the one product, of which one unit was received.
    pub stock: Stock,
    /// Whether the user who orders is active.
    pub active: bool,
}

/// One order, and everything that is about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Life {
    /// The order service's row.
    pub saga: Arc<State<Order>>,
    /// The product service's row.
    pub reservation: Option<ReservationState>,
    /// How often stock was taken for it, and given back.
    pub takes: u8,
    pub returns: u8,
    /// What is on the broker. A set: delivering leaves a word where it is, so that one word is as many repetitions as you like;
    /// losing takes it away; and any may be delivered next, which is reordering.
    pub wire: Words,
    /// The order service's outbox row for it. (A participant's needs no place of its own: an answer in an outbox is like one on the
    /// broker, for both come late or twice, and if the process dies in between, still so.)
    pub outbox: Row,
    /// What everyone was told of its end.
    pub told: Words,
    /// It went back for one cause, and then for another.
    pub wavered: bool,
}

/// What a transaction of the order service said. While there is such a row, it takes no new work: the next batch waits until the last is
/// published.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Row {
    pub words: Words,
    /// Acknowledged by the broker; only this process knows, so a crash forgets it.
    pub published: bool,
}

impl World {
    pub fn new(stock: Stock) -> Self {
        let life = Life {
            saga: Arc::new(State::new()),
            reservation: None,
            takes: 0,
            returns: 0,
            wire: Words::NONE,
            outbox: Row::default(),
            told: Words::NONE,
            wavered: false,
        };
        Self { orders: [life.clone(), life], stock, active: true }
    }

    /// Whether the order service has published what its last transaction said.
    pub fn is_free(&self) -> bool {
        self.orders.iter().all(|life| life.outbox.words.is_empty())
    }

    /// Nobody has anything to say, and nothing is on its way.
    pub fn is_quiet(&self) -> bool {
        self.is_free() && self.orders.iter().all(|life| life.wire.is_empty())
    }

    /// Puts the two orders in their fixed order.
    pub fn sorted(mut self) -> Self {
        let key = |life: &Life| {
            let mut hasher = std::hash::DefaultHasher::new();
            life.hash(&mut hasher);
            hasher.finish()
        };
        if key(&self.orders[0]) > key(&self.orders[1]) {
            self.orders.swap(0, 1);
        }
        self
    }
}

impl Life {
    pub fn is_placed(&self) -> bool {
        *self.saga.phase() != Phase::New
    }

    pub fn is_confirmed(&self) -> bool {
        *self.saga.phase() == Phase::Completed
    }

    pub fn holds(&self) -> bool {
        matches!(self.reservation, Some(ReservationState::Reserved(_)))
    }

    /// The cause it ended for, if it was undone.
    pub fn undone(&self) -> Option<&Cause<Order>> {
        self.turned().filter(|_| self.saga.is_final())
    }

    /// The cause it goes back for, or went.
    pub fn turned(&self) -> Option<&Cause<Order>> {
        turned(&self.saga)
    }
}

pub fn turned(saga: &State<Order>) -> Option<&Cause<Order>> {
    match saga.phase() {
        Phase::Compensating(cause) | Phase::Compensated(cause) => Some(cause),
        _ => None,
    }
}

impl Hash for World {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.orders.hash(hasher);
        (self.stock.available, self.stock.reserved, self.active).hash(hasher);
    }
}

/// Two lives with the same hash are the same state of the model. Attempt numbers are left out: they tell one sending from another and
/// decide nothing, and without them there are finitely many states although every timer may fire for ever.
impl Hash for Life {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        hash_phase(self.saga.phase(), hasher);
        for (step, progress) in self.saga.steps() {
            (step, std::mem::discriminant(progress)).hash(hasher);
        }
        match &self.reservation {
            None => 0_u8.hash(hasher),
            Some(ReservationState::Reserved(held)) => (1_u8, held.len()).hash(hasher),
            Some(ReservationState::Refused(reason)) => (2_u8, reason.code).hash(hasher),
            Some(ReservationState::Released(held)) => (3_u8, held.len()).hash(hasher),
        }
        (self.takes, self.returns, self.wire, self.outbox, self.told, self.wavered).hash(hasher);
    }
}

fn hash_phase<H: Hasher>(phase: &Phase<Order>, hasher: &mut H) {
    std::mem::discriminant(phase).hash(hasher);
    let (Phase::Compensating(cause) | Phase::Compensated(cause)) = phase else { return };
    std::mem::discriminant(cause).hash(hasher);
    match cause {
        Cause::Refused { step, refusal } => (step, refusal.code).hash(hasher),
        Cause::TimedOut { step } => step.hash(hasher),
        Cause::Cancelled | Cause::Withdrawn { .. } => {}
    }
}

/// The step, and whether it waits for an answer.
pub fn waits(progress: Option<&Progress<Order>>) -> bool {
    matches!(progress, Some(Progress::Asked(_) | Progress::Undoing(_)))
}

pub const STEPS: [Step; 2] = [Step::ValidateUser, Step::ReserveStock];
