//! The test kit: any plan, told, shaken and explored.
//!
//! - [`given`], `when`, `then`: one saga, step by step.
//! - [`survives`]: fails, silences, repeats, delays and loses every step and every reply of a plan, and checks that the saga ends and leaves
//!   nothing behind.
//! - [`explore`]: every state that one saga and its participants can get into, on a network that loses, repeats and reorders.
//!
//! The last two take the participants as models: see [`Participants`].

mod explore;
#[cfg(test)]
pub(crate) mod line;
mod scenario;
mod survive;
mod world;

pub use explore::{Bounds, Explored, explore};
pub use scenario::{Scenario, When, compensate, execute, given};
pub use survive::{Survived, events, survives};
pub use world::{Event, Fate, Participants, World, check};
