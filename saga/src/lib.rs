//! What is decided: the saga engine and the order saga.
//!
//! A saga is a business transaction over several services, none of which can lock another's data: a sequence of steps, each with a
//! compensation that undoes it (Garcia-Molina and Salem, "Sagas", 1987). The engine is one pure function,
//!
//! ```text
//! decide(plan, state, input) -> (state, messages)
//! ```
//!
//! and production, replay and the tests all run it. Nothing below this line does I/O, reads a clock or draws a random number: time
//! reaches a saga only as the inputs [`Input::Due`], [`Input::Expired`] and [`Input::Overdue`], and what a saga wants done leaves it
//! only as [`Message`]s, written down before anyone acts on them.
//!
//! Read [`order`] to see a saga, [`decide`] to see how it advances, [`replay`] to see how its past is read.

#[cfg(test)]
extern crate self as saga; // the test scenarios are shared with the tests outside the crate

mod change;
mod decide;
#[cfg(test)]
mod fuzz;
mod history;
mod input;
pub mod order;
mod plan;
mod replay;
mod stages;
mod state;
#[cfg(test)]
mod testing;
pub mod upgrade;
mod waybill;

pub use change::{Change, changes};
pub use decide::{Decision, decide};
pub use history::{EACH_RECORDED, Entry, attempts, is_recorded, repetition};
pub use input::{Action, Input, Verdict, Why};
pub use plan::{Kind, Outcome, Patience, Plan, StepSpec, check, compensatable, pivot, retriable};
pub use replay::{Divergence, Replay, Replayed, divergence, replay};
pub use stages::{ShapeError, Stages, verify};
pub use state::{Cause, Direction, Message, Notice, Phase, Progress, State};
pub use waybill::{Portable, Unreadable, Waybill};
