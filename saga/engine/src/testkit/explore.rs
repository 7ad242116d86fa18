//! Every state that one saga and its participants can get into.

use std::collections::{HashSet, VecDeque};
use std::fmt::Debug;

use super::world::{Participants, World, all_or_nothing, check};
use crate::{Action, Direction, Input, Phase, Plan, Progress, State};

/// What there was to see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Explored {
    /// States, alike but for the numbers of attempts taken as one.
    pub states: usize,
    /// Those of them in which a saga rests that completed.
    pub completed: usize,
    /// Those in which one rests that was undone.
    pub compensated: usize,
}

/// How far is looked.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// The most messages on the network at once, alike ones taken as one. Two are enough for a message to overtake another; steps side by
    /// side have too many states without a bound.
    pub messages: usize,
    /// The most states: more is a failure, not an end.
    pub states: usize,
}

/// Goes through every state that one saga and its participants can get into, on a network that loses, repeats, reorders and forgets, with
/// timers that fire at any time, a customer who cancels, an operator who has it undone, and participants that change
/// ([`Participants::change`]). Checks of each that somebody is left to ask until the saga ends, and that in a good time it comes to rest
/// with all of it or nothing.
///
/// # Panics
/// Where that is not so, saying what does not hold; and where there are more states than the bounds allow.
pub fn explore<P, X>(plan: &P, participants: &X, bounds: Bounds) -> Explored
where
    P: Plan<Command: Clone + Debug>,
    X: Participants<P> + Debug,
{
    let mut explored = Explored::default();
    let first = World::new(plan.clone(), participants.clone());
    let (mut seen, mut next) = (HashSet::from([key(&first).0]), VecDeque::from([first]));
    while let Some(world) = next.pop_front() {
        explored.states += 1;
        assert!(explored.states <= bounds.states, "more than {} states", bounds.states);
        let waits = world.state.outstanding().next().is_some();
        assert!(world.state.is_final() || waits, "nobody is left to ask: {:?}", world.state);
        if !waits && world.commands.is_empty() && world.replies.is_empty() {
            check(&world);
            match world.state.phase() {
                Phase::Completed => explored.completed += 1,
                _ => explored.compensated += 1,
            }
        }
        // A good time from here on.
        let mut rest = world.clone();
        rest.settle();
        all_or_nothing(&rest);
        for world in after(&world) {
            let (key, messages) = key(&world);
            if messages <= bounds.messages && seen.insert(key) {
                next.push_back(world);
            }
        }
    }
    explored
}

/// What may happen next. A message that is delivered stays on the wire, so that one is as many repetitions as you like; it may be lost at
/// any time.
fn after<P: Plan<Command: Clone>, X: Participants<P>>(world: &World<P, X>) -> Vec<World<P, X>> {
    let mut worlds = Vec::new();
    let mut push = |change: &mut dyn FnMut(&mut World<P, X>)| {
        let mut world = world.clone();
        change(&mut world);
        worlds.push(world);
    };
    for at in 0..world.commands.len() {
        push(&mut |world| drop(world.commands.remove(at)));
        push(&mut |world| {
            let (step, direction, command) = world.commands[at].clone();
            let reply = world.participants.reply(command);
            world.replies.push((step, direction, reply));
        });
    }
    for at in 0..world.replies.len() {
        push(&mut |world| drop(world.replies.remove(at)));
        push(&mut |world| {
            let (.., reply) = world.replies[at].clone();
            world.take(Input::Reply(reply));
        });
    }
    let outstanding: Vec<(P::Step, Direction, u32)> = world.state.outstanding().collect();
    for (step, direction, _) in outstanding {
        push(&mut |world| world.take(Input::Due(step)));
        if direction == Direction::Execute {
            push(&mut |world| world.take(Input::Expired(step)));
        }
    }
    push(&mut |world| world.take(Input::Overdue));
    push(&mut |world| world.take(Input::Cancel));
    push(&mut |world| {
        world.take(Input::Operator { action: Action::Compensate, by: "ann".to_owned(), reason: "tired of it".to_owned() });
    });
    push(&mut |world| world.participants.change());
    worlds
}

/// Two worlds with the same key are the same state. Numbers of attempts tell one sending from another and decide nothing; without them there
/// are finitely many states although every timer may fire for ever. With it comes how many messages are on the network.
fn key<P: Plan<Command: Debug>, X: Debug>(world: &World<P, X>) -> (String, usize) {
    let wire = |messages: Vec<String>| messages.into_iter().collect::<std::collections::BTreeSet<_>>();
    let commands = wire(world.commands.iter().map(|command| format!("{command:?}")).collect());
    let replies = wire(world.replies.iter().map(|reply| format!("{reply:?}")).collect());
    let messages = commands.len() + replies.len();
    (format!("{:?} {:?} {commands:?} {replies:?}", once(&world.state), world.participants), messages)
}

/// The state with each command sent once.
fn once<P: Plan>(state: &State<P>) -> State<P> {
    let mut state = state.clone();
    for progress in state.steps.values_mut() {
        match progress {
            Progress::Asked(attempt) | Progress::Undoing(attempt) | Progress::Undone(attempt) | Progress::GivenUp(attempt) => {
                *attempt = 1;
            }
            Progress::Done(_) | Progress::Refused | Progress::Dropped => {}
        }
    }
    state
}
