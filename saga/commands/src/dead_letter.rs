//! What could not be handled, as the services keep it: read, sent back, put right, deleted.

mod act;
mod letter;

pub use act::{Action, act, packed};
pub use letter::{Letter, get};
