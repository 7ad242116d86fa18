//! Proof by exploration: every state that two orders of the last unit can get into, with the decisions of production.
//!
//! What decides is the real thing: the order plan's `decide`, the product service's `Inventory`, the user service's `judge`. Around them is a
//! broker that loses, repeats, reorders and forgets everything, processes that die between any two steps, timers that fire at any time,
//! a customer who cancels, an operator who withdraws, and a user who is deactivated meanwhile. What holds in every state is proved within
//! these bounds: two orders, one product, one unit, and so many words on the broker at once.

mod moves;
mod properties;
mod words;
mod world;

use std::time::Instant;

use product::inventory::Stock;
use stateright::{Checker, Expectation, HasDiscoveries, Model, Property};

use crate::moves::Move;
use crate::properties::{always, sometimes};
use crate::words::PRICE;
use crate::world::World;

/// The model, and its bounds.
pub struct Exploration {
    /// The most words on the broker at once; what does not fit waits in its outbox.
    wire_max: u32,
    /// Whether somebody publishes what a dead process left in its outbox.
    relay: bool,
}

/// Units of the one product.
pub const RECEIVED: i64 = 1;

impl Model for Exploration {
    type State = World;
    type Action = Move;

    fn init_states(&self) -> Vec<World> {
        vec![World::new(Stock { price: PRICE, available: RECEIVED, reserved: 0 })]
    }

    fn actions(&self, world: &World, moves: &mut Vec<Move>) {
        world.moves(moves);
    }

    fn next_state(&self, world: &World, next: Move) -> Option<World> {
        world.after(next, self.relay).filter(|world| world.wired() <= self.wire_max).map(World::sorted)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        always().into_iter().chain(sometimes()).collect()
    }
}

/// Explores everything there is, up to the first thing that is wrong, and says how much that was.
fn explore(exploration: Exploration) -> Result<usize, String> {
    let began = Instant::now();
    let checker = exploration.checker().threads(2).finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    let (states, moves, seconds) = (checker.unique_state_count(), checker.state_count(), began.elapsed().as_secs_f64());
    println!("{states} states, {moves} moves, at most {} from the beginning, {seconds:.1} s", checker.max_depth());

    let found = checker.discoveries();
    let wrong = checker.model().properties().into_iter().filter_map(|Property { name, expectation, .. }| match expectation {
        Expectation::Always => found.get(name).map(|path| {
            let moves: Vec<String> = path.clone().into_actions().iter().map(|next| format!("  {next:?}")).collect();
            format!("broken: {name}\n{}\n  {:#?}", moves.join("\n"), path.last_state())
        }),
        _ => (!found.contains_key(name)).then(|| format!("never found: {name}")),
    });
    // Stopped at what is broken, it has not looked for the rest.
    match wrong.min_by_key(|wrong| wrong.starts_with("never")) {
        Some(wrong) => Err(wrong),
        None => Ok(states),
    }
}

#[test]
fn two_orders_of_the_last_unit_in_every_state_they_can_get_into() {
    let states = explore(Exploration { wire_max: 3, relay: true }).unwrap_or_else(|wrong| panic!("{wrong}"));
    assert!(states > 100_000, "only {states} states: the model has lost its moves");
}

#[test]
fn an_outbox_nobody_takes_up_leaves_an_end_untold() {
    let wrong = explore(Exploration { wire_max: 3, relay: false }).unwrap_err();
    assert!(wrong.starts_with("broken: an end is told"), "{wrong}");
}
