//! A plan: which steps a saga takes, in which stages, how each is undone and how long it may take.
//!
//! A plan is a table. Its shape is checked by the compiler where that can be; see [`Stages::new`].

use std::fmt::Debug;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Stages, State};

/// What a saga of this type carries, and the steps it takes.
///
/// The implementing type holds what was asked for (an order with its lines); it does not change while the saga runs. What steps bring
/// forth is kept in the state, as their [`Output`](Plan::Output).
pub trait Plan: Clone + Debug + PartialEq + 'static {
    /// The names of the steps. They are persisted, as serde writes them; positions never are.
    type Step: Copy + Ord + Debug + Serialize + DeserializeOwned + 'static;
    /// What a participant is asked to do.
    type Command;
    /// What a participant replies.
    type Reply: Clone + Debug + PartialEq + Serialize + DeserializeOwned;
    /// What a step brings forth that later steps, or the outcome, need.
    type Output: Clone + Debug + PartialEq + Serialize + DeserializeOwned;
    /// Why a participant refused.
    type Refusal: Clone + Debug + PartialEq + Serialize + DeserializeOwned;

    /// Every version of the plan that may still have sagas in flight, the oldest first; a new saga takes the last. A saga keeps the
    /// version it began with, so adding a step does not move the ones under way.
    const VERSIONS: &'static [(u32, Stages<Self>)];

    /// What a reply means: for which step, and with which outcome. `None`: nothing to this saga.
    fn outcome(&self, reply: &Self::Reply) -> Option<(Self::Step, Outcome<Self>)>;

    /// The stages of a version; `None` where this build no longer knows it.
    fn stages(version: u32) -> Option<&'static Stages<Self>> {
        Self::VERSIONS.iter().find(|(known, _)| *known == version).map(|(_, stages)| stages)
    }

    /// The version a new saga takes.
    fn current() -> u32 {
        Self::VERSIONS.last().expect("a plan has at least one version").0
    }
}

/// What a reply says of its step.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome<P: Plan> {
    /// It is done.
    Done(P::Output),
    /// It will not be done, and changed nothing.
    Refused(P::Refusal),
    /// It is undone, or never was.
    Undone,
}

/// How long to wait for a participant, and how often to ask again. Settings may override a plan's defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// The wait before the first repetition; each further wait is twice as long.
    pub first_retry: Duration,
    /// The longest wait between repetitions.
    pub max_retry: Duration,
    /// How long a step may go unanswered before it is given up and compensated. Compensations and steps after the pivot are never
    /// given up: for these, missing the deadline is only reported.
    pub deadline: Duration,
}

impl RetryPolicy {
    /// The wait after this attempt (from 1): doubling, capped, and moved by up to a fifth either way, so that sagas which began
    /// together do not all come back together. The jitter follows from the seed and the attempt: the same saga always waits the same.
    pub fn delay(&self, attempt: u32, seed: u64) -> Duration {
        let doubled = self.first_retry.saturating_mul(1 << attempt.saturating_sub(1).min(20));
        let capped = doubled.min(self.max_retry);
        // SplitMix64 (Steele, Lea, Flood 2014), one step: well mixed even for neighbouring seeds.
        let mut z = seed.wrapping_add(u64::from(attempt).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let unit = (z ^ (z >> 31)) as f64 / u64::MAX as f64;
        capped.mul_f64(0.8 + 0.4 * unit)
    }
}

/// The command of a step or of its compensation, from what was asked for and what earlier steps brought forth.
pub type Make<P> = fn(&P, &State<P>) -> <P as Plan>::Command;

/// What kind of step it is, and with it what may come after (the terms are Chris Richardson's, "Microservices Patterns", chapter 4).
#[derive(Debug)]
pub enum Kind<P: Plan> {
    /// May refuse; leaves nothing behind, so there is nothing to undo.
    Check,
    /// May refuse; can be undone. Without its compensation it cannot be written down.
    Compensatable {
        /// The command that undoes it.
        compensate: Make<P>,
    },
    /// May refuse; once it is done there is no way back.
    Pivot,
    /// Cannot refuse; asked until it is done.
    Retriable,
}

/// One step of a plan.
#[derive(Debug)]
pub struct StepSpec<P: Plan> {
    /// Its name.
    pub step: P::Step,
    /// Its kind.
    pub kind: Kind<P>,
    /// The command that does it.
    pub execute: Make<P>,
    /// How often it is asked again, and when it is given up.
    pub retry: RetryPolicy,
}

/// A step that only looks: it may refuse, and leaves nothing to undo.
pub const fn check<P: Plan>(step: P::Step, retry: RetryPolicy, execute: Make<P>) -> StepSpec<P> {
    StepSpec { step, kind: Kind::Check, execute, retry }
}

/// A step with its compensation. The compensation may not count on the step's own output: a step that never answered is undone too.
pub const fn compensatable<P: Plan>(step: P::Step, retry: RetryPolicy, execute: Make<P>, compensate: Make<P>) -> StepSpec<P> {
    StepSpec { step, kind: Kind::Compensatable { compensate }, execute, retry }
}

/// The step after which there is no way back.
pub const fn pivot<P: Plan>(step: P::Step, retry: RetryPolicy, execute: Make<P>) -> StepSpec<P> {
    StepSpec { step, kind: Kind::Pivot, execute, retry }
}

/// A step that cannot refuse, after the pivot.
pub const fn retriable<P: Plan>(step: P::Step, retry: RetryPolicy, execute: Make<P>) -> StepSpec<P> {
    StepSpec { step, kind: Kind::Retriable, execute, retry }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const RETRY: RetryPolicy = RetryPolicy {
        first_retry: Duration::from_secs(1),
        max_retry: Duration::from_secs(60),
        deadline: Duration::from_secs(300),
    };

    #[test]
    fn delays_double_are_capped_and_jittered() {
        for seed in 0..100 {
            for attempt in 1..40 {
                let base = RETRY.first_retry.saturating_mul(1 << (attempt - 1).min(20)).min(RETRY.max_retry).as_secs_f64();
                let delay = RETRY.delay(attempt, seed).as_secs_f64();
                assert!((base * 0.799..=base * 1.201).contains(&delay), "attempt {attempt}: {delay} for {base}");
            }
        }
        let spread: BTreeSet<Duration> = (0..100).map(|seed| RETRY.delay(1, seed)).collect();
        assert_eq!(spread.len(), 100, "neighbouring seeds spread");
    }
}
