//! The shape of a plan: its stages, and what is refused of them.
//!
//! [`Stages::new`] runs in a constant, so a shape that could strand a saga half done does not build.

use std::collections::BTreeSet;

use thiserror::Error;

use crate::{Kind, Plan, StepSpec};

#[cfg(doctest)]
mod shapes;

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
                let retry = stage[j].retry;
                assert!(!retry.deadline.is_zero(), "every step has a deadline");
                assert!(!retry.first_retry.is_zero() && !retry.max_retry.is_zero(), "every step has a retry delay");
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
pub fn step_name<P: Plan>(step: P::Step) -> String {
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
