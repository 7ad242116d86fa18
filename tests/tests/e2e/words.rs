//! What services say to each other, said by hand: the library's.

pub use tests::words::{command, decisions, kind, release, reserve, reserved, validated};
