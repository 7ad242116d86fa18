//! The floor of the messages: published with many acknowledgements outstanding, consumed as the services and customers do.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use anyhow::Context as _;
use async_nats::header::{HeaderMap, HeaderName, HeaderValue, NATS_MESSAGE_ID};
use async_nats::jetstream::consumer::{AckPolicy, pull};
use async_nats::jetstream::context::PublishAckFuture;
use async_nats::jetstream::stream::{Config, StorageType};
use async_nats::jetstream::{self, Context};
use async_nats::{Client, Subscriber};
use bytes::Bytes;
use events::streams::STREAMS;
use futures_util::StreamExt as _;
use uuid::Uuid;

/// Orders whose messages are repeated, at most.
pub const ORDERS: u64 = 20_000;

/// Acknowledgements outstanding: where publishing costs least.
const OUTSTANDING: usize = 512;

/// The stream with one message an event; the others carry batches.
const EVENTS: &str = "ORDER_EVENTS";

const STREAM: &str = "BENCH_FLOOR";
const BATCHES: &str = "bench.floor.batch";
const PLACED: &str = "bench.floor.placed";
const FINAL: &str = "bench.floor.final";

/// How long the broker may take to bring what was published.
const PATIENCE: Duration = Duration::from_secs(30);

/// Of each stream, the number of its last message, the mean size of those it holds, and the headers of the last.
pub type Said = BTreeMap<&'static str, (u64, usize, HeaderMap)>;

/// Messages of one run: how many of which size, and with which headers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Traffic {
    batches: Vec<(u64, usize, HeaderMap)>,
    events: (u64, usize, HeaderMap),
}

impl Traffic {
    /// What was said between two moments.
    pub fn between(before: &Said, after: &Said) -> Self {
        let mut traffic = Self::default();
        for (name, (last, size, headers)) in after {
            let count = last - before.get(name).map_or(0, |(last, ..)| *last);
            match *name {
                EVENTS => traffic.events = (count, *size, headers.clone()),
                _ if count > 0 => traffic.batches.push((count, *size, headers.clone())),
                _ => {}
            }
        }
        traffic
    }

    /// The share of at most so many orders, and how many orders that is: a share of the messages is enough.
    pub fn for_at_most(&self, orders: u64, most: u64) -> (Self, f64) {
        let share = (most as f64 / orders.max(1) as f64).min(1.0);
        let of =
            |(count, size, headers): &(u64, usize, HeaderMap)| ((*count as f64 * share).round() as u64, *size, headers.clone());
        (Self { batches: self.batches.iter().map(of).collect(), events: of(&self.events) }, orders as f64 * share)
    }

    fn batches(&self) -> u64 {
        self.batches.iter().map(|(count, ..)| count).sum()
    }

    fn bytes(&self) -> u64 {
        self.batches.iter().chain([&self.events]).map(|(count, size, _)| count * *size as u64).sum()
    }
}

/// What has been said so far.
pub async fn said(jetstream: &Context) -> anyhow::Result<Said> {
    let mut said = Said::new();
    for stream in &STREAMS {
        let stored = jetstream.get_stream(stream.name).await?;
        let state = stored.get_info().await?.state;
        let size = state.bytes.checked_div(state.messages).unwrap_or_default();
        let headers = match state.messages {
            0 => HeaderMap::new(),
            _ => stored.get_raw_message(state.last_sequence).await?.headers,
        };
        said.insert(stream.name, (state.last_sequence, usize::try_from(size)?, headers));
    }
    Ok(said)
}

/// A stream for one measurement.
pub struct Scratch {
    jetstream: Context,
    consumer: jetstream::consumer::PullConsumer,
    /// The customer who waits for final events.
    customer: Subscriber,
}

impl Scratch {
    /// Makes it.
    pub async fn open(client: &Client, jetstream: &Context, traffic: &Traffic) -> anyhow::Result<Self> {
        let _ = jetstream.delete_stream(STREAM).await; // left by a run that was killed
        let room = traffic.bytes() * 2 + (1 << 20);
        let config = Config {
            name: STREAM.to_owned(),
            subjects: vec!["bench.floor.>".to_owned()],
            description: Some("Scratch of a waybill bench; may be deleted".to_owned()),
            storage: StorageType::File,
            max_bytes: i64::try_from(room)?,
            ..Config::default()
        };
        let stream = jetstream.create_stream(config).await.context("no scratch stream can be made for the floor")?;
        let config = pull::Config {
            durable_name: Some("floor".to_owned()),
            ack_policy: AckPolicy::Explicit,
            filter_subject: BATCHES.to_owned(),
            ..pull::Config::default()
        };
        let consumer = stream.create_consumer(config).await?;
        let customer = client.subscribe(format!("{FINAL}.*")).await?;
        client.flush().await?;
        Ok(Self { jetstream: jetstream.clone(), consumer, customer })
    }

