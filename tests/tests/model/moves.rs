//! What can happen next. A transaction is one move: work that was not committed when its process died is a move that was not made.

use std::sync::Arc;

use events::user::Validate;
use order::saga::{Command, Order, Reply, Step};
use product::inventory::{Command as Asked, Inventory};
use saga::{Action, Decision, Effect, Input, Milestone, Verdict, decide};

use crate::words::{PRODUCT, Word, Words, order};
use crate::world::{Life, Row, STEPS, World, turned, waits};

/// Which order, of the two.
pub type Which = usize;

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Move {
    Place(Which),
    /// Takes what is on the broker to its service. The word stays: it may be delivered again.
    Deliver(Which, Word),
    Lose(Which, Word),
    /// The broker's store is gone.
    Wipe,
    /// What a transaction said goes to the broker...
    Publish(Which),
    /// ... and once that is acknowledged, its row goes.
    Forget(Which),
    /// The order service dies and starts again: what it knew is lost, what is in its outbox is not.
    Crash,
    Due(Which, Step),
    Expired(Which, Step),
    Overdue(Which),
    Cancel(Which),
    Withdraw(Which),
    Deactivate,
}

impl World {
    /// Everything that can happen.
    pub fn moves(&self, moves: &mut Vec<Move>) {
        for (which, life) in self.orders.iter().enumerate() {
            let placed = life.is_placed();
            // Whoever got no answer places it again.
            moves.push(Move::Place(which));
            for word in life.wire.iter() {
                moves.extend([Move::Deliver(which, word), Move::Lose(which, word)]);
            }
            if !life.outbox.words.is_empty() {
                moves.extend([if life.outbox.published { Move::Forget(which) } else { Move::Publish(which) }, Move::Crash]);
            }
            for step in STEPS.into_iter().filter(|step| waits(life.saga.progress(*step))) {
                moves.extend([Move::Due(which, step), Move::Expired(which, step)]);
            }
            if placed {
                moves.extend([Move::Overdue(which), Move::Cancel(which), Move::Withdraw(which)]);
            }
        }
        moves.push(Move::Wipe);
        if self.active {
            moves.push(Move::Deactivate);
        }
    }

    /// How many words are on the broker.
    pub fn wired(&self) -> u32 {
        self.orders.iter().map(|life| life.wire.len()).sum()
    }

    /// The world after a move; `None` where it changes nothing, or cannot be made now. Without a relay, nobody takes up the rows of a
    /// dead process.
    pub fn after(&self, next: Move, relay: bool) -> Option<Self> {
        let mut world = self.clone();
        match next {
            Move::Place(which) => world.decide(which, &Input::Start)?,
            Move::Deliver(which, word) => world.deliver(which, word)?,
            Move::Lose(which, word) => {
                let life = &mut world.orders[which];
                life.wire = life.wire.without(word);
            }
            Move::Wipe => world.orders.iter_mut().for_each(|life| life.wire = Words::NONE),
            Move::Publish(which) => world.orders[which].publish(),
            Move::Forget(which) => world.orders[which].outbox = Row::default(),
            Move::Crash => {
                for Life { outbox, .. } in &mut world.orders {
                    *outbox = if relay { Row { published: false, ..*outbox } } else { Row::default() };
                }
            }
            Move::Due(which, step) => world.decide(which, &Input::Due(step))?,
            Move::Expired(which, step) => world.decide(which, &Input::Expired(step))?,
            Move::Overdue(which) => world.decide(which, &Input::Overdue)?,
            Move::Cancel(which) => world.decide(which, &Input::Cancel)?,
            Move::Withdraw(which) => {
                let (by, reason) = (String::new(), String::new());
                world.decide(which, &Input::Operator { action: Action::Compensate, by, reason })?;
            }
            Move::Deactivate => world.active = false,
        }
        Some(world)
    }

    fn deliver(&mut self, which: Which, word: Word) -> Option<()> {
        match word {
            Word::Validate => self.validate(which),
            Word::Reserve | Word::Release => self.shelve(which, word),
            answer => self.decide(which, &Input::Reply(answer.answer(which)?))?,
        }
        Some(())
    }

