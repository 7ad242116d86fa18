//! A network that loses, repeats and reorders, with a saga at one end of it and its participants at the other.

use std::collections::BTreeSet;
use std::sync::Arc;

use chrono::DateTime;

use crate::{Action, Cause, Direction, Effect, Entry, Input, Kind, Phase, Plan, Progress, Recording, State, apply, divergence};

/// The participants of a saga, as a model.
pub trait Participants<P: Plan>: Clone {
    /// Takes a command to effect, at most once however often it comes, and replies.
    fn reply(&mut self, command: P::Command) -> P::Reply;

    /// From now on whoever does this step refuses it, unless it is done already. Never asked of a step that cannot refuse.
    fn refuse(&mut self, step: P::Step);

    /// Whether what a step does stands: it was done and not undone.
    fn holds(&self, step: P::Step) -> bool;

    /// Something happens to them that is none of the saga's doing.
    fn change(&mut self) {}
}

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It comes once.
    Delivered,
    /// It comes, and comes again.
    Repeated,
    /// It never comes.
    Lost,
}

/// What happens next. A number picks any of what is there, not the first: that is reordering.
#[derive(Clone, Debug)]
pub enum Event {
    /// To a command on its way.
    Command(usize, Fate),
    /// To a reply on its way.
    Reply(usize, Fate),
    /// A retry timer is up.
    Due(usize),
    /// A step's deadline has passed.
    Expired(usize),
    /// The saga's deadline has passed.
    Overdue,
    /// Whoever began it calls it off.
    Cancel,
    /// See [`Participants::change`].
    Change,
    /// An operator has everything sent again.
    Retry,
    /// An operator has it undone.
    Compensate,
    /// An operator gives up a compensation.
    Skip(usize),
}

/// One saga and its surroundings.
#[derive(Clone, Debug)]
pub struct World<P: Plan, X> {
    /// What was asked for.
    pub plan: P,
    /// Whoever answers.
    pub participants: X,
    /// Where the saga stands.
    pub state: State<P>,
    /// What has happened to it. Shared, because an exploration has many worlds with the same past.
    pub history: Vec<Arc<Entry<P>>>,
    /// Commands on their way.
    pub commands: Vec<(P::Step, Direction, P::Command)>,
    /// Replies on their way.
    pub replies: Vec<(P::Step, Direction, P::Reply)>,
}

impl<P: Plan<Command: Clone>, X: Participants<P>> World<P, X> {
    /// A saga that has just begun.
    pub fn new(plan: P, participants: X) -> Self {
        let (commands, replies, history) = (Vec::new(), Vec::new(), Vec::new());
        let mut world = Self { plan, participants, state: State::new(), history, commands, replies };
        world.take(Input::Start);
        world
    }

    /// A bad time, and then a good one: every message arrives and every timer fires, until nothing moves any more.
    ///
    /// # Panics
    /// Where it never comes to rest.
    pub fn live(&mut self, events: &[Event]) {
        for event in events {
            self.happen(event);
        }
        self.settle();
    }

    /// A good time, until nothing moves any more.
    ///
    /// # Panics
    /// Where it never comes to rest.
    pub fn settle(&mut self) {
        for _ in 0..1_000 {
            if self.commands.is_empty() && self.replies.is_empty() {
                let Some((step, ..)) = self.state.outstanding().next() else { return };
                self.take(Input::Due(step));
            }
            for (step, direction, command) in std::mem::take(&mut self.commands) {
                let reply = self.participants.reply(command);
                self.replies.push((step, direction, reply));
            }
            for (.., reply) in std::mem::take(&mut self.replies) {
                self.take(Input::Reply(reply));
            }
        }
        panic!("it never comes to rest: {:?}", self.state);
    }

    /// One thing happens.
    pub fn happen(&mut self, event: &Event) {
        match *event {
            Event::Command(which, fate) => {
                if let Some((step, direction, command)) = pick(&mut self.commands, which, fate) {
                    let reply = self.participants.reply(command);
                    self.replies.push((step, direction, reply));
                }
            }
            Event::Reply(which, fate) => {
                if let Some((.., reply)) = pick(&mut self.replies, which, fate) {
                    self.take(Input::Reply(reply));
                }
            }
            Event::Due(which) => self.fire(which, Input::Due),
            Event::Expired(which) => self.fire(which, Input::Expired),
            Event::Overdue => self.take(Input::Overdue),
            Event::Cancel => self.take(Input::Cancel),
            Event::Change => self.participants.change(),
            Event::Retry => self.take(operator(Action::Retry)),
            Event::Compensate => self.take(operator(Action::Compensate)),
            Event::Skip(which) => self.fire(which, |step| operator(Action::Skip(step))),
        }
    }

