//! Streams and consumers as they are made.

use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, IntoConsumerConfig as _, pull};
use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy, StorageType};
use clap::Args;
use envelope::{Consumer, Stream};
use serde_json::Value;

use crate::settings::{one_to, seconds, seconds_from};

/// How long a service may hold a message before the broker gives it to another. Far above the longest batch; a batch that takes longer
/// is done twice, with one effect.
const ACK_WAIT: Duration = Duration::from_secs(30);

/// Messages delivered and not yet acknowledged, over all instances of a service.
const MAX_ACK_PENDING: i64 = 1024;

/// The window in which the broker absorbs a repeated message id. It only saves work; correctness never rests on it.
const DUPLICATE_WINDOW: Duration = Duration::from_secs(30);

/// What a stream may hold.
#[derive(Args, Clone, Debug)]
pub struct TopologySettings {
    /// Copies of each stream: 1 on one server, 3 in a cluster.
    #[arg(long, env = "WAYBILL_STREAM_REPLICAS", default_value_t = 1, value_parser = one_to(5))]
    pub stream_replicas: usize,

    /// Bytes each stream may hold, at least what one message may have; the oldest messages give way. The broker sets this much aside for each stream.
    #[arg(long, env = "WAYBILL_STREAM_MAX_BYTES", default_value_t = 512 * 1024 * 1024, value_parser = clap::value_parser!(i64).range(1 << 20..=1 << 50))]
    pub stream_max_bytes: i64,

    /// Seconds a message is kept (default: a week).
    #[arg(long, env = "WAYBILL_STREAM_MAX_AGE", default_value = "604800", value_parser = max_age)]
    pub stream_max_age: Duration,

    /// Seconds back, by the broker's clock, from which on a consumer that is made reads its stream: at least the longest that a saga waits
    /// before it asks again (its service's --retry-max). The default is also the longest that a saga may take in all: nothing older is
    /// waited for, except by what asks again anyway.
    #[arg(long, env = "WAYBILL_CONSUMER_LOOK_BACK", default_value = "900", value_parser = seconds)]
    pub consumer_look_back: Duration,
}

impl Default for TopologySettings {
    fn default() -> Self {
        Self {
            stream_replicas: 1,
            stream_max_bytes: 512 * 1024 * 1024,
            stream_max_age: Duration::from_secs(7 * 24 * 3600),
            consumer_look_back: Duration::from_secs(900),
        }
    }
}

/// Below a second the broker has no room for its window of message ids.
fn max_age(text: &str) -> Result<Duration, String> {
    seconds_from(text, 1.0, 315_360_000.0)
}

pub(super) fn stream_json(stream: &Stream, settings: &TopologySettings) -> Value {
    serde_json::to_value(stream_config(stream, settings)).expect("a configuration is JSON")
}

pub(super) fn consumer_json(consumer: &Consumer) -> Value {
    serde_json::to_value(consumer_config(consumer).into_consumer_config()).expect("a configuration is JSON")
}

fn stream_config(stream: &Stream, settings: &TopologySettings) -> Config {
    Config {
        name: stream.name.to_owned(),
        subjects: stream.subjects.iter().map(|subject| subject.to_string()).collect(),
        description: Some(stream.description.to_owned()),
        retention: RetentionPolicy::Limits,
        discard: DiscardPolicy::Old,
        storage: StorageType::File,
        num_replicas: settings.stream_replicas,
        max_bytes: settings.stream_max_bytes,
        max_age: settings.stream_max_age,
        duplicate_window: DUPLICATE_WINDOW.min(settings.stream_max_age),
        allow_direct: true,
        ..Default::default()
    }
}

fn consumer_config(consumer: &Consumer) -> pull::Config {
    pull::Config {
        name: Some(consumer.name.to_owned()),
        durable_name: Some(consumer.name.to_owned()),
        description: Some(format!("the {} service", consumer.name)),
        ack_policy: AckPolicy::Explicit,
        ack_wait: ACK_WAIT,
        // Never given up: what cannot be handled goes to the dead letters by our hand.
        max_deliver: -1,
        max_ack_pending: MAX_ACK_PENDING,
        // The broker's own default, said aloud.
        max_waiting: 512,
        ..Default::default()
    }
}
