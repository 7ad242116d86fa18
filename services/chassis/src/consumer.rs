//! The messaging loop, written once: pull what has queued up, one transaction, acknowledge.

use std::time::Duration;

use async_nats::jetstream::consumer::pull;
use async_nats::jetstream::{AckKind, Message as Delivery};
use bytes::Bytes;
use events::streams::Consumer;
use events::{BATCH_MAX_BYTES, CloudEvent, Message, split_batch};
use futures_util::{FutureExt, StreamExt};
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

/// A loop in the making.
pub struct Loop<H> {
    pub(crate) consumer: Consumer,
    pub(crate) handler: H,
    pub(crate) unit: UnitOfWork,
    pub(crate) broker: Broker,
    pub(crate) health: Health,
    pub(crate) batch_max: usize,
}

/// A delivered message, its events read.
struct Received<M> {
    delivery: Delivery,
    origin: Origin,
    events: Vec<(usize, CloudEvent<M>)>,
    letters: Vec<DeadLetter>,
}

impl<M, H> Loop<H>
where
    M: Message + Send + Sync + 'static,
    H: Handler<Item = CloudEvent<M>>,
{
    /// Runs until shutdown; a batch that has begun is finished first.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut wait = Duration::from_millis(50);
        while !shutdown.is_cancelled() {
            match self.open().await {
                Ok(messages) => {
                    self.health.set(self.consumer.stream, Ok(()));
                    wait = Duration::from_millis(50);
                    if let Err(error) = self.drain(messages, &shutdown).await {
                        self.health.set(self.consumer.stream, Err(error.to_string()));
                    }
                }
                Err(error) => self.health.set(self.consumer.stream, Err(error.to_string())),
            }
            tokio::select! {
                () = tokio::time::sleep(wait) => wait = (wait * 2).min(Duration::from_secs(1)),
                () = shutdown.cancelled() => {}
            }
        }
    }

    /// Binds to the consumer. It never makes one: that is the provisioner's right.
    async fn open(&self) -> anyhow::Result<pull::Stream> {
        let consumer = self
            .broker
            .jetstream()
            .get_consumer_from_stream::<pull::Config, _, _>(self.consumer.name, self.consumer.stream)
            .await?;
        let messages = consumer.stream().max_messages_per_batch(FETCH_AHEAD).heartbeat(HEARTBEAT).expires(EXPIRES).messages();
        Ok(messages.await?)
    }

    /// Takes batches until the stream of messages breaks. Whatever has arrived while the last batch was at work is the next.
    async fn drain(&self, mut messages: pull::Stream, shutdown: &CancellationToken) -> anyhow::Result<()> {
        loop {
            let first = tokio::select! {
                biased;
                () = shutdown.cancelled() => return Ok(()),
                next = messages.next() => next.ok_or_else(|| anyhow::anyhow!("the stream of messages ended"))??,
            };
            // What arrives while others have their turn joins this batch.
            let turn = self.unit.turn().await;
            let mut batch = Vec::new();
            let (mut events, mut bytes) = (0, 0);
            let mut broken = None;
            let mut next = Some(first);
            while let Some(delivery) = next.take() {
                bytes += delivery.payload.len();
                match read(delivery) {
                    Ok(received) => {
                        // What cannot be read counts too: it is work, and it is held in memory.
                        events += (received.events.len() + received.letters.len()).max(1);
                        batch.push(received);
                    }
                    Err(error) => tracing::error!(%error, "not a JetStream delivery"),
                }
                if events < self.batch_max && bytes < BATCH_BYTES {
                    match messages.next().now_or_never() {
                        Some(Some(Ok(delivery))) => next = Some(delivery),
                        Some(Some(Err(error))) => broken = Some(anyhow::Error::from(error)),
                        Some(None) => broken = Some(anyhow::anyhow!("the stream of messages ended")),
                        None => {}
                    }
                }
            }
            if !self.work(turn, batch).await {
                // The database is in trouble. The messages are not lost: they come again.
                tokio::select! {
                    () = tokio::time::sleep(Duration::from_millis(500)) => {}
                    () = shutdown.cancelled() => {}
                }
            }
            if let Some(error) = broken {
                return Err(error);
            }
        }
    }

    /// Handles a batch and settles its messages. `false`: the database is in trouble, nothing was done.
    async fn work(&self, turn: Turn, batch: Vec<Received<M>>) -> bool {
        let items: Vec<&CloudEvent<M>> =
            batch.iter().flat_map(|received| received.events.iter().map(|(_, event)| event)).collect();
        let results = if items.is_empty() { Ok(Vec::new()) } else { self.unit.run(turn, &self.handler, &items).await };
        let mut results = match results {
            Ok(results) => results.into_iter(),
            Err(failure) => {
                tracing::warn!(stream = self.consumer.stream, error = ?failure.error(), "the database is in trouble; trying again");
                for received in batch {
                    settle(&received.delivery, again(received.origin.deliveries())).await;
                }
                return false;
            }
        };
        let mut judged = Vec::with_capacity(batch.len());
        for mut received in batch {
            let own = results.by_ref().take(received.events.len()).collect();
            let verdict = judge(self.consumer.stream, &mut received, own);
            judged.push((received, verdict));
        }
        self.settle_all(judged).await;
        true
    }

    /// Stores the dead letters of a batch, and acknowledges its messages: those that have letters only once these are safe.
    async fn settle_all(&self, judged: Vec<(Received<M>, Verdict)>) {
        let done = judged.iter().filter(|(_, verdict)| *verdict == Verdict::Done);
        let letters: Vec<_> =
            done.flat_map(|(received, _)| received.letters.iter().map(|letter| (&received.origin, letter))).collect();
        let buried = bury(&self.broker, &self.consumer, &letters).await;
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
fn judge<M: Message, A>(stream: &str, received: &mut Received<M>, results: Vec<Result<A, Failure>>) -> Verdict {
    for ((index, event), result) in received.events.iter().zip(results) {
        match result {
            Ok(_) => {}
            Err(Failure::Item(error)) if received.origin.deliveries() >= MAX_DELIVERIES => match event.to_json() {
                Ok(json) => received.letters.push(DeadLetter {
                    payload: json.into(),
                    index: Some(*index),
                    reason: format!("the handler failed: {error:#}"),
                }),
                Err(error) => tracing::error!(%error, "an event that was read cannot be written"),
            },
            Err(failure) => {
                tracing::warn!(stream, event = event.id, error = ?failure.error(), "failed; trying again");
                return Verdict::Again;
            }
        }
    }
    Verdict::Done
}

/// Reads a message's events. Those that cannot be read become dead letters; they spoil none of the others.
fn read<M: Message>(delivery: Delivery) -> anyhow::Result<Received<M>> {
    let origin = Origin::of(&delivery.subject, &delivery.info().map_err(anyhow::Error::from_boxed)?, delivery.headers.as_ref());
    let mut events = Vec::new();
    let mut letters = Vec::new();
    let mut letter = |index: Option<usize>, payload: Bytes, reason: String| letters.push(DeadLetter { payload, index, reason });
    match split_batch(&delivery.payload) {
        Ok(batch) => {
            for (index, json) in batch.into_iter().enumerate() {
                match CloudEvent::decode(json) {
                    Ok(event) => events.push((index, event)),
                    Err(error) => letter(Some(index), delivery.payload.slice_ref(json.get().as_bytes()), error.to_string()),
                }
            }
        }
        Err(error) => letter(None, delivery.payload.clone(), format!("not a batch: {error}")),
    }
    Ok(Received { delivery, origin, events, letters })
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
