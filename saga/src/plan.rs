//! A plan: which steps a saga takes, in which stages, how each is undone and how long it may take.
//!
//! A plan is a table. Its shape is checked by the compiler where that can be: [`Stages::new`] runs in a constant, and a shape that could
//! strand a saga half done does not build.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

use crate::State;

/// What a saga of this type carries, and the steps it takes.
///
/// The implementing type holds what was asked for (an order with its lines); it does not change while the saga runs. What steps bring
/// forth is kept in the state, as their [`Output`](Plan::Output).
pub trait Plan: Clone + Debug + PartialEq + 'static {
    /// The names of the steps. They are persisted, as serde writes them; positions never are.
    type Step: Copy + Ord + Debug + Serialize + DeserializeOwned + 'static;
    /// What a participant is asked to do.
    type Command;
    /// What a participant answers.
    type Answer: Clone + Debug + PartialEq + Serialize + DeserializeOwned;
    /// What a step brings forth that later steps, or the outcome, need.
    type Output: Clone + Debug + PartialEq + Serialize + DeserializeOwned;
    /// Why a participant refused.
    type Refusal: Clone + Debug + PartialEq + Serialize + DeserializeOwned;

    /// Every version of the plan that may still have sagas in flight, the oldest first; a new saga takes the last. A saga keeps the
    /// version it began with, so adding a step does not move the ones under way.
    const VERSIONS: &'static [(u32, Stages<Self>)];

    /// What an answer means: for which step, and with which outcome. `None`: nothing to this saga.
    fn outcome(&self, answer: &Self::Answer) -> Option<(Self::Step, Outcome<Self>)>;

    /// The stages of a version; `None` where this build no longer knows it.
    fn stages(version: u32) -> Option<&'static Stages<Self>> {
        Self::VERSIONS.iter().find(|(known, _)| *known == version).map(|(_, stages)| stages)
    }

    /// The version a new saga takes.
    fn current() -> u32 {
        Self::VERSIONS.last().expect("a plan has at least one version").0
    }
}

/// What an answer says of its step.
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
pub struct Patience {
    /// The wait before the first repetition; each further wait is twice as long.
    pub first_retry: Duration,
    /// The longest wait between repetitions.
    pub max_retry: Duration,
    /// How long a step may go unanswered before it is given up and compensated. Compensations and steps after the pivot are never
    /// given up: they are past this deadline only visibly.
    pub deadline: Duration,
}

impl Patience {
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
        undo: Make<P>,
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
    pub act: Make<P>,
    /// How long it may take.
    pub patience: Patience,
}

/// A step that only looks: it may refuse, and leaves nothing to undo.
pub const fn check<P: Plan>(step: P::Step, patience: Patience, act: Make<P>) -> StepSpec<P> {
    StepSpec { step, kind: Kind::Check, act, patience }
}

/// A step with its compensation.
pub const fn compensatable<P: Plan>(step: P::Step, patience: Patience, act: Make<P>, undo: Make<P>) -> StepSpec<P> {
    StepSpec { step, kind: Kind::Compensatable { undo }, act, patience }
}

/// The step after which there is no way back.
pub const fn pivot<P: Plan>(step: P::Step, patience: Patience, act: Make<P>) -> StepSpec<P> {
    StepSpec { step, kind: Kind::Pivot, act, patience }
}

/// A step that cannot refuse, after the pivot.
pub const fn retriable<P: Plan>(step: P::Step, patience: Patience, act: Make<P>) -> StepSpec<P> {
    StepSpec { step, kind: Kind::Retriable, act, patience }
}

/// Stages one after another, each of steps side by side.
#[derive(Debug)]
pub struct Stages<P: Plan>(&'static [&'static [StepSpec<P>]]);

/// What only shows when step names are compared; [`Stages::new`] has refused every other bad shape.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ShapeError {
    /// A step stands twice in one version.
    #[error("plan version {version}: the step {step} stands twice")]
    Twice {
        /// The version.
        version: u32,
        /// The step.
        step: String,
    },
    /// Two versions bear one number, or they are not in order.
    #[error("plan version {0} does not come after the one before it")]
    Order(u32),
}

