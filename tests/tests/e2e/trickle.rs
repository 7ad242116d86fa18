//! A steady trickle of orders, beside which faults happen: the library's.

pub use tests::Trickle;
