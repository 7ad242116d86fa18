//! What the toy plans share: every step brings forth a number and may be refused with a word.

use std::time::Duration;

use saga::{Direction, Input, Outcome, Patience, Plan, State};
use serde::{Deserialize, Serialize};

const SECOND: Duration = Duration::from_secs(1);
pub const PATIENCE: Patience = Patience { first_retry: SECOND, max_retry: SECOND, deadline: SECOND };

/// The answer of a toy's participant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Answer<S> {
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
    Command { step, direction: Direction::Act, with }
}

pub const fn revoke<S>(step: S, with: u32) -> Command<S> {
    Command { step, direction: Direction::Undo, with }
}

/// What an earlier step brought forth; 0 where it did not.
pub fn number<P: Plan<Output = u32>>(state: &State<P>, step: P::Step) -> u32 {
    state.output(step).copied().unwrap_or_default()
}

pub fn done<S, P: Plan<Step = S, Answer = Answer<S>>>(step: S, number: u32) -> Input<P> {
    Input::Answer(Answer::Done(step, number))
}

pub fn refused<S, P: Plan<Step = S, Answer = Answer<S>>>(step: S) -> Input<P> {
    Input::Answer(Answer::Refused(step, "no".to_owned()))
}

pub fn undone<S, P: Plan<Step = S, Answer = Answer<S>>>(step: S) -> Input<P> {
    Input::Answer(Answer::Undone(step))
}

pub fn outcome<P: Plan<Output = u32, Refusal = String>>(answer: &Answer<P::Step>) -> Option<(P::Step, Outcome<P>)> {
    Some(match answer {
        Answer::Done(step, number) => (*step, Outcome::Done(*number)),
        Answer::Refused(step, why) => (*step, Outcome::Refused(why.clone())),
        Answer::Undone(step) => (*step, Outcome::Undone),
        Answer::Gibberish => return None,
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
            type Answer = $crate::toy::Answer<$step>;
            type Output = u32;
            type Refusal = String;

            const VERSIONS: &'static [(u32, saga::Stages<Self>)] = &[$(($version, saga::Stages::new($stages))),*];

            fn outcome(&self, answer: &Self::Answer) -> Option<(Self::Step, saga::Outcome<Self>)> {
                $crate::toy::outcome(answer)
            }
        }
    };
}

pub(crate) use toy;
