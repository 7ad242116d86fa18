//! The topology: the streams and consumers as they should be, and the provisioner that makes and keeps them so.
//!
//! Only the provisioner has the right to change them; services bind to what is there.

mod drift;
mod put;
mod watch;

use std::time::Duration;

use anyhow::{Context as _, ensure};
use async_nats::jetstream::consumer::{AckPolicy, IntoConsumerConfig as _, pull};
use async_nats::jetstream::response::Response;
use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy, StorageType};
use async_nats::jetstream::{self, ErrorCode};
use clap::Args;
use envelope::{Consumer, Stream, Topology};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

pub(crate) use watch::{Drift, watch};

use self::drift::PAUSED;
use crate::settings::{one_to, seconds, seconds_from};

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

    /// Seconds back, by the broker's clock, from which on a consumer that is made reads its stream: at least the longest that a saga waits
    /// before it asks again (--retry-max of the order service). The default is also that service's --order-deadline: nothing older is waited
    /// for, except by what asks again anyway.
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

/// What `ensure` had to do, and what it left alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// What was made or put back.
    pub made: Vec<String>,
    /// Consumers that somebody paused: that is meant, and ended by hand.
    pub paused: Vec<String>,
}

/// Creates what is missing and puts back what differs; leaves everything else alone. Safe to run at any time, by several at once.
///
/// # Errors
/// Where the broker does not answer, or something cannot be put back; everything that can be has been by then.
pub async fn ensure(jetstream: &jetstream::Context, topology: &Topology, settings: &TopologySettings) -> anyhow::Result<Changes> {
    let put = put::all(jetstream, topology, settings, &mut put::Refused::default()).await?;
    ensure!(put.impossible.is_empty(), "{}", put.impossible.join("; "));
    Ok(Changes { made: put.changes, paused: put.paused })
}

/// Keeps the topology until shutdown: what vanishes or is changed is put back within seconds.
pub async fn keep(
    jetstream: &jetstream::Context,
    topology: &Topology,
    settings: &TopologySettings,
    shutdown: &CancellationToken,
) {
    let mut failing = false;
    let mut refused = put::Refused::default();
    while !shutdown.is_cancelled() {
        match put::all(jetstream, topology, settings, &mut refused).await {
            Ok(put) => {
                failing = false;
                for change in put.changes {
                    tracing::info!("{change}");
                }
                for what in put.impossible {
                    tracing::warn!("{what}");
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

/// What the broker says of a stream or consumer.
enum Info {
    /// All of it, as the broker writes it: nothing is lost that this build does not know.
    Found(Found),
    Missing,
}

/// A stream or consumer that is there.
struct Found {
    /// How it is made.
    config: Value,
    /// For a consumer: messages it has still to bring.
    pending: u64,
    /// For a consumer: until when it brings nothing, because somebody paused it.
    paused_until: Option<String>,
}

impl Found {
    fn of(mut info: Value) -> Self {
        // The broker keeps a time that has passed.
        let paused = info["paused"] == true;
        let until = info["config"][PAUSED].as_str().filter(|_| paused).map(str::to_owned);
        Self { pending: info["num_pending"].as_u64().unwrap_or_default(), paused_until: until, config: info["config"].take() }
    }

    /// What is to be said of a consumer that is paused.
    fn paused(&self, consumer: &Consumer) -> Option<String> {
        let Consumer { stream, name } = consumer;
        let until = self.paused_until.as_ref()?;
        Some(format!("the consumer {name} of {stream} is paused until {until}; `nats consumer resume {stream} {name}` ends that"))
    }
}

async fn info(jetstream: &jetstream::Context, subject: &str) -> anyhow::Result<Info> {
    match request(jetstream, subject, &json!({})).await? {
        Ok(info) => Ok(Info::Found(Found::of(info))),
        Err(error) if [ErrorCode::STREAM_NOT_FOUND, ErrorCode::CONSUMER_NOT_FOUND].contains(&error.error_code()) => {
            Ok(Info::Missing)
        }
        Err(error) => Err(error.into()),
    }
}

/// A request of the broker's API: its answer, or its refusal.
async fn request(jetstream: &jetstream::Context, subject: &str, body: &Value) -> anyhow::Result<Result<Value, jetstream::Error>> {
    match jetstream.request(subject.to_owned(), body).await.with_context(|| format!("the broker does not answer {subject}"))? {
        Response::Ok(answer) => Ok(Ok(answer)),
        Response::Err { error } => Ok(Err(error)),
    }
}

fn stream_json(stream: &Stream, settings: &TopologySettings) -> Value {
    serde_json::to_value(stream_config(stream, settings)).expect("a configuration is JSON")
}

fn consumer_json(consumer: &Consumer) -> Value {
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
