//! What was said: the messages a stream holds; and saying more by hand.

use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::jetstream::consumer::pull;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use events::BATCH_CONTENT_TYPE;
use events::Consumer;
use futures_util::{StreamExt, TryStreamExt, stream};
use serde_json::Value;
use uuid::Uuid;

use crate::{System, contract, eventually};

/// How long a service may take to handle what was said.
const HANDLED_WITHIN: Duration = Duration::from_secs(30);

/// Messages read at once.
const AT_ONCE: usize = 64;

/// A stored message.
#[derive(Clone, Debug)]
pub struct Said {
    /// Where it was said.
    pub subject: String,
    /// Its place in the stream.
    pub sequence: u64,
    /// When the broker stored it, by the broker's clock.
    pub stored_at: DateTime<Utc>,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub payload: Bytes,
}

impl Said {
    /// A header, empty where there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|value| value.as_str()).unwrap_or_default()
    }

    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.payload).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }
}

impl System {
    /// Every message a stream holds at this moment, in its order.
    pub async fn said(&self, name: &str) -> Vec<Said> {
        let jetstream = self.jetstream();
        let found = jetstream.get_stream(name).await.unwrap_or_else(|error| panic!("the stream {name}: {error}"));
        let state = &found.cached_info().state;
        let read = |sequence: u64| {
            let found = &found;
            async move {
                match found.direct_get(sequence).await {
                    Ok(message) => Ok(Some(Said {
                        subject: message.subject.to_string(),
                        sequence: message.sequence,
                        stored_at: message.time,
                        headers: message.headers,
                        payload: message.payload,
                    })),
                    Err(error) if error.kind() == async_nats::jetstream::stream::DirectGetErrorKind::NotFound => Ok(None),
                    Err(error) => Err(error),
                }
            }
        };
        let all: Vec<Option<Said>> = stream::iter(state.first_sequence.max(1)..=state.last_sequence)
            .map(read)
            .buffered(AT_ONCE)
            .try_collect()
            .await
            .unwrap_or_else(|error| panic!("the stream {name} cannot be read: {error}"));
        let all: Vec<Said> = all.into_iter().flatten().collect();
        // So every end-to-end test that reads what was said is one of the contract too.
        // What a test laid into an outbox by hand names no type.
        for told in all.iter().filter(|said| said.subject.starts_with("events.") && !said.header("ce-type").is_empty()) {
            contract::event(told.header("ce-type"), &told.json()).unwrap_or_else(|why| panic!("{why}\n{told:#?}"));
        }
        all
    }

    /// Every event in the batches a stream holds, in their order.
    pub async fn events(&self, stream: &str) -> Vec<Value> {
        let said = self.said(stream).await;
        let events: Vec<Value> = said.iter().flat_map(|said| said.json().as_array().expect("a batch").clone()).collect();
        // What a service says has an id of parts; what a test says by hand may be anything.
        for event in events.iter().filter(|event| event["id"].as_str().is_some_and(|id| id.contains('/'))) {
            contract::event(event["type"].as_str().unwrap_or_default(), &event["data"])
                .unwrap_or_else(|why| panic!("{why}\n{event:#}"));
        }
        events
    }

    /// Every event in the batches a stream holds that is about this order, in their order.
    pub async fn events_of(&self, stream: &str, order: impl ToString) -> Vec<Value> {
        let (events, order) = (self.events(stream).await, order.to_string());
        events.into_iter().filter(|event| event["data"]["order_id"] == order.as_str()).collect()
    }

    /// Says a batch by hand, as a message of its own. Returns its place in the stream.
    pub async fn say(&self, subject: &str, events: &[Value]) -> u64 {
        self.store(subject, serde_json::to_vec(events).expect("JSON").into()).await
    }

    /// Says again what was said, as a message of its own: no de-duplication absorbs it. Returns its place in the stream.
    pub async fn say_again(&self, said: &Said) -> u64 {
        self.store(&said.subject, said.payload.clone()).await
    }

    async fn store(&self, subject: &str, payload: Bytes) -> u64 {
        let mut headers = HeaderMap::new();
        headers.insert("Content-Type", BATCH_CONTENT_TYPE);
        headers.insert(async_nats::header::NATS_MESSAGE_ID, Uuid::now_v7().to_string());
        let publish = self.jetstream().publish_with_headers(subject.to_owned(), headers, payload).await.expect("published");
        publish.await.expect("stored").sequence
    }

    /// Waits until a consumer has handled everything up to a place in its stream.
    pub async fn handled(&self, consumer: Consumer, sequence: u64) {
        eventually(HANDLED_WITHIN, || async {
            let found = self.jetstream().get_consumer_from_stream::<pull::Config, _, _>(consumer.name, consumer.stream).await;
            let info = found.map_err(|error| error.to_string())?.cached_info().clone();
            if info.ack_floor.stream_sequence >= sequence { Ok(()) } else { Err(format!("{info:?}")) }
        })
        .await;
    }

    /// Deletes every message a stream holds, handled or not, and returns how many those were: messages lost on their way.
    pub async fn lose(&self, stream: &str) -> u64 {
        let stream = self.jetstream().get_stream(stream).await.expect("the stream");
        stream.purge().await.expect("purged").purged
    }
}
