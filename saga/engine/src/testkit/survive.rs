//! Every trouble a plan's steps can have, each alone and with others.

use std::collections::BTreeSet;

use super::world::{Event, Fate, Participants, World, check};
use crate::{Direction, Input, Kind, Phase, Plan};

/// What was lived through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Survived {
    /// Sagas that completed.
    pub completed: usize,
    /// Sagas that were undone.
    pub compensated: usize,
}

/// The trouble of one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    /// It is refused.
    Refused,
    /// Its first commands are lost.
    CommandsLost(usize),
    /// Its first replies are lost.
    RepliesLost(usize),
    /// Its commands are lost until it is given up.
    NeverHeard,
    /// It is done, and its replies come after the saga has come to rest.
    Late,
    /// Everything comes three times.
    Repeated,
}

const TROUBLES: [Trouble; 8] = [
    Trouble::Refused,
    Trouble::CommandsLost(1),
    Trouble::CommandsLost(3),
    Trouble::RepliesLost(1),
    Trouble::RepliesLost(3),
    Trouble::NeverHeard,
    Trouble::Late,
    Trouble::Repeated,
];

/// Fails, silences, repeats, delays and loses every step and every reply of a plan, each way alone, each with a cancellation or an elapsed
/// deadline at each point, and all of them mixed from as many seeds as `lives`; and checks of each that the saga ends, replays, and leaves
/// all of it or nothing.
///
/// # Panics
/// Where one of them does not, saying which trouble or seed it was and what does not hold.
pub fn survives<P, X>(plan: &P, participants: &X, lives: u64) -> Survived
where
    P: Plan<Command: Clone>,
    X: Participants<P>,
{
    let mut survived = Survived::default();
    let steps: Vec<(P::Step, bool)> = P::stages(P::current())
        .into_iter()
        .flat_map(|stages| stages.iter())
        .flatten()
        .map(|spec| (spec.step, !matches!(spec.kind, Kind::Retriable)))
        .collect();
    let mut troubles = vec![None];
    for (step, may_refuse) in &steps {
        let of_step = TROUBLES.into_iter().filter(|trouble| *may_refuse || *trouble != Trouble::Refused);
        troubles.extend(of_step.map(|trouble| Some((*step, trouble))));
    }
    for trouble in troubles {
        for call_off in [None, Some(Input::Cancel), Some(Input::Overdue)] {
            // Each point at which a saga of this plan can be called off: after each thing that happens to it.
            let points = if call_off.is_some() { 4 * steps.len() + 2 } else { 1 };
            for point in 0..points {
                let what = format!("{trouble:?}, {call_off:?} at {point}");
                let world =
                    Life { trouble, call_off: call_off.clone().map(|input| (point, input)) }.lived(plan, participants, &what);
                survived.count(&world);
            }
        }
    }
    for seed in 0..lives {
        let mut random = Random(seed);
        let mut world = World::new(plan.clone(), participants.clone());
        let refused: BTreeSet<P::Step> =
            steps.iter().filter(|(_, may)| *may && random.below(6) == 0).map(|(step, _)| *step).collect();
        refused.into_iter().for_each(|step| world.participants.refuse(step));
        let events = events(random.next());
        told(&format!("seed {seed}"), || {
            world.live(&events);
            check(&world);
        });
        survived.count(&world);
    }
    survived
}

/// A bad time: up to 40 things that happen, the same for the same seed.
pub fn events(seed: u64) -> Vec<Event> {
    let mut random = Random(seed);
    (0..random.below(40)).map(|_| random.event()).collect()
}

/// Says what was being lived through where it fails.
fn told(what: &str, live: impl FnOnce()) {
    struct Told<'a>(&'a str);
    impl Drop for Told<'_> {
        fn drop(&mut self) {
            // A failing assertion inside says what does not hold; this says when.
            if !self.0.is_empty() {
                eprintln!("the saga did not survive: {}", self.0);
            }
        }
    }
    let mut told = Told(what);
    live();
    told.0 = "";
}

