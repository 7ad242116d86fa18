//! A network that loses, repeats and reorders, with a real saga at one end of it and ideal participants at the other.

use std::collections::BTreeSet;

use chrono::DateTime;
use proptest::prelude::*;
use proptest::sample::Index;
use saga::{Action, Cause, Decision, Direction, Entry, Input, Phase, Plan, State, decide, divergence};

/// Whoever answers commands.
pub trait Participants<P: Plan> {
    /// Takes a command to effect, at most once however often it comes.
    fn answer(&mut self, command: P::Command) -> P::Answer;

    /// Something happens to them that is none of the saga's doing.
    fn change(&mut self) {}
}

/// What becomes of a message.
#[derive(Clone, Copy, Debug)]
pub enum Fate {
    Delivered,
    DeliveredAndRepeated,
    Lost,
}

/// What happens next. An index picks any message on the way, not the first: that is reordering.
#[derive(Clone, Debug)]
pub enum Event {
    Command(Index, Fate),
    Answer(Index, Fate),
    Due(Index),
    Expired(Index),
    Overdue,
    Cancel,
    Change,
    /// An operator's hand; an index for what is aimed at one step.
    Retry,
    Withdraw,
    Skip(Index),
}

pub fn events() -> impl Strategy<Value = Vec<Event>> {
    let fate = || prop_oneof![3 => Just(Fate::Delivered), 1 => Just(Fate::DeliveredAndRepeated), 1 => Just(Fate::Lost)];
    let event = prop_oneof![
        12 => (any::<Index>(), fate()).prop_map(|(which, fate)| Event::Command(which, fate)),
        12 => (any::<Index>(), fate()).prop_map(|(which, fate)| Event::Answer(which, fate)),
        4 => any::<Index>().prop_map(Event::Due),
        2 => any::<Index>().prop_map(Event::Expired),
        1 => Just(Event::Overdue),
        1 => Just(Event::Cancel),
        1 => Just(Event::Change),
        1 => Just(Event::Retry),
        1 => Just(Event::Withdraw),
        1 => any::<Index>().prop_map(Event::Skip),
    ];
    prop::collection::vec(event, 0..40)
}

/// One saga and its surroundings.
#[derive(Debug)]
pub struct World<P: Plan, X> {
    pub plan: P,
    pub participants: X,
    pub state: State<P>,
    pub history: Vec<Entry<P>>,
    commands: Vec<P::Command>,
    answers: Vec<P::Answer>,
}

impl<P: Plan<Command: Clone>, X: Participants<P>> World<P, X> {
    pub fn new(plan: P, participants: X) -> Self {
        let (commands, answers, history) = (Vec::new(), Vec::new(), Vec::new());
        let mut world = Self { plan, participants, state: State::new(), history, commands, answers };
        world.take(Input::Start);
        world
    }

    /// A bad time, and then a good one: every message arrives and every timer fires, until nothing moves any more.
    pub fn live(&mut self, events: &[Event]) {
        for event in events {
            self.happen(event);
        }
        for _ in 0..100 {
            if self.commands.is_empty() && self.answers.is_empty() {
                let Some((step, ..)) = self.state.outstanding().next() else { return };
                self.take(Input::Due(step));
            }
            for command in std::mem::take(&mut self.commands) {
                self.answers.push(self.participants.answer(command));
            }
            for answer in std::mem::take(&mut self.answers) {
                self.take(Input::Answer(answer));
            }
        }
        panic!("it never comes to rest: {:?}", self.state);
    }

    fn happen(&mut self, event: &Event) {
        match event {
            Event::Command(which, fate) => {
                if let Some(command) = pick(&mut self.commands, which, *fate) {
                    self.answers.push(self.participants.answer(command));
                }
            }
            Event::Answer(which, fate) => {
                if let Some(answer) = pick(&mut self.answers, which, *fate) {
                    self.take(Input::Answer(answer));
                }
            }
            Event::Due(which) => self.fire(which, Input::Due),
            Event::Expired(which) => self.fire(which, Input::Expired),
            Event::Overdue => self.take(Input::Overdue),
            Event::Cancel => self.take(Input::Cancel),
            Event::Change => self.participants.change(),
            Event::Retry => self.take(operator(Action::Retry)),
            Event::Withdraw => self.take(operator(Action::Compensate)),
            Event::Skip(which) => self.fire(which, |step| operator(Action::Skip(step))),
        }
    }

    fn fire(&mut self, which: &Index, timer: fn(P::Step) -> Input<P>) {
        let outstanding: Vec<(P::Step, Direction, u32)> = self.state.outstanding().collect();
        if !outstanding.is_empty() {
            self.take(timer(which.get(&outstanding).0));
        }
    }

    fn take(&mut self, message: Input<P>) {
        let Decision { verdict, state, messages } = decide(&self.plan, &self.state, &message);
        self.commands.extend(messages.iter().filter_map(|message| state.command(&self.plan, message)));
        self.state = state.clone();
        let sequence = self.history.len() as u32 + 1;
        self.history.push(Entry {
            sequence,
            time: DateTime::UNIX_EPOCH,
            message,
            decision: verdict,
            sent: messages,
            attempts: Default::default(),
            state,
        });
    }
}

fn operator<P: Plan>(action: Action<P::Step>) -> Input<P> {
    Input::Operator { action, by: "ann".to_owned(), reason: "tired of it".to_owned() }
}

/// Takes a message off the wire; a repeated one stays on it as well.
fn pick<T: Clone>(wire: &mut Vec<T>, which: &Index, fate: Fate) -> Option<T> {
    if wire.is_empty() {
        return None;
    }
    let at = which.index(wire.len());
    match fate {
        Fate::Delivered => Some(wire.remove(at)),
        Fate::DeliveredAndRepeated => Some(wire[at].clone()),
        Fate::Lost => {
            wire.remove(at);
            None
        }
    }
}

/// What holds of every saga that has come to rest, whatever its plan.
pub fn check<P: Plan>(plan: &P, state: &State<P>, history: &[Entry<P>]) {
    assert!(state.is_final() && state.is_settled(), "it has come to rest");

    let written = serde_json::to_string(history).unwrap();
    let read: Vec<Entry<P>> = serde_json::from_str(&written).unwrap();
    assert_eq!(divergence(plan, &read), None, "its history decides again what it decided");

    let stranded = history.iter().find(|entry| !entry.state.is_final() && entry.state.outstanding().next().is_none());
    assert_eq!(stranded, None, "until it ends there is always somebody to ask again");

    let mut said = BTreeSet::new();
    for message in history.iter().flat_map(|entry| &entry.sent) {
        assert!(said.insert(serde_json::to_string(message).unwrap()), "nothing is said twice under one number: {message:?}");
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
        assert!(!ends || pair[1].state.is_settled(), "it ends when nobody is left to answer, not before");
    }
}
