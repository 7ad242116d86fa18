//! Streams and consumers as they are.

use anyhow::Context as _;
use async_nats::jetstream::response::Response;
use async_nats::jetstream::{self, ErrorCode};
use envelope::Consumer;
use serde_json::{Value, json};

use super::drift::PAUSED;

/// What the broker says of a stream or consumer.
pub(super) enum Info {
    /// All of it, as the broker writes it: nothing is lost that this build does not know.
    Found(Found),
    Missing,
}

/// A stream or consumer that is there.
pub(super) struct Found {
    /// How it is made.
    pub config: Value,
    /// For a consumer: messages it has still to bring.
    pub pending: u64,
    /// For a consumer: messages it brought that are not acknowledged.
    pub unacknowledged: u64,
    /// For a consumer: of these, messages it brought more than once.
    pub redelivered: u64,
    /// For a consumer: until when it brings nothing, because somebody paused it.
    pub paused_until: Option<String>,
}

impl Found {
    fn of(mut info: Value) -> Self {
        // The broker keeps a time that has passed.
        let paused = info["paused"] == true;
        let until = info["config"][PAUSED].as_str().filter(|_| paused).map(str::to_owned);
        let count = |what: &str| info[what].as_u64().unwrap_or_default();
        Self {
            pending: count("num_pending"),
            unacknowledged: count("num_ack_pending"),
            redelivered: count("num_redelivered"),
            paused_until: until,
            config: info["config"].take(),
        }
    }

    /// What is to be said of a consumer that is paused.
    pub fn paused(&self, consumer: &Consumer) -> Option<String> {
        let Consumer { stream, name } = consumer;
        let until = self.paused_until.as_ref()?;
        Some(format!("the consumer {name} of {stream} is paused until {until}; `nats consumer resume {stream} {name}` ends that"))
    }
}

pub(super) async fn info(jetstream: &jetstream::Context, subject: &str) -> anyhow::Result<Info> {
    match request(jetstream, subject, &json!({})).await? {
        Ok(info) => Ok(Info::Found(Found::of(info))),
        Err(error) if [ErrorCode::STREAM_NOT_FOUND, ErrorCode::CONSUMER_NOT_FOUND].contains(&error.error_code()) => {
            Ok(Info::Missing)
        }
        Err(error) => Err(error.into()),
    }
}

/// A request of the broker's API: its answer, or its refusal.
pub(super) async fn request(
    jetstream: &jetstream::Context,
    subject: &str,
    body: &Value,
) -> anyhow::Result<Result<Value, jetstream::Error>> {
    match jetstream.request(subject.to_owned(), body).await.with_context(|| format!("the broker does not answer {subject}"))? {
        Response::Ok(answer) => Ok(Ok(answer)),
        Response::Err { error } => Ok(Err(error)),
    }
}
