//! What is decided: the saga engine, for any plan.
//!
//! A saga is a business transaction over several services, none of which can lock another's data: a sequence of steps, each with a
//! compensation that undoes it (Garcia-Molina and Salem, "Sagas", 1987). The engine is one pure function,
//!
//! ```text
//! decide(plan, state, input) -> (state, effects)
//! ```
//!
//! and production, replay and the tests all run it. Nothing below this line does I/O, reads a clock or draws a random number: time
//! reaches a saga only as the inputs [`Input::Due`], [`Input::Expired`] and [`Input::Overdue`], and what a saga wants done leaves it
//! only as [`Effect`]s, written down before anyone acts on them.
//!
//! Read [`Plan`] to see what a saga is, [`decide`] to see how it advances, [`replay`] to see how its past is read, and [`testkit`] to see
//! how one is tested.

mod apply;
mod change;
mod decide;
mod history;
mod input;
mod plan;
mod replay;
mod stages;
mod state;
pub mod testkit;
mod timers;
mod transcript;
pub mod upgrade;

pub use apply::{Applied, Recording, apply};
pub use change::{Change, changes};
pub use decide::{Decision, decide};
pub use history::{EACH_RECORDED, Entry, attempts, is_recorded, repetition};
pub use input::{Action, IgnoredBecause, Input, Verdict};
pub use plan::{Kind, Outcome, Plan, RetryPolicy, StepSpec, check, compensatable, pivot, retriable};
pub use replay::{Divergence, Replay, Replayed, divergence, replay};
pub use stages::{ShapeError, Stages, step_name, verify};
pub use state::{Cause, Direction, Effect, Milestone, Phase, Progress, State};
pub use timers::{RetryOverride, Timer, Timers, Timing};
pub use transcript::{Exportable, Transcript, Unreadable};
