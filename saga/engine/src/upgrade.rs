//! Upgrade check: may this build take over a saga that another build began? Asked before a deployment, of every saga in flight.
//!
//! A saga keeps its plan by version number. What the number meant to the build that wrote it is told by the plan's fingerprint; each
//! build records its own ([`versions`]) where it keeps its sagas, and [`check`] compares. Without a record the saga's own state still
//! tells most: a step it took that is gone, or one it should have taken and never did.

use serde::Deserialize;
use serde_json::Value;
use thiserror::Error;

use crate::stages::step_name;
use crate::{Kind, Plan, Progress, Stages, State, StepSpec};

/// Whether this build continues a saga, and in words what stands in the way.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Continuity {
    /// It does, as the build before would have.
    #[error("continues")]
    Continues,
    /// No plan of that version.
    #[error("it began with plan version {version}, which this build does not know (it knows {known:?})")]
    UnknownVersion {
        /// The version.
        version: u32,
        /// Those this build knows.
        known: Vec<u32>,
    },
    /// A step no plan of this build has a name for.
    #[error("its step `{step}` is unknown to this build")]
    UnknownStep {
        /// The step.
        step: String,
    },
    /// A step it took is no longer part of its version.
    #[error("its step `{step}`, {progress}, is no longer in plan version {version}")]
    StepGone {
        /// The version.
        version: u32,
        /// The step.
        step: String,
        /// How far it is: `asked`, `done`, ...
        progress: String,
    },
    /// Its version has a step before, or beside, those it took, which it never took.
    #[error("plan version {version} has a step `{step}` before or beside those it took, which it never took")]
    StepInserted {
        /// The version.
        version: u32,
        /// The step.
        step: String,
    },
    /// A step is being undone, and the plan no longer says how.
    #[error("its step `{step}` is being undone, and plan version {version} has no compensation for it any more")]
    NoCompensation {
        /// The version.
        version: u32,
        /// The step.
        step: String,
    },
    /// Its version does not mean what it meant.
    #[error("plan version {version} was changed after it began: fingerprint {recorded:016x} then, {now:016x} now")]
    PlanChanged {
        /// The version.
        version: u32,
        /// What it was.
        recorded: u64,
        /// What it is.
        now: u64,
    },
    /// Not a state this build can read: what a step brought forth, or why one was refused, has another form.
    #[error("its state cannot be read by this build: {0}")]
    Unreadable(String),
}

impl Continuity {
    /// Whether it continues.
    pub fn is_safe(&self) -> bool {
        *self == Self::Continues
    }
}

/// The versions this build knows, each with its fingerprint: what to record where its sagas are kept. The first record of a version
/// stands, for it is the one its sagas began with.
pub fn versions<P: Plan>() -> Vec<(u32, u64)> {
    P::VERSIONS.iter().map(|(version, stages)| (*version, stages.fingerprint())).collect()
}

/// Says of a saga, by its state as it is persisted and the recorded fingerprint of its version, whether this build continues it.
pub fn check<P: Plan>(state: &Value, recorded: Option<u64>) -> Continuity {
    match obstacle::<P>(state, recorded) {
        Ok(()) => Continuity::Continues,
        Err(obstacle) => obstacle,
    }
}

/// What names a step comes first: it tells an operator more than a fingerprint.
fn obstacle<P: Plan>(state: &Value, recorded: Option<u64>) -> Result<(), Continuity> {
    let version = state["plan"].as_u64().and_then(|version| u32::try_from(version).ok());
    let version = version.ok_or_else(|| Continuity::Unreadable("no plan version".to_owned()))?;
    let stages = P::stages(version).ok_or_else(|| {
        let known = P::VERSIONS.iter().map(|(known, _)| *known).collect();
        Continuity::UnknownVersion { version, known }
    })?;
    if let Some(step) = names(state).find(|name| !is_step::<P>(name)) {
        return Err(Continuity::UnknownStep { step: step.to_owned() });
    }
    let state = State::<P>::deserialize(state).map_err(|error| Continuity::Unreadable(error.to_string()))?;
    taken(&state, version, stages)?;
    untaken(&state, version, stages)?;
    let now = stages.fingerprint();
    match recorded {
        Some(recorded) if recorded != now => Err(Continuity::PlanChanged { version, recorded, now }),
        _ => Ok(()),
    }
}

/// Every step it took has its line in the plan.
fn taken<P: Plan>(state: &State<P>, version: u32, stages: &Stages<P>) -> Result<(), Continuity> {
    for (step, progress) in state.steps() {
        let name = step_name::<P>(step);
        let Some(spec) = stages.spec(step) else {
            return Err(Continuity::StepGone { version, step: name, progress: word(progress).to_owned() });
        };
        if matches!(progress, Progress::Undoing(_)) && !matches!(spec.kind, Kind::Compensatable { .. }) {
            return Err(Continuity::NoCompensation { version, step: name });
        }
    }
    Ok(())
}

/// The steps of a stage are asked together, after every stage before: up to the last stage with a step it took, it took all of them.
fn untaken<P: Plan>(state: &State<P>, version: u32, stages: &Stages<P>) -> Result<(), Continuity> {
    let all: Vec<_> = stages.iter().collect();
    let took = |spec: &StepSpec<P>| state.progress(spec.step).is_some();
    let reached = all.iter().rposition(|stage| stage.iter().any(took)).map_or(0, |last| last + 1);
    match all[..reached].iter().copied().flatten().find(|spec| !took(spec)) {
        Some(spec) => Err(Continuity::StepInserted { version, step: step_name::<P>(spec.step) }),
        None => Ok(()),
    }
}

/// Every step the state names: those it took, and the one that turned it round.
fn names(state: &Value) -> impl Iterator<Item = &str> {
    let taken = state["steps"].as_object().into_iter().flat_map(|steps| steps.keys().map(String::as_str));
    // {"compensating":{"timed_out":{"step":...}}}
    let causes = state["phase"].as_object().into_iter().flat_map(|phase| phase.values().filter_map(Value::as_object));
    let turned = causes.flat_map(|cause| cause.values().filter_map(|cause| cause["step"].as_str()));
    taken.chain(turned)
}

fn is_step<P: Plan>(name: &str) -> bool {
    serde_json::from_value::<P::Step>(name.into()).is_ok()
}

fn word<P: Plan>(progress: &Progress<P>) -> &'static str {
    match progress {
        Progress::Asked(_) => "asked and unanswered",
        Progress::Done(_) => "done",
        Progress::Refused => "refused",
        Progress::Undoing(_) => "being undone",
        Progress::Undone(_) => "undone",
        Progress::Dropped => "let go",
        Progress::GivenUp(_) => "given up",
    }
}