    fn fire(&mut self, which: usize, timer: fn(P::Step) -> Input<P>) {
        let outstanding: Vec<P::Step> = self.state.outstanding().map(|(step, ..)| step).collect();
        if !outstanding.is_empty() {
            self.take(timer(outstanding[which % outstanding.len()]));
        }
    }

    /// An input comes to the saga.
    pub fn take(&mut self, input: Input<P>) {
        let (sequence, recording) = (self.history.len() as u32, Recording::at(DateTime::UNIX_EPOCH));
        let applied = apply(&self.plan, &mut self.state, sequence, input, recording);
        for effect in &applied.effects {
            let (step, direction) = match effect {
                Effect::Execute { step, .. } => (*step, Direction::Execute),
                Effect::Compensate { step, .. } => (*step, Direction::Compensate),
                Effect::Notify(_) => continue,
            };
            self.commands.extend(self.state.command(&self.plan, effect).map(|command| (step, direction, command)));
        }
        self.history.extend(applied.entry.map(Arc::new));
    }
}

fn operator<P: Plan>(action: Action<P::Step>) -> Input<P> {
    Input::Operator { action, by: "ann".to_owned(), reason: "tired of it".to_owned() }
}

/// Takes a message off the wire; a repeated one stays on it as well.
fn pick<T: Clone>(wire: &mut Vec<T>, which: usize, fate: Fate) -> Option<T> {
    if wire.is_empty() {
        return None;
    }
    let at = which % wire.len();
    match fate {
        Fate::Delivered => Some(wire.remove(at)),
        Fate::Repeated => Some(wire[at].clone()),
        Fate::Lost => {
            wire.remove(at);
            None
        }
    }
}

/// What holds of every saga that has come to rest, whatever its plan.
///
/// # Panics
/// Where something of it does not hold, saying what.
pub fn check<P: Plan<Command: Clone>, X: Participants<P>>(world: &World<P, X>) {
    all_or_nothing(world);
    let World { plan, history, .. } = world;
    let entries: Vec<&Entry<P>> = history.iter().map(|entry| &**entry).collect();
    let written = serde_json::to_string(&entries).expect("a history can be written");
    let read: Vec<Entry<P>> = serde_json::from_str(&written).expect("what was written can be read");
    assert_eq!(divergence(plan, &read), None, "its history decides again what it decided");

    let stranded = entries.iter().find(|entry| !entry.state.is_final() && entry.state.outstanding().next().is_none());
    assert_eq!(stranded, None, "until it ends there is always somebody to ask again");

    let mut sent = BTreeSet::new();
    for effect in history.iter().flat_map(|entry| &entry.sent) {
        let effect = serde_json::to_string(effect).expect("an effect can be written");
        assert!(sent.insert(effect.clone()), "nothing is sent twice under one number: {effect}");
    }
    for pair in history.windows(2) {
        let (before, after) = (pair[0].state.phase(), pair[1].state.phase());
        let lawful = match (before, after) {
            (before, after) if before == after => true,
            (Phase::Running, _) => true,
            (Phase::Completed, Phase::Compensating(cause) | Phase::Compensated(cause)) => *cause == Cause::Cancelled,
            (Phase::Compensating(cause), Phase::Compensated(end)) => cause == end,
            _ => false,
        };
        assert!(lawful, "{before:?} does not become {after:?}");
        let ends = before != after && pair[1].state.is_final();
        assert!(!ends || pair[1].state.is_settled(), "it ends when nobody is left to reply, not before");
    }
}

/// A saga that has come to rest completed and holds all of it, or was undone and holds nothing.
pub(super) fn all_or_nothing<P: Plan<Command: Clone>, X: Participants<P>>(world: &World<P, X>) {
    let World { participants, state, .. } = world;
    assert!(state.is_final() && state.is_settled(), "it has come to rest: {state:?}");
    let completed = *state.phase() == Phase::Completed;
    for spec in P::stages(state.plan_version()).into_iter().flat_map(|stages| stages.iter()).flatten() {
        // A check leaves nothing, and what an operator gave up is put right by hand.
        let exempt = matches!(spec.kind, Kind::Check) || matches!(state.progress(spec.step), Some(Progress::GivenUp(_)));
        let holds = participants.holds(spec.step);
        assert!(exempt || holds == completed, "all of it or nothing: {:?} holds: {holds}, in {state:?}", spec.step);
    }
}
