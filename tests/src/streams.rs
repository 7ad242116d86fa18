//! What was said: the messages a stream holds.

use async_nats::HeaderMap;
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use serde_json::Value;

use crate::System;

/// Messages read at once.
const AT_ONCE: usize = 64;

/// A stored message.
#[derive(Clone, Debug)]
pub struct Said {
    /// Where it was said.
    pub subject: String,
    /// Its place in the stream.
    pub sequence: u64,
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
        all.into_iter().flatten().collect()
    }

    /// Every event in the batches a stream holds, in their order.
    pub async fn events(&self, stream: &str) -> Vec<Value> {
        let said = self.said(stream).await;
        said.iter().flat_map(|said| said.json().as_array().expect("a batch").clone()).collect()
    }
}
