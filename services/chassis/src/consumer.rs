//! The messaging loop, written once: pull what has queued up, one transaction, acknowledge.

use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use async_nats::jetstream::consumer::pull;
use async_nats::jetstream::{AckKind, Message as Delivery};
use bytes::Bytes;
use events::streams::Consumer;
use events::{BATCH_MAX_BYTES, DecodeError, split_batch};
use futures_util::stream::{self, BoxStream, SelectAll};
use futures_util::{FutureExt, StreamExt, TryStreamExt};
use serde_json::value::RawValue;
use tokio_util::sync::CancellationToken;

use crate::broker::Broker;
use crate::dead_letter::{DeadLetter, Origin, bury};
use crate::health::Health;
use crate::unit_of_work::{Failure, Handler, UnitOfWork};
use crate::writers::Turn;

/// Messages fetched ahead. Each may hold a full batch, so this bounds memory: 32 x 512 KiB.
const FETCH_AHEAD: usize = 32;

/// Bytes in one batch of messages, so that a flood of messages without a single good event cannot grow one until memory is full.
const BATCH_BYTES: usize = FETCH_AHEAD * BATCH_MAX_BYTES;

/// A vanished consumer or a silent broker shows after two missed heartbeats.
const HEARTBEAT: Duration = Duration::from_secs(2);
const EXPIRES: Duration = Duration::from_secs(20);

/// Deliveries after which an event that fails alone is a dead letter.
const MAX_DELIVERIES: i64 = 3;

/// Where a handler's work comes from: a durable consumer, and how one of its events is read.
pub struct Source<T> {
    pub(crate) consumer: Consumer,
    read: fn(&RawValue) -> Result<T, DecodeError>,
}

impl<T> Source<T> {
    /// Events of this consumer, each read by this function.
    pub fn new(consumer: Consumer, read: fn(&RawValue) -> Result<T, DecodeError>) -> Self {
        Self { consumer, read }
    }
}

/// A loop in the making.
pub(crate) struct Loop<H: Handler> {
    pub sources: Vec<Source<H::Item>>,
    pub handler: Arc<H>,
    pub unit: UnitOfWork,
    pub broker: Broker,
    pub health: Health,
    pub batch_max: usize,
}

/// A message, or why its source broke, with the source's index.
type Next = (usize, anyhow::Result<Delivery>);

/// The index of the source that broke, and why.
type Broken = (usize, anyhow::Error);

/// The messages of all sources.
type Deliveries = SelectAll<BoxStream<'static, Next>>;

/// A delivered message, its events read.
struct Received<T> {
    delivery: Delivery,
    origin: Origin,
    events: Vec<(usize, T)>,
    letters: Vec<DeadLetter>,
}

impl<H: Handler> Loop<H> {
    /// Runs until shutdown; a batch that has begun is finished first.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut wait = Duration::from_millis(50);
        while !shutdown.is_cancelled() {
            match self.open().await {
                Ok(deliveries) => {
                    wait = Duration::from_millis(50);
                    if let Err((source, error)) = self.drain(deliveries, &shutdown).await {
                        self.health.set(self.sources[source].consumer.stream, Err(error.to_string()));
                    }
                }
                Err((source, error)) => self.health.set(self.sources[source].consumer.stream, Err(error.to_string())),
            }
            tokio::select! {
                () = tokio::time::sleep(wait) => wait = (wait * 2).min(Duration::from_secs(1)),
                () = shutdown.cancelled() => {}
            }
        }
    }

    /// Binds to the consumers. It never makes one: that is the provisioner's right.
    async fn open(&self) -> Result<Deliveries, Broken> {
        let mut deliveries = Deliveries::new();
        for (index, source) in self.sources.iter().enumerate() {
            let messages = messages(&self.broker, &source.consumer).await.map_err(|error| (index, error))?;
            self.health.set(source.consumer.stream, Ok(()));
            let ended = stream::once(async { Err(anyhow!("the stream of messages ended")) });
            let messages = messages.map_err(anyhow::Error::from).chain(ended);
            deliveries.push(messages.map(move |delivery| (index, delivery)).boxed());
        }
        Ok(deliveries)
    }

    /// Takes batches until one of the sources breaks. Whatever has arrived while the last batch was at work is the next.
    async fn drain(&self, mut deliveries: Deliveries, shutdown: &CancellationToken) -> Result<(), Broken> {
        loop {
            let first = tokio::select! {
                biased;
                () = shutdown.cancelled() => return Ok(()),
                Some(next) = deliveries.next() => next,
            };
            // What arrives while others have their turn joins this batch.
            let turn = self.unit.turn().await;
            let (batch, broken) = self.gather(first, &mut deliveries);
            if !self.work(turn, batch).await {
                // The database is in trouble. The messages are not lost: they come again.
                tokio::select! {
                    () = tokio::time::sleep(Duration::from_millis(500)) => {}
                    () = shutdown.cancelled() => {}
                }
            }
            if let Some(broken) = broken {
                return Err(broken);
            }
        }
    }

    /// A batch of what is here, and the source that broke, if one did.
    fn gather(&self, first: Next, deliveries: &mut Deliveries) -> (Vec<Received<H::Item>>, Option<Broken>) {
        // As many of each source as a batch of requests may hold: what is let in can also be carried on.
        let events_max = self.batch_max * self.sources.len();
        let (mut batch, mut events, mut bytes) = (Vec::new(), 0, 0);
        let mut next = Some(first);
        while let Some((index, delivery)) = next {
            let delivery = match delivery {
                Ok(delivery) => delivery,
                Err(error) => return (batch, Some((index, error))),
            };
            bytes += delivery.payload.len();
            match read(&self.sources[index], delivery) {
                Ok(received) => {
                    // What cannot be read counts too: it is work, and it is held in memory.
                    events += (received.events.len() + received.letters.len()).max(1);
                    batch.push(received);
                }
                Err(error) => tracing::error!(%error, "not a JetStream delivery"),
            }
            let room = events < events_max && bytes < BATCH_BYTES;
            next = if room { deliveries.next().now_or_never().flatten() } else { None };
        }
        (batch, None)
    }

    /// Handles a batch and settles its messages. `false`: the database is in trouble, nothing was done.
    async fn work(&self, turn: Turn, batch: Vec<Received<H::Item>>) -> bool {
        let items: Vec<&H::Item> = batch.iter().flat_map(|received| received.events.iter().map(|(_, event)| event)).collect();
        let results = if items.is_empty() { Ok(Vec::new()) } else { self.unit.run(turn, &*self.handler, &items).await };
        let mut results = match results {
            Ok(results) => results.into_iter(),
            Err(failure) => {
                tracing::warn!(handler = H::NAME, error = ?failure.error(), "the database is in trouble; trying again");
                for received in batch {
                    settle(&received.delivery, again(received.origin.deliveries())).await;
                }
                return false;
            }
        };
        let mut judged = Vec::with_capacity(batch.len());
        for mut received in batch {
            let own = results.by_ref().take(received.events.len()).collect();
            let verdict = judge(&mut received, own);
            judged.push((received, verdict));
        }
        self.settle_all(judged).await;
        true
    }

    /// Stores the dead letters of a batch, and acknowledges its messages: those that have letters only once these are safe.
    async fn settle_all(&self, judged: Vec<(Received<H::Item>, Verdict)>) {
        let done = judged.iter().filter(|(_, verdict)| *verdict == Verdict::Done);
        let letters: Vec<_> =
            done.flat_map(|(received, _)| received.letters.iter().map(|letter| (&received.origin, letter))).collect();
        let buried = bury(&self.broker, &letters).await;
        if let Err(error) = &buried {
            tracing::warn!(%error, "the dead letters cannot be stored; trying again");
        }
        for (received, verdict) in judged {
            let done = verdict == Verdict::Done && (buried.is_ok() || received.letters.is_empty());
            let kind = if done { AckKind::Ack } else { again(received.origin.deliveries()) };
            settle(&received.delivery, kind).await;
        }
    }
}