impl<P: Plan> Stages<P> {
    /// Checks the shape. In a constant, a bad shape is a compile error:
    ///
    /// - a stage is never empty, and there is at least one;
    /// - every step has a deadline and a retry delay;
    /// - the pivot stands alone in its stage: what runs beside it could be refused when it can no longer be undone;
    /// - after the pivot, and beside or after a retriable step, every step is retriable: nothing may fail any more.
    pub const fn new(stages: &'static [&'static [StepSpec<P>]]) -> Self {
        assert!(!stages.is_empty(), "a plan has at least one stage");
        let mut no_way_back = false;
        let mut i = 0;
        while i < stages.len() {
            let stage = stages[i];
            assert!(!stage.is_empty(), "a stage has at least one step");
            let mut fallible = false;
            let mut closing = false;
            let mut j = 0;
            while j < stage.len() {
                let patience = stage[j].patience;
                assert!(!patience.deadline.is_zero(), "every step has a deadline");
                assert!(!patience.first_retry.is_zero(), "every step has a retry delay");
                match stage[j].kind {
                    Kind::Check | Kind::Compensatable { .. } => fallible = true,
                    Kind::Pivot => {
                        assert!(stage.len() == 1, "the pivot stands alone in its stage");
                        fallible = true;
                    }
                    Kind::Retriable => closing = true,
                }
                j += 1;
            }
            assert!(!(fallible && closing), "a step beside a retriable step cannot be fallible");
            assert!(!(fallible && no_way_back), "after the pivot, or after a retriable step, no step may be fallible");
            no_way_back = no_way_back || closing || matches!(stage[0].kind, Kind::Pivot);
            i += 1;
        }
        Self(stages)
    }

    /// The stages in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &'static [StepSpec<P>]> + use<P> {
        self.0.iter().copied()
    }

    /// A step's line in the table.
    pub fn spec(&self, step: P::Step) -> Option<&'static StepSpec<P>> {
        self.iter().flatten().find(|spec| spec.step == step)
    }

    /// A number that changes when a step is added, removed, renamed, moved or changes its kind (FNV-1a, 64 bits). It says
    /// whether two builds mean the same by one version.
    pub fn fingerprint(&self) -> u64 {
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        let mut add = |text: &str| {
            for byte in text.bytes().chain([0]) {
                hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
            }
        };
        for stage in self.iter() {
            add("stage");
            for spec in stage {
                add(&step_name::<P>(spec.step));
                add(match spec.kind {
                    Kind::Check => "check",
                    Kind::Compensatable { .. } => "compensatable",
                    Kind::Pivot => "pivot",
                    Kind::Retriable => "retriable",
                });
            }
        }
        hash
    }
}

/// A step's name as it is persisted.
pub(crate) fn step_name<P: Plan>(step: P::Step) -> String {
    match serde_json::to_value(step) {
        Ok(serde_json::Value::String(name)) => name,
        _ => format!("{step:?}"),
    }
}

/// Checks what a constant cannot: names. Run at start-up.
pub fn verify<P: Plan>() -> Result<(), ShapeError> {
    let mut last = 0;
    for (version, stages) in P::VERSIONS {
        if *version <= last {
            return Err(ShapeError::Order(*version));
        }
        last = *version;
        let mut seen = BTreeSet::new();
        for spec in stages.iter().flatten() {
            if !seen.insert(spec.step) {
                return Err(ShapeError::Twice { version: *version, step: step_name::<P>(spec.step) });
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience =
        Patience { first_retry: Duration::from_secs(1), max_retry: Duration::from_secs(60), deadline: Duration::from_secs(300) };

    #[test]
    fn delays_double_are_capped_and_jittered() {
        for seed in 0..100 {
            for attempt in 1..40 {
                let base = PATIENCE.first_retry.saturating_mul(1 << (attempt - 1).min(20)).min(PATIENCE.max_retry).as_secs_f64();
                let delay = PATIENCE.delay(attempt, seed).as_secs_f64();
                assert!((base * 0.799..=base * 1.201).contains(&delay), "attempt {attempt}: {delay} for {base}");
            }
        }
        let spread: BTreeSet<Duration> = (0..100).map(|seed| PATIENCE.delay(1, seed)).collect();
        assert_eq!(spread.len(), 100, "neighbouring seeds spread");
    }
}
