//! The topology: the streams and consumers as they should be, and the provisioner that makes and keeps them so.
//!
//! Only the provisioner has the right to change them; services bind to what is there.

use std::time::Duration;

use anyhow::Context;
use async_nats::jetstream::consumer::{AckPolicy, pull};
use async_nats::jetstream::context::GetStreamErrorKind;
use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy, StorageType};
use async_nats::jetstream::{self};
use clap::Args;
use events::streams::{self, CONSUMERS, STREAMS};
use tokio_util::sync::CancellationToken;

use crate::settings::{one_to, seconds_from};

/// How often a watching provisioner looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);

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

    /// Bytes each stream may hold, at least what one message may have; the oldest messages give way. The broker sets this much aside for each of the eight streams.
    #[arg(long, env = "WAYBILL_STREAM_MAX_BYTES", default_value_t = 512 * 1024 * 1024, value_parser = clap::value_parser!(i64).range(1 << 20..=1 << 50))]
    pub stream_max_bytes: i64,

    /// Seconds a message is kept (default: a week).
    #[arg(long, env = "WAYBILL_STREAM_MAX_AGE", default_value = "604800", value_parser = max_age)]
    pub stream_max_age: Duration,
}

impl Default for TopologySettings {
    fn default() -> Self {
        Self { stream_replicas: 1, stream_max_bytes: 512 * 1024 * 1024, stream_max_age: Duration::from_secs(7 * 24 * 3600) }
    }
}

/// Below a second the broker has no room for its window of message ids.
fn max_age(text: &str) -> Result<Duration, String> {
    seconds_from(text, 1.0, 315_360_000.0)
}

/// What `ensure` had to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes(pub Vec<String>);

/// Creates what is missing and updates what differs; leaves everything else alone. Safe to run at any time, by several at once.
pub async fn ensure(jetstream: &jetstream::Context, settings: &TopologySettings) -> anyhow::Result<Changes> {
    let mut changes = Changes::default();
    for stream in &STREAMS {
        let wanted = stream_config(stream, settings);
        let what = match jetstream.get_stream(stream.name).await {
            Ok(found) if stream_matches(&found.cached_info().config, &wanted) => continue,
            Ok(_) => "updated",
            Err(error) if is_missing(&error) => "created",
            Err(error) => return Err(error).context(format!("the stream {} cannot be read", stream.name)),
        };
        jetstream
            .create_or_update_stream(wanted)
            .await
            .with_context(|| format!("the stream {} cannot be made or changed", stream.name))?;
        changes.0.push(format!("stream {} {what}", stream.name));
    }
    for consumer in &CONSUMERS {
        let wanted = consumer_config(consumer);
        let found = jetstream.get_consumer_from_stream::<pull::Config, _, _>(consumer.name, consumer.stream).await;
        let what = match found {
            Ok(found) if consumer_matches(&found.cached_info().config, &wanted) => continue,
            Ok(_) => "updated",
            Err(_) => "created",
        };
        jetstream
            .create_consumer_on_stream(wanted, consumer.stream)
            .await
            .with_context(|| format!("the consumer {} of {} cannot be made or changed", consumer.name, consumer.stream))?;
        changes.0.push(format!("consumer {} of {} {what}", consumer.name, consumer.stream));
    }
    Ok(changes)
}

/// Keeps the topology until shutdown: what vanishes or is changed is put back within seconds.
pub async fn keep(jetstream: &jetstream::Context, settings: &TopologySettings, shutdown: &CancellationToken) {
    let mut failing = false;
    while !shutdown.is_cancelled() {
        match ensure(jetstream, settings).await {
            Ok(changes) => {
                failing = false;
                for change in changes.0 {
                    tracing::info!("{change}");
                }
            }
            Err(error) if !failing => {
                failing = true;
                tracing::warn!(error = format!("{error:#}"), "the topology cannot be kept; trying again");
            }
            Err(_) => {}
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            () = shutdown.cancelled() => return,
        }
    }
}

fn stream_config(stream: &streams::Stream, settings: &TopologySettings) -> Config {
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

fn stream_matches(found: &Config, wanted: &Config) -> bool {
    found.subjects == wanted.subjects
        && found.description == wanted.description
        && found.num_replicas == wanted.num_replicas
        && found.max_bytes == wanted.max_bytes
        && found.max_age == wanted.max_age
        && found.duplicate_window == wanted.duplicate_window
}

fn consumer_config(consumer: &streams::Consumer) -> pull::Config {
    pull::Config {
        durable_name: Some(consumer.name.to_owned()),
        description: Some(format!("the {} service", consumer.name)),
        ack_policy: AckPolicy::Explicit,
        ack_wait: ACK_WAIT,
        // Never given up: what cannot be handled goes to the dead letters by our hand.
        max_deliver: -1,
        max_ack_pending: MAX_ACK_PENDING,
        ..Default::default()
    }
}

fn consumer_matches(found: &jetstream::consumer::Config, wanted: &pull::Config) -> bool {
    found.ack_wait == wanted.ack_wait
        && found.max_deliver == wanted.max_deliver
        && found.max_ack_pending == wanted.max_ack_pending
        && found.description == wanted.description
}

fn is_missing(error: &jetstream::context::GetStreamError) -> bool {
    matches!(error.kind(), GetStreamErrorKind::JetStream(error) if error.error_code() == jetstream::ErrorCode::STREAM_NOT_FOUND)
}
