//! Messages as they are published.

use std::borrow::Cow;

use bytes::Bytes;
use envelope::BATCH_CONTENT_TYPE;
use serde_json::Value;
use uuid::Uuid;

/// One message to publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// The subject.
    pub subject: String,
    /// The headers.
    pub headers: Vec<(Cow<'static, str>, String)>,
    /// The body.
    pub payload: Bytes,
}

impl Packet {
    /// Whether it is a batch between services, and no event for everyone.
    pub(crate) fn is_batch(&self) -> bool {
        self.headers.iter().any(|(name, value)| name == "Content-Type" && value == BATCH_CONTENT_TYPE)
    }
}

/// What an event for everyone is about: the id at the end of its subject.
pub(crate) fn subject_id(subject: &str) -> Option<Uuid> {
    let (_, id) = subject.strip_prefix("events.")?.rsplit_once('.')?;
    Uuid::try_parse(id).ok()
}

/// The headers of each message, as the outbox keeps them.
pub(crate) fn headers_to_json(packets: &[Packet]) -> Value {
    let headers = |packet: &Packet| {
        Value::Object(packet.headers.iter().map(|(name, value)| (name.to_string(), Value::from(value.as_str()))).collect())
    };
    packets.iter().map(headers).collect()
}
