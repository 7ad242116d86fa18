//! Where a saga stands. Only `decide` makes one state from another.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Kind, Plan, Stages};

/// Where a saga stands: its phase, and how far each step is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(bound = "")]
pub struct State<P: Plan> {
    /// The plan version it began with and keeps.
    pub(crate) plan: u32,
    pub(crate) phase: Phase<P>,
    /// Steps not yet asked are absent.
    pub(crate) steps: BTreeMap<P::Step, Progress<P>>,
}

/// The phase of a whole saga.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(bound = "", rename_all = "snake_case")]
pub enum Phase<P: Plan> {
    /// Not begun.
    New,
    /// Going forward.
    Running,
    /// Going back, and why.
    Compensating(Cause<P>),
    /// Every step is done.
    Completed,
    /// Nothing is left of it, and why.
    Compensated(Cause<P>),
}

/// How far one step is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(bound = "", rename_all = "snake_case")]
pub enum Progress<P: Plan> {
    /// Asked so many times, unanswered.
    Asked(u32),
    /// Done, with what it brought forth.
    Done(P::Output),
    /// Refused: it changed nothing.
    Refused,
    /// Its compensation was asked so many times, unanswered.
    Undoing(u32),
    /// Undone, after its compensation was asked so many times.
    Undone(u32),
    /// Unanswered and let go, because it leaves nothing behind.
    Dropped,
    /// Its compensation was asked so many times, unanswered, until an operator gave it up: what it holds is put right by hand.
    GivenUp(u32),
}

/// Why a saga goes back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(bound = "", rename_all = "snake_case")]
pub enum Cause<P: Plan> {
    /// A participant refused a step.
    Refused {
        /// The step.
        step: P::Step,
        /// Why.
        refusal: P::Refusal,
    },
    /// A step went unanswered past its deadline; it may have happened all the same.
    TimedOut {
        /// The step; `None`: the saga as a whole took too long.
        step: Option<P::Step>,
    },
    /// Whoever began it called it off.
    Cancelled,
    /// An operator had it undone.
    Withdrawn {
        /// Who.
        by: String,
        /// Why, in the operator's words.
        reason: String,
    },
}

/// Which way an outstanding command goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Direction {
    /// It does the step.
    Execute,
    /// It undoes the step.
    Compensate,
}

/// What a decision sends. The command itself follows from the plan; see [`State::command`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(bound = "", rename_all = "snake_case")]
pub enum Effect<P: Plan> {
    /// The command that does a step.
    #[serde(rename = "ask")]
    Execute {
        /// The step.
        step: P::Step,
        /// Which attempt, from 1.
        attempt: u32,
    },
    /// The command that undoes a step.
    #[serde(rename = "undo")]
    Compensate {
        /// The step.
        step: P::Step,
        /// Which attempt, from 1.
        attempt: u32,
    },
    /// An event for everyone.
    #[serde(rename = "tell")]
    Notify(Milestone),
}

/// What everyone learns of a saga.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Milestone {
    /// It began.
    Started,
    /// It goes back.
    Compensating,
    /// Every step is done.
    Completed,
    /// Nothing is left of it.
    Compensated,
}

impl<P: Plan> State<P> {
    /// A saga not begun, on the current plan.
    pub fn new() -> Self {
        Self::of_version(P::current())
    }

    /// A saga not begun, on a given version of the plan.
    pub fn of_version(plan: u32) -> Self {
        Self { plan, phase: Phase::New, steps: BTreeMap::new() }
    }

    /// The plan version it began with.
    pub fn plan_version(&self) -> u32 {
        self.plan
    }

    /// Its phase.
    pub fn phase(&self) -> &Phase<P> {
        &self.phase
    }

    /// How far a step is; `None` if it has not been asked.
    pub fn progress(&self, step: P::Step) -> Option<&Progress<P>> {
        self.steps.get(&step)
    }

    /// Every step that has been asked, and how far it is.
    pub fn steps(&self) -> impl Iterator<Item = (P::Step, &Progress<P>)> {
        self.steps.iter().map(|(step, progress)| (*step, progress))
    }

    /// What a step brought forth.
    pub fn output(&self, step: P::Step) -> Option<&P::Output> {
        match self.steps.get(&step)? {
            Progress::Done(output) => Some(output),
            _ => None,
        }
    }

    /// The commands that are unanswered: each needs a timer.
    pub fn outstanding(&self) -> impl Iterator<Item = (P::Step, Direction, u32)> {
        self.steps.iter().filter_map(|(step, progress)| match progress {
            Progress::Asked(attempt) => Some((*step, Direction::Execute, *attempt)),
            Progress::Undoing(attempt) => Some((*step, Direction::Compensate, *attempt)),
            _ => None,
        })
    }

    /// Whether its outcome stands. A completed saga can still be cancelled, and a late answer may still call for a compensation.
    pub fn is_final(&self) -> bool {
        matches!(self.phase, Phase::Completed | Phase::Compensated(_))
    }

    /// Whether it waits for nobody.
    pub fn is_settled(&self) -> bool {
        self.is_final() && self.outstanding().next().is_none()
    }

    /// The command an effect stands for; `None` for an event, and for steps this build's plan does not know.
    pub fn command(&self, plan: &P, effect: &Effect<P>) -> Option<P::Command> {
        let stages = P::stages(self.plan)?;
        match effect {
            Effect::Execute { step, .. } => Some((stages.spec(*step)?.execute)(plan, self)),
            Effect::Compensate { step, .. } => match stages.spec(*step)?.kind {
                Kind::Compensatable { compensate } => Some(compensate(plan, self)),
                _ => None,
            },
            Effect::Notify(_) => None,
        }
    }

    pub(crate) fn stages(&self) -> Option<&'static Stages<P>> {
        P::stages(self.plan)
    }
}

impl<P: Plan> Default for State<P> {
    fn default() -> Self {
        Self::new()
    }
}
