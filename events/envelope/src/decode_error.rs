//! Why a message could not be read.

use thiserror::Error;

/// Why an event could not be read. Never passing: the same bytes fail again.
#[derive(Debug, Error)]
pub enum DecodeError {
    /// Not JSON, or not of the shape the type promises.
    #[error("the event cannot be read: {0}")]
    Malformed(#[from] serde_json::Error),
    /// A type this build does not know.
    #[error("the event type `{0}` is not known here")]
    Unknown(String),
}
