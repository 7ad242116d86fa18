//! How large the head of a request may be.

/// The longest head of a request, in bytes, and the most headers.
pub(super) const HEAD_MAX: usize = 32 * 1024;

pub(super) const HEADERS_MAX: usize = 100;
