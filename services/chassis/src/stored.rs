//! What the broker has stored: a stream's description, and whether a message is there. Reads only, each of one message at most.

use anyhow::Context as _;
use async_nats::jetstream::response::Response;
use async_nats::jetstream::stream::DirectGetErrorKind;
use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use crate::broker::Broker;

impl Broker {
    /// A stream as the broker describes it; with the sequences that are missing in its middle, if they are wanted.
    pub async fn stream_info(&self, stream: &str, with_deleted: bool) -> anyhow::Result<Value> {
        let request = json!({ "deleted_details": with_deleted });
        match self.jetstream().request(format!("STREAM.INFO.{stream}"), &request).await? {
            Response::Ok(info) => Ok(info),
            Response::Err { error } => Err(error).with_context(|| format!("the stream {stream} cannot be read")),
        }
    }

    /// When a message was stored; `None`: it is not there.
    pub async fn stored_at(&self, stream: &str, sequence: u64) -> anyhow::Result<Option<DateTime<Utc>>> {
        match self.jetstream().get_stream_no_info(stream).await?.direct_get(sequence).await {
            Ok(message) => Ok(Some(message.time)),
            Err(error) if error.kind() == DirectGetErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("the stream {stream} cannot be read")),
        }
    }

    /// Whether a stream holds a message under a subject.
    pub async fn holds(&self, stream: &str, subject: &str) -> anyhow::Result<bool> {
        match self.jetstream().get_stream_no_info(stream).await?.direct_get_last_for_subject(subject).await {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == DirectGetErrorKind::NotFound => Ok(false),
            Err(error) => Err(error).with_context(|| format!("the stream {stream} cannot be read")),
        }
    }

    /// The process of the server this is connected to: another one after each start.
    pub fn server_id(&self) -> String {
        self.client().server_info().server_id
    }
}
