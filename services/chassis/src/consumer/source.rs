//! Where a handler's work comes from.

use envelope::{Consumer, DecodeError};
use serde_json::value::RawValue;

/// Reads one event.
type Read<T> = Box<dyn Fn(&RawValue) -> Result<T, DecodeError> + Send + Sync>;

/// Where a handler's work comes from: a durable consumer, and how one of its events is read.
pub struct Source<T> {
    pub(crate) consumer: Consumer,
    pub(super) read: Read<T>,
}

impl<T> Source<T> {
    /// Events of this consumer, each read by this function.
    pub fn new(consumer: Consumer, read: impl Fn(&RawValue) -> Result<T, DecodeError> + Send + Sync + 'static) -> Self {
        Self { consumer, read: Box::new(read) }
    }
}
