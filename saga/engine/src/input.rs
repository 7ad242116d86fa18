//! What reaches a saga, and what becomes of it.

use serde::{Deserialize, Serialize};

use crate::Plan;

/// What reaches a saga.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(bound = "", rename_all = "snake_case")]
pub enum Input<P: Plan> {
    /// Begin.
    Start,
    /// A participant replied.
    #[serde(rename = "answer")]
    Reply(P::Reply),
    /// A step, or its compensation, has gone unanswered long enough to ask again.
    Due(P::Step),
    /// A step has gone unanswered past its deadline.
    Expired(P::Step),
    /// The saga as a whole has run past its deadline.
    Overdue,
    /// Whoever began it calls it off.
    Cancel,
    /// An operator takes a hand in it.
    Operator {
        /// What the operator does.
        action: Action<P::Step>,
        /// Who it is.
        by: String,
        /// Why, in the operator's words.
        reason: String,
    },
}

/// What an operator can do to a saga that does not come through by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action<S> {
    /// Ask every unanswered command again now, without waiting for its timer.
    Retry,
    /// Call it off in the name of whoever began it; see [`Input::Cancel`].
    Cancel,
    /// Undo what was done so far: as if the operator were a participant who refuses.
    Compensate,
    /// Give up the compensation of a step, because it can never succeed. What the step holds is put right by hand.
    Skip(S),
}

/// What became of an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It moved the saga.
    Moved,
    /// It changed nothing.
    Ignored(IgnoredBecause),
}

/// Why an input changed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IgnoredBecause {
    /// The saga has not begun.
    NotStarted,
    /// It has begun already.
    AlreadyStarted,
    /// The answer means nothing to this saga, or contradicts what stands.
    Unexpected,
    /// The same was said before.
    Repeated,
    /// The step was already given up, or answered otherwise.
    Late,
    /// It is going back already.
    AlreadyCompensating,
    /// Its outcome stands.
    Final,
    /// The pivot may be done: there is no way back.
    NoWayBack,
    /// This build does not know the plan version the saga began with.
    UnknownPlan,
    /// Every command is answered: there is nothing to ask again.
    NothingOutstanding,
    /// The step's compensation is not under way: there is nothing to give up.
    NotUndoing,
}

impl IgnoredBecause {
    /// The persisted word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NotStarted => "not_started",
            Self::AlreadyStarted => "already_started",
            Self::Unexpected => "unexpected",
            Self::Repeated => "repeated",
            Self::Late => "late",
            Self::AlreadyCompensating => "already_compensating",
            Self::Final => "final",
            Self::NoWayBack => "no_way_back",
            Self::UnknownPlan => "unknown_plan",
            Self::NothingOutstanding => "nothing_outstanding",
            Self::NotUndoing => "not_undoing",
        }
    }
}
