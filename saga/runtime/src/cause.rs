//! Why a saga does not go on, in the words that its lists, their filter and the counts by cause have in common.

use saga::Direction;

use crate::saga::Saga;
use crate::steps::{steps, waiting_for};

/// Of what is no state at all.
pub(crate) const UNREADABLE: &str = "this build cannot read its state";

/// Of what was due and could not be decided: its request or its history cannot be read, mostly.
pub(crate) const UNDECIDED: &str = "this build cannot decide it and leaves it aside";

/// Of what is in flight without an unanswered command.
pub(crate) const NOBODY: &str = "waits for nobody";

/// Of what another build began, or carried on.
pub(crate) fn unknown_plan(version: impl std::fmt::Display) -> String {
    format!("this build does not know plan version {version}; a build that does must go on with it")
}

/// Every command that may be waited for, by the number that the statements give it: in the order of the steps, done and undone.
pub(crate) fn commands<S: Saga>() -> Vec<(S::Step, Direction)> {
    let ways = [Direction::Execute, Direction::Compensate];
    steps::<S>().into_iter().flat_map(|step| ways.map(|way| (step, way))).collect()
}

/// What is waited for, by the same numbers.
pub(crate) fn words<S: Saga>() -> Vec<String> {
    commands::<S>().into_iter().map(|(step, way)| waiting_for::<S>(step, way)).collect()
}