/// What is to become of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// Its events are handled, or are dead letters.
    Done,
    /// It is to come again.
    Again,
}

/// Judges a message whose events were handled; an event that fails for good joins the message's dead letters.
fn judge<T, A>(received: &mut Received<T>, results: Vec<Result<A, Failure>>) -> Verdict {
    for ((index, _), result) in received.events.iter().zip(results) {
        match result {
            Ok(_) => {}
            Err(Failure::Item(error)) if received.origin.deliveries() >= MAX_DELIVERIES => received.letters.push(DeadLetter {
                payload: part(&received.delivery.payload, *index),
                index: Some(*index),
                reason: format!("the handler failed: {error:#}"),
            }),
            Err(failure) => {
                tracing::warn!(message = %received.origin, index, error = ?failure.error(), "failed; trying again");
                return Verdict::Again;
            }
        }
    }
    Verdict::Done
}

/// One event of a batch, as it came.
fn part(payload: &Bytes, index: usize) -> Bytes {
    let parts = split_batch(payload).unwrap_or_default();
    parts.get(index).map_or_else(|| payload.clone(), |part| payload.slice_ref(part.get().as_bytes()))
}

/// Reads a message's events. Those that cannot be read become dead letters; they spoil none of the others.
fn read<T>(source: &Source<T>, delivery: Delivery) -> anyhow::Result<Received<T>> {
    let info = delivery.info().map_err(anyhow::Error::from_boxed)?;
    let origin = Origin::of(source.consumer, &delivery.subject, &info, delivery.headers.as_ref());
    let mut events = Vec::new();
    let mut letters = Vec::new();
    let mut letter = |index: Option<usize>, payload: Bytes, reason: String| letters.push(DeadLetter { payload, index, reason });
    match split_batch(&delivery.payload) {
        Ok(batch) => {
            for (index, json) in batch.into_iter().enumerate() {
                match (source.read)(json) {
                    Ok(event) => events.push((index, event)),
                    Err(error) => letter(Some(index), delivery.payload.slice_ref(json.get().as_bytes()), error.to_string()),
                }
            }
        }
        Err(error) => letter(None, delivery.payload.clone(), format!("not a batch: {error}")),
    }
    Ok(Received { delivery, origin, events, letters })
}

/// What a consumer brings, fetched ahead.
async fn messages(broker: &Broker, consumer: &Consumer) -> anyhow::Result<pull::Stream> {
    let consumer = broker.jetstream().get_consumer_from_stream::<pull::Config, _, _>(consumer.name, consumer.stream).await?;
    let messages = consumer.stream().max_messages_per_batch(FETCH_AHEAD).heartbeat(HEARTBEAT).expires(EXPIRES).messages();
    Ok(messages.await?)
}

/// Once more, later: a bare NAK would come back at once, thousands of times a second.
fn again(deliveries: i64) -> AckKind {
    let seconds = (1 << deliveries.clamp(0, 5)).min(30);
    AckKind::Nak(Some(Duration::from_secs(seconds)))
}

/// Tells the broker. If that fails the message comes again, to the same effect.
async fn settle(delivery: &Delivery, verdict: AckKind) {
    if let Err(error) = delivery.ack_with(verdict).await {
        tracing::debug!(%error, "not acknowledged; it will come again");
    }
}
