//! Given, when, then: how a test tells a saga, of whatever plan. Shared with the tests inside the crate.

use saga::{Decision, Input, Message, Plan, State, Verdict, Why, decide};

/// A saga under test.
#[derive(Clone, Debug)]
pub struct Saga<P: Plan> {
    pub plan: P,
    pub state: State<P>,
}

/// What came of an input.
#[derive(Debug)]
pub struct When<P: Plan> {
    before: Saga<P>,
    decision: Decision<P>,
}

/// A saga that each of these inputs has moved.
#[track_caller]
pub fn given<P: Plan, const N: usize>(plan: P, inputs: [Input<P>; N]) -> Saga<P> {
    let mut saga = Saga { plan, state: State::new() };
    for input in inputs {
        let When { before, decision } = saga.when(input.clone());
        assert_eq!(decision.verdict, Verdict::Moved, "{input:?} moves {before:?}");
        saga = Saga { plan: before.plan, state: decision.state };
    }
    saga
}

impl<P: Plan> Saga<P> {
    pub fn when(self, input: Input<P>) -> When<P> {
        When { decision: decide(&self.plan, &self.state, &input), before: self }
    }

    /// Its outcome stands and it waits for nobody.
    #[track_caller]
    pub fn settled(self) -> Self {
        assert!(self.state.is_final() && self.state.is_settled(), "{:?}", self.state);
        self
    }

    /// Its outcome stands, and yet it waits for an answer.
    #[track_caller]
    pub fn unsettled(self) -> Self {
        assert!(self.state.is_final() && !self.state.is_settled(), "{:?}", self.state);
        self
    }
}

impl<P: Plan> When<P> {
    /// It moved the saga, and exactly this is said.
    #[track_caller]
    pub fn then<const N: usize>(self, said: [Message<P>; N]) -> Saga<P> {
        assert_eq!((self.decision.verdict, self.decision.messages.as_slice()), (Verdict::Moved, said.as_slice()));
        Saga { plan: self.before.plan, state: self.decision.state }
    }

    /// It changed nothing, and nothing is said.
    #[track_caller]
    pub fn ignored(self, why: Why) -> Saga<P> {
        let unmoved = Decision { verdict: Verdict::Ignored(why), state: self.before.state.clone(), messages: Vec::new() };
        assert_eq!(self.decision, unmoved);
        self.before
    }
}

pub fn ask<P: Plan>(step: P::Step, attempt: u32) -> Message<P> {
    Message::Ask { step, attempt }
}

pub fn undo<P: Plan>(step: P::Step, attempt: u32) -> Message<P> {
    Message::Undo { step, attempt }
}
