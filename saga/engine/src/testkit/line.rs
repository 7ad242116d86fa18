//! Two small plans for the engine's own tests: steps in a line, and two side by side.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{Input, Outcome, Plan, RetryPolicy, Stages, compensatable, pivot, retriable};

pub(crate) const SECOND: Duration = Duration::from_secs(1);
const RETRY: RetryPolicy = RetryPolicy { first_retry: SECOND, max_retry: SECOND, deadline: SECOND };

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub(crate) enum Step {
    First,
    Second,
    Third,
}

/// A booking, then the pivot, then a step that cannot refuse.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Line;

/// Two bookings side by side.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Pair;

pub(crate) fn done<P: Plan<Step = Step, Reply = Step>>(step: Step) -> Input<P> {
    Input::Reply(step)
}

macro_rules! plan {
    ($name:ident, $stages:expr) => {
        impl Plan for $name {
            type Step = Step;
            type Command = Step;
            /// Done.
            type Reply = Step;
            type Output = ();
            type Refusal = ();

            const VERSIONS: &'static [(u32, Stages<Self>)] = &[(1, Stages::new($stages))];

            fn outcome(&self, reply: &Step) -> Option<(Step, Outcome<Self>)> {
                Some((*reply, Outcome::Done(())))
            }
        }
    };
}

plan!(
    Line,
    &[
        &[compensatable(Step::First, RETRY, |_, _| Step::First, |_, _| Step::First)],
        &[pivot(Step::Second, RETRY, |_, _| Step::Second)],
        &[retriable(Step::Third, RETRY, |_, _| Step::Third)],
    ]
);

plan!(
    Pair,
    &[&[
        compensatable(Step::First, RETRY, |_, _| Step::First, |_, _| Step::First),
        compensatable(Step::Second, RETRY, |_, _| Step::Second, |_, _| Step::Second),
    ]]
);
