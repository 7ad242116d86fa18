//! What the toy plans share: every step brings forth a number and may be refused with a word.

use std::time::Duration;

use saga::{Direction, Input, Outcome, Plan, RetryPolicy, State};
use serde::{Deserialize, Serialize};

const SECOND: Duration = Duration::from_secs(1);
pub const RETRY: RetryPolicy = RetryPolicy { first_retry: SECOND, max_retry: SECOND, deadline: SECOND };

/// The answer of a toy's participant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Reply<S> {
    Done(S, u32),
    Refused(S, String),
    Undone(S),
    Gibberish,
}

/// A command to a toy's participant.
#[derive(Clone, Debug, PartialEq)]
pub struct Command<S> {
    pub step: S,
    pub direction: Direction,
    /// What earlier steps brought forth, where the step needs it.
    pub with: u32,
}

pub const fn act<S>(step: S, with: u32) -> Command<S> {
    Command { step, direction: Direction::Execute, with }
}

pub const fn revoke<S>(step: S, with: u32) -> Command<S> {
    Command { step, direction: Direction::Compensate, with }
}

/// What an earlier step brought forth; 0 where it did not.
pub fn number<P: Plan<Output = u32>>(state: &State<P>, step: P::Step) -> u32 {
    state.output(step).copied().unwrap_or_default()
}

pub fn done<S, P: Plan<Step = S, Reply = Reply<S>>>(step: S, number: u32) -> Input<P> {
    Input::Reply(Reply::Done(step, number))
}

pub fn refused<S, P: Plan<Step = S, Reply = Reply<S>>>(step: S) -> Input<P> {
    Input::Reply(Reply::Refused(step, "no".to_owned()))
}

pub fn undone<S, P: Plan<Step = S, Reply = Reply<S>>>(step: S) -> Input<P> {
    Input::Reply(Reply::Undone(step))
}

pub fn outcome<P: Plan<Output = u32, Refusal = String>>(answer: &Reply<P::Step>) -> Option<(P::Step, Outcome<P>)> {
    Some(match answer {
        Reply::Done(step, number) => (*step, Outcome::Done(*number)),
        Reply::Refused(step, why) => (*step, Outcome::Refused(why.clone())),
        Reply::Undone(step) => (*step, Outcome::Undone),
        Reply::Gibberish => return None,
    })
}

/// A toy plan: its versions, each a number and its stages.
macro_rules! toy {
    ($name:ident of $step:ty { $($version:literal => $stages:expr),* $(,)? }) => {
        #[derive(Clone, Copy, Debug, PartialEq)]
        pub struct $name;

        impl saga::Plan for $name {
            type Step = $step;
            type Command = $crate::toy::Command<$step>;
            type Reply = $crate::toy::Reply<$step>;
            type Output = u32;
            type Refusal = String;

            const VERSIONS: &'static [(u32, saga::Stages<Self>)] = &[$(($version, saga::Stages::new($stages))),*];

            fn outcome(&self, answer: &Self::Reply) -> Option<(Self::Step, saga::Outcome<Self>)> {
                $crate::toy::outcome(answer)
            }
        }
    };
}

pub(crate) use toy;

/// The two steps of [`Two`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub enum Pair {
    One,
    Other,
}

toy!(Two of Pair {
    1 => &[
        &[saga::compensatable(Pair::One, RETRY, |_, _| act(Pair::One, 0), |_, _| revoke(Pair::One, 0))],
        &[saga::compensatable(Pair::Other, RETRY, |_, _| act(Pair::Other, 0), |_, _| revoke(Pair::Other, 0))],
    ],
});
