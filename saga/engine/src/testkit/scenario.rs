//! Given, when, then: how a test tells a saga, of whatever plan.

use crate::{Decision, Effect, IgnoredBecause, Input, Plan, State, Verdict, decide};

/// A saga under test.
#[derive(Clone, Debug)]
pub struct Scenario<P: Plan> {
    /// What was asked for.
    pub plan: P,
    /// Where it stands.
    pub state: State<P>,
}

/// What came of an input.
#[derive(Debug)]
pub struct When<P: Plan> {
    before: Scenario<P>,
    decision: Decision<P>,
}

/// A saga that each of these inputs has moved.
///
/// # Panics
/// Where one does not move it.
#[track_caller]
pub fn given<P: Plan, const N: usize>(plan: P, inputs: [Input<P>; N]) -> Scenario<P> {
    let mut saga = Scenario { plan, state: State::new() };
    for input in inputs {
        let When { before, decision } = saga.when(input.clone());
        assert_eq!(decision.verdict, Verdict::Moved, "{input:?} moves {before:?}");
        saga = Scenario { plan: before.plan, state: decision.state };
    }
    saga
}

impl<P: Plan> Scenario<P> {
    /// An input comes.
    pub fn when(self, input: Input<P>) -> When<P> {
        When { decision: decide(&self.plan, &self.state, &input), before: self }
    }

    /// Its outcome stands and it waits for nobody.
    ///
    /// # Panics
    /// Where that is not so, as all that follow.
    #[track_caller]
    pub fn settled(self) -> Self {
        assert!(self.state.is_final() && self.state.is_settled(), "{:?}", self.state);
        self
    }

    /// Its outcome stands, and yet it waits for a reply.
    #[track_caller]
    pub fn unsettled(self) -> Self {
        assert!(self.state.is_final() && !self.state.is_settled(), "{:?}", self.state);
        self
    }
}

impl<P: Plan> When<P> {
    /// It moved the saga, and exactly this is sent.
    #[track_caller]
    pub fn then<const N: usize>(self, sent: [Effect<P>; N]) -> Scenario<P> {
        assert_eq!((self.decision.verdict, self.decision.effects.as_slice()), (Verdict::Moved, sent.as_slice()));
        Scenario { plan: self.before.plan, state: self.decision.state }
    }

    /// It changed nothing, and nothing is sent.
    #[track_caller]
    pub fn ignored(self, why: IgnoredBecause) -> Scenario<P> {
        let unmoved = Decision { verdict: Verdict::Ignored(why), state: self.before.state.clone(), effects: Vec::new() };
        assert_eq!(self.decision, unmoved);
        self.before
    }
}

/// The command that does a step.
pub fn execute<P: Plan>(step: P::Step, attempt: u32) -> Effect<P> {
    Effect::Execute { step, attempt }
}

/// The command that undoes a step.
pub fn compensate<P: Plan>(step: P::Step, attempt: u32) -> Effect<P> {
    Effect::Compensate { step, attempt }
}
