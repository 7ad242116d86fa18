//! What must hold, and what must be found.

use events::ReasonCode;
use order::saga::{Order, Step};
use product::inventory::{ReservationState, Stock};
use saga::Cause;
use stateright::Property;

use crate::words::Word;
use crate::world::{Life, World};
use crate::{Exploration, RECEIVED};

/// What holds in every state.
pub fn always() -> Vec<Property<Exploration>> {
    vec![
        Property::always("never oversold, never lost: received = available + reserved", |_, world: &World| {
            let Stock { available, reserved, .. } = world.stock;
            available >= 0 && available + reserved == RECEIVED && reserved == held(world)
        }),
        Property::always("no command has two effects", |_, world: &World| {
            world.orders.iter().all(|life| life.takes <= 1 && life.returns <= life.takes)
        }),
        Property::always("a confirmed order holds its stock", |_, world: &World| {
            world.orders.iter().all(|life| !life.is_confirmed() || life.holds())
        }),
        Property::always("an order that was undone holds nothing", |_, world: &World| {
            world.orders.iter().all(|life| life.undone().is_none() || !life.holds())
        }),
        Property::always("an end that was told stands, but a confirmed order can be cancelled", |_, world: &World| {
            let confirmed = |life: &Life| life.is_confirmed() || life.turned() == Some(&Cause::Cancelled);
            let stands = |life: &Life| {
                (!life.told.has(Word::Undone) || life.undone().is_some()) && (!life.told.has(Word::Confirmed) || confirmed(life))
            };
            world.orders.iter().all(stands)
        }),
        Property::always("the cause that came first stands", |_, world: &World| !world.orders.iter().any(|life| life.wavered)),
        Property::always("until it ends there is always somebody to ask again", |_, world: &World| {
            let stranded = |life: &Life| !life.saga.is_final() && life.saga.outstanding().next().is_none();
            !world.orders.iter().any(|life| life.is_placed() && stranded(life))
        }),
        Property::always("an end is told, whoever died meanwhile", |_, world: &World| {
            !world.is_free() || world.orders.iter().all(is_told)
        }),
        // From every state one with an empty broker can be reached, so it is enough to look at those.
        Property::always("when the bad time ends, every order does", |_, world: &World| {
            world.orders.iter().any(|life| !life.wire.is_empty()) || world.heals()
        }),
        Property::always("at rest every order is final, and stock is held if and only if it is confirmed", |_, world: &World| {
            let at_rest = |life: &Life| life.saga.is_settled() && life.holds() == life.is_confirmed();
            !world.is_quiet() || world.orders.iter().all(|life| waits(life) || !life.is_placed() || at_rest(life))
        }),
    ]
}

fn held(world: &World) -> i64 {
    world.orders.iter().filter(|life| life.holds()).count() as i64
}

fn waits(life: &Life) -> bool {
    life.saga.outstanding().next().is_some()
}

fn is_told(life: &Life) -> bool {
    (!life.is_confirmed() || life.told.has(Word::Confirmed)) && (life.undone().is_none() || life.told.has(Word::Undone))
}

/// Every end there is, and the turns on the way that are easily missed: each must be found, or the model proves less than it seems.
pub fn sometimes() -> Vec<Property<Exploration>> {
    fn any(world: &World, is: impl Fn(&Life) -> bool) -> bool {
        world.is_quiet() && world.orders.iter().any(|life| life.saga.is_settled() && is(life))
    }
    fn undone(life: &Life, is: impl Fn(&Cause<Order>) -> bool) -> bool {
        life.undone().is_some_and(is)
    }
    fn refused(life: &Life, why: ReasonCode) -> bool {
        undone(life, |cause| matches!(cause, Cause::Refused { refusal, .. } if refusal.code == why))
    }
    vec![
        Property::sometimes("confirmed", |_, world: &World| any(world, Life::is_confirmed)),
        Property::sometimes("rejected for the user's sake", |_, world: &World| {
            any(world, |life| refused(life, ReasonCode::UserInactive))
        }),
        Property::sometimes("rejected for want of stock", |_, world: &World| {
            any(world, |life| refused(life, ReasonCode::InsufficientStock))
        }),
        Property::sometimes("rejected because nobody answered, and given back", |_, world: &World| {
            let in_time = |cause: &Cause<_>| *cause == Cause::TimedOut { step: Some(Step::ReserveStock) };
            any(world, |life| undone(life, in_time) && life.returns == 1)
        }),
        Property::sometimes("rejected because nobody answered, and never reserved", |_, world: &World| {
            let in_time = |cause: &Cause<_>| *cause == Cause::TimedOut { step: Some(Step::ReserveStock) };
            any(world, |life| {
                undone(life, in_time) && matches!(&life.reservation, Some(ReservationState::Released(held)) if held.is_empty())
            })
        }),
        Property::sometimes("rejected because the order took too long", |_, world: &World| {
            any(world, |life| undone(life, |cause| *cause == Cause::TimedOut { step: None }))
        }),
        Property::sometimes("withdrawn by an operator", |_, world: &World| {
            any(world, |life| undone(life, |cause| matches!(cause, Cause::Withdrawn { .. })))
        }),
        Property::sometimes("cancelled on the way", |_, world: &World| {
            any(world, |life| undone(life, |cause| *cause == Cause::Cancelled) && !life.told.has(Word::Confirmed))
        }),
        Property::sometimes("cancelled after it was confirmed", |_, world: &World| {
            any(world, |life| undone(life, |cause| *cause == Cause::Cancelled) && life.told.has(Word::Confirmed))
        }),
        Property::sometimes("a release met a refusal", |_, world: &World| {
            any(world, |life| {
                matches!(life.reservation, Some(ReservationState::Refused(_))) && undone(life, |cause| *cause == Cause::Cancelled)
            })
        }),
        Property::sometimes("ended, and yet it waits: a late reservation is given back once more", |_, world: &World| {
            world.orders.iter().any(|life| life.saga.is_final() && waits(life))
        }),
        Property::sometimes("the unit one order gave back is sold to the other", |_, world: &World| {
            any(world, |life| life.returns == 1) && any(world, Life::is_confirmed)
        }),
    ]
}