    /// Sends everything and hears everything.
    pub async fn publish_and_consume(&mut self, traffic: &Traffic) -> anyhow::Result<()> {
        let finals = traffic.events.0 / 2;
        let customer = &mut self.customer;
        let hear = async {
            for _ in 0..finals {
                customer.next().await.context("the subscription ended")?;
            }
            Ok(())
        };
        let all = async {
            tokio::try_join!(publish(&self.jetstream, traffic), consume(&self.consumer, traffic.batches()), hear).map(drop)
        };
        tokio::time::timeout(PATIENCE, all).await.context("the broker does not bring what was published")?
    }

    /// Deletes it.
    pub async fn close(self) -> anyhow::Result<()> {
        self.jetstream.delete_stream(STREAM).await?;
        Ok(())
    }
}

async fn publish(jetstream: &Context, traffic: &Traffic) -> anyhow::Result<()> {
    let mut outstanding = VecDeque::with_capacity(OUTSTANDING);
    for (count, size, headers) in &traffic.batches {
        let payload = payload(*size, headers);
        for _ in 0..*count {
            send(jetstream, BATCHES.to_owned(), headers, payload.clone(), &mut outstanding).await?;
        }
    }
    let (count, size, headers) = &traffic.events;
    let payload = payload(*size, headers);
    // The first half are orders placed, the second orders' ends; a subject each.
    for number in 0..*count {
        let word = if number < count - count / 2 { PLACED } else { FINAL };
        send(jetstream, format!("{word}.{}", Uuid::now_v7()), headers, payload.clone(), &mut outstanding).await?;
    }
    for acknowledgement in outstanding {
        acknowledgement.await?;
    }
    Ok(())
}

/// What is left of a message's size beside its headers.
fn payload(size: usize, headers: &HeaderMap) -> Bytes {
    let line = |name: &HeaderName, value: &HeaderValue| AsRef::<str>::as_ref(name).len() + value.as_str().len() + 4;
    let lines = headers.iter().flat_map(|(name, values)| values.iter().map(move |value| line(name, value)));
    vec![b'x'; size.saturating_sub(lines.sum())].into()
}

/// Under an id of its own, by which the broker tells what it has stored already.
async fn send(
    jetstream: &Context,
    subject: String,
    headers: &HeaderMap,
    payload: Bytes,
    outstanding: &mut VecDeque<PublishAckFuture>,
) -> anyhow::Result<()> {
    let mut headers = headers.clone();
    headers.insert(NATS_MESSAGE_ID, Uuid::now_v7().to_string());
    outstanding.push_back(jetstream.publish_with_headers(subject, headers, payload).await?);
    if outstanding.len() >= OUTSTANDING
        && let Some(oldest) = outstanding.pop_front()
    {
        oldest.await?;
    }
    Ok(())
}

async fn consume(consumer: &jetstream::consumer::PullConsumer, count: u64) -> anyhow::Result<()> {
    if count == 0 {
        return Ok(());
    }
    let mut messages = consumer.messages().await?;
    for _ in 0..count {
        let message = messages.next().await.context("the consumer ended")??;
        message.ack().await.map_err(|error| anyhow::anyhow!("{error}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traffic_is_what_came_between() {
        let of = |last, size| (last, size, HeaderMap::new());
        let before = Said::from([("USER_COMMANDS", of(10, 1_000)), (EVENTS, of(100, 500))]);
        let after = Said::from([("USER_COMMANDS", of(30, 2_000)), ("USER_REPLIES", of(20, 1_500)), (EVENTS, of(2_100, 600))]);
        let traffic = Traffic::between(&before, &after);
        assert_eq!(traffic, Traffic { batches: vec![of(20, 2_000), of(20, 1_500)], events: of(2_000, 600) });
        assert_eq!((traffic.batches(), traffic.bytes()), (40, 70_000 + 1_200_000));
    }

    #[test]
    fn a_share_of_a_long_run_is_enough() {
        let of = |count| (count, 1, HeaderMap::new());
        let traffic = Traffic { batches: vec![of(400)], events: of(20_000) };
        assert_eq!(traffic.for_at_most(10_000, 1_000), (Traffic { batches: vec![of(40)], events: of(2_000) }, 1_000.0));
        assert_eq!(traffic.for_at_most(10_000, 20_000), (traffic, 10_000.0));
    }
}