    /// The order service's transaction: the saga's row, and what it says.
    fn decide(&mut self, which: Which, input: &Input<Order>) -> Option<()> {
        if !self.is_free() {
            return None;
        }
        let (order, life) = (order(which), &mut self.orders[which]);
        let Decision { verdict, state, effects } = decide(&order, &life.saga, input);
        if verdict != Verdict::Moved {
            return None;
        }
        let word = |effect: &Effect<Order>| match effect {
            Effect::Notify(Milestone::Completed) => Some(Word::Confirmed),
            Effect::Notify(Milestone::Compensated) => Some(Word::Undone),
            // Told on the way; nothing depends on it.
            Effect::Notify(Milestone::Started | Milestone::Compensating) => None,
            Effect::Execute { .. } | Effect::Compensate { .. } => {
                state.command(&order, effect).map(|command| Word::of_command(&command))
            }
        };
        life.outbox = Row { words: effects.iter().filter_map(word).fold(Words::NONE, Words::with), published: false };
        life.wavered |= life.turned().is_some() && life.turned() != turned(&state);
        life.saga = Arc::new(state);
        Some(())
    }

    /// The user service's transaction.
    fn validate(&mut self, which: Which) {
        let Order { id: order_id, user_id, .. } = order(which);
        let reply = user::judge(&Validate { order_id, user_id }.into(), Some(self.active));
        self.orders[which].hear(Reply::User(reply));
    }

    /// The product service's transaction: the stock, the reservation's row, and what it says.
    fn shelve(&mut self, which: Which, word: Word) {
        let order = order(which);
        let message = match word {
            Word::Reserve => Effect::Execute { step: Step::ReserveStock, attempt: 1 },
            _ => Effect::Compensate { step: Step::ReserveStock, attempt: 1 },
        };
        let Some(Command::Product(command)) = self.orders[which].saga.command(&order, &message) else {
            unreachable!("the plan has a command for each");
        };
        let (id, asked): (_, Asked) = product::command(&command);
        let held = self.orders[which].reservation.take().map(|state| (id, state));
        let mut inventory = Inventory { products: [(PRODUCT, self.stock)].into(), reservations: held.into_iter().collect() };
        let reply = product::reply(order.id, &asked, inventory.decide(id, &asked));

        let (before, life) = (self.stock, &mut self.orders[which]);
        self.stock = inventory.products[&PRODUCT];
        life.reservation = inventory.reservations.remove(&id);
        // Two are as wrong as many.
        life.takes = (life.takes + u8::from(self.stock.available < before.available)).min(2);
        life.returns = (life.returns + u8::from(self.stock.available > before.available)).min(2);
        life.hear(Reply::Product(reply));
    }

    /// Whether a good time after this comes to rest: everything said arrives, every timer fires, nothing is lost any more.
    pub fn heals(&self) -> bool {
        let mut world = self.clone();
        for _ in 0..12 {
            for which in 0..2 {
                world.arrive(which);
                for step in STEPS {
                    if world.is_quiet() && waits(world.orders[which].saga.progress(step)) {
                        world.decide(which, &Input::Due(step));
                    }
                }
            }
            if world.is_quiet() && world.orders.iter().all(|life| life.saga.is_settled() || !life.is_placed()) {
                return true;
            }
        }
        false
    }

    /// Everything that is said of an order reaches its listeners.
    fn arrive(&mut self, which: Which) {
        for word in self.orders[which].wire.iter() {
            self.orders[which].publish();
            self.orders[which].outbox = Row::default();
            self.deliver(which, word);
            self.orders[which].wire = self.orders[which].wire.without(word);
        }
        self.orders[which].publish();
        self.orders[which].outbox = Row::default();
    }
}

impl Life {
    /// An answer to it is on its way.
    fn hear(&mut self, answer: Reply) {
        self.wire = self.wire.with(Word::of_answer(&answer));
    }

    fn publish(&mut self) {
        self.outbox.published = true;
        self.wire = self.wire.and(self.outbox.words.not(Words::TOLD));
        self.told = self.told.and(self.outbox.words.among(Words::TOLD));
    }
}