impl Survived {
    fn count<P: Plan, X>(&mut self, world: &World<P, X>) {
        match world.state.phase() {
            Phase::Completed => self.completed += 1,
            _ => self.compensated += 1,
        }
    }
}

/// One life with one trouble.
struct Life<P: Plan> {
    trouble: Option<(P::Step, Trouble)>,
    call_off: Option<(usize, Input<P>)>,
}

impl<P: Plan<Command: Clone>> Life<P> {
    fn lived<X: Participants<P>>(self, plan: &P, participants: &X, what: &str) -> World<P, X> {
        let mut world = World::new(plan.clone(), participants.clone());
        if let Some((step, Trouble::Refused)) = self.trouble {
            world.participants.refuse(step);
        }
        told(what, || {
            self.live(&mut world);
            check(&world);
        });
        world
    }

    fn live<X: Participants<P>>(&self, world: &mut World<P, X>) {
        let (mut commands, mut replies, mut happened, mut late) = (0, 0, 0, Vec::new());
        let of = |step: P::Step| self.trouble.and_then(|(of, trouble)| (of == step).then_some(trouble));
        loop {
            if let Some((point, input)) = &self.call_off
                && *point == happened
            {
                world.take(input.clone());
            }
            happened += 1;
            let outstanding = world.state.outstanding().next().map(|(step, ..)| step);
            assert!(happened < 10_000, "it never comes to rest: {:?}", world.state);
            if !world.commands.is_empty() {
                let (step, direction, command) = world.commands.remove(0);
                let lost = match of(step) {
                    Some(Trouble::CommandsLost(times)) => {
                        commands += 1;
                        commands <= times
                    }
                    Some(Trouble::NeverHeard) => direction == Direction::Execute && can_be_given_up(world, step),
                    _ => false,
                };
                let times = if of(step) == Some(Trouble::Repeated) { 3 } else { usize::from(!lost) };
                for _ in 0..times {
                    let reply = world.participants.reply(command.clone());
                    world.replies.push((step, direction, reply));
                }
            } else if !world.replies.is_empty() {
                let (step, direction, reply) = world.replies.remove(0);
                match of(step) {
                    Some(Trouble::RepliesLost(times)) if replies < times => replies += 1,
                    Some(Trouble::Late) if direction == Direction::Execute && can_be_given_up(world, step) => late.push(reply),
                    Some(Trouble::Repeated) => (0..3).for_each(|_| world.take(Input::Reply(reply.clone()))),
                    _ => world.take(Input::Reply(reply)),
                }
            } else if let Some(step) = outstanding {
                // Nobody says anything any more: the clock does.
                let given_up = matches!(of(step), Some(Trouble::NeverHeard | Trouble::Late));
                world.take(if given_up { Input::Expired(step) } else { Input::Due(step) });
            } else if let Some(reply) = late.pop() {
                world.take(Input::Reply(reply));
            } else {
                return;
            }
        }
    }
}

fn can_be_given_up<P: Plan, X>(world: &World<P, X>, step: P::Step) -> bool {
    let spec = P::stages(world.state.plan_version()).and_then(|stages| stages.spec(step));
    spec.is_some_and(|spec| matches!(spec.kind, Kind::Check | Kind::Compensatable { .. }))
}

/// SplitMix64 (Steele, Lea, Flood 2014): the same life for the same seed, everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn event(&mut self) -> Event {
        let which = self.below(1 << 16) as usize;
        let fate = match self.below(5) {
            0 => Fate::Lost,
            1 => Fate::Repeated,
            _ => Fate::Delivered,
        };
        match self.below(38) {
            0..12 => Event::Command(which, fate),
            12..24 => Event::Reply(which, fate),
            24..29 => Event::Due(which),
            29..31 => Event::Expired(which),
            31 => Event::Overdue,
            32 => Event::Cancel,
            33 | 34 => Event::Change,
            35 => Event::Retry,
            36 => Event::Compensate,
            _ => Event::Skip(which),
        }
    }
}
