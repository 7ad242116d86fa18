//! The whole system on its real parts, in one binary.

mod smoke;
