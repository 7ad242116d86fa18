//! The messaging loop, written once: pull what has queued up, one transaction, acknowledge.
//!
//! Nobody's trouble is everybody's: what needs a row that somebody holds is set aside (`aside.rs`), and what cannot be read takes no room in a
//! batch and is stored beside the loop (`Graveyard`).

mod aside;
mod failures;
mod received;

use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use async_nats::jetstream::consumer::pull;
use async_nats::jetstream::{AckKind, Message as Delivery};
use envelope::Consumer;
use envelope::{BATCH_MAX_BYTES, DecodeError};
use futures_util::stream::{self, BoxStream, SelectAll};
use futures_util::{FutureExt, StreamExt, TryStreamExt};
use serde_json::value::RawValue;
use tokio_util::sync::CancellationToken;

use self::aside::{Aside, SetAside};
use self::failures::Failures;
use self::received::{Received, Verdict};
pub(crate) use self::received::{again, settle};
use crate::broker::Broker;
use crate::dead_letter::Graveyard;
use crate::health::Health;
use crate::metrics;
use crate::seldom::Seldom;
use crate::settings::BatchSettings;
use crate::unit_of_work::{Failure, Handler, UnitOfWork};
use crate::writers::WritePermit;

/// Messages fetched ahead. Each may hold a full batch, so this bounds memory: 32 x 512 KiB.
const FETCH_AHEAD: usize = 32;

/// Bytes in one batch of messages, so that a flood of messages with few good events cannot grow one until memory is full.
const BATCH_BYTES: usize = FETCH_AHEAD * BATCH_MAX_BYTES;

/// Messages without a single good event that are read while a batch is gathered: the good ones among them wait no longer.
const BAD_A_TURN: usize = 64;

/// How soon messages come again that met an outage of the database.
const AFTER_OUTAGE: Duration = Duration::from_secs(1);

/// A vanished consumer or a silent broker shows after two missed heartbeats.
const HEARTBEAT: Duration = Duration::from_secs(2);
const EXPIRES: Duration = Duration::from_secs(20);

/// Reads one event.
type Read<T> = Box<dyn Fn(&RawValue) -> Result<T, DecodeError> + Send + Sync>;

/// Where a handler's work comes from: a durable consumer, and how one of its events is read.
pub struct Source<T> {
    pub(crate) consumer: Consumer,
    read: Read<T>,
}

impl<T> Source<T> {
    /// Events of this consumer, each read by this function.
    pub fn new(consumer: Consumer, read: impl Fn(&RawValue) -> Result<T, DecodeError> + Send + Sync + 'static) -> Self {
        Self { consumer, read: Box::new(read) }
    }
}

/// A loop in the making.
pub(crate) struct Loop<H: Handler> {
    pub sources: Vec<Source<H::Item>>,
    pub handler: Arc<H>,
    pub unit: UnitOfWork,
    pub broker: Broker,
    pub health: Health,
    pub settings: BatchSettings,
}

/// A message, or why its source broke, with the source's index.
type Next = (usize, anyhow::Result<Delivery>);

/// The index of the source that broke, and why.
type Broken = (usize, anyhow::Error);

/// The messages of all sources.
type Deliveries = SelectAll<BoxStream<'static, Next>>;

/// What a loop has in hand from batch to batch.
struct Hands<T> {
    aside: SetAside<T>,
    graveyard: Graveyard,
    failures: Failures,
    failed: Seldom,
}

impl<H: Handler> Loop<H> {
    /// Runs until shutdown; a batch that has begun is finished first, and what was to be kept as dead letters is.
    pub async fn run(self, shutdown: CancellationToken) {
        let (graveyard, burying) = Graveyard::open(self.broker.clone(), self.settings.dead_letters_per_second);
        let burying = tokio::spawn(burying);
        let mut hands = Hands {
            aside: SetAside::new(self.settings.aside_max),
            graveyard,
            failures: Failures::default(),
            failed: Seldom::default(),
        };
        let mut wait = Duration::from_millis(50);
        while !shutdown.is_cancelled() {
            match self.open().await {
                Ok(deliveries) => {
                    wait = Duration::from_millis(50);
                    if let Err((source, error)) = self.drain(deliveries, &mut hands, &shutdown).await {
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
        drop(hands);
        let _ = burying.await;
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
    async fn drain(
        &self,
        mut deliveries: Deliveries,
        hands: &mut Hands<H::Item>,
        shutdown: &CancellationToken,
    ) -> Result<(), Broken> {
        loop {
            let first = tokio::select! {
                biased;
                () = shutdown.cancelled() => return Ok(()),
                Some(next) = deliveries.next() => match self.receive(next)? {
                    Some(received) if !received.events.is_empty() => Some(received),
                    Some(bad) => {
                        // It needs no permit: there is nothing in it to be handled.
                        self.settle(vec![(bad, Verdict::Done)], hands).await;
                        continue;
                    }
                    None => continue,
                },
                () = hands.aside.due() => None,
            };
            // What arrives while others write joins this batch.
            let permit = self.unit.permit().await;
            let (batch, broken) = self.gather(first, &mut deliveries);
            if !self.work(permit, batch, hands).await {
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

    /// Reads what a source brought.
    fn receive(&self, (index, delivery): Next) -> Result<Option<Received<H::Item>>, Broken> {
        let received = Received::read(&self.sources[index], delivery.map_err(|error| (index, error))?);
        Ok(received.inspect_err(|error| tracing::error!(%error, "not a JetStream delivery")).ok())
    }

    /// A batch of what is here, and the source that broke, if one did.
    fn gather(&self, first: Option<Received<H::Item>>, deliveries: &mut Deliveries) -> (Vec<Received<H::Item>>, Option<Broken>) {
        // As many of each source as a batch of requests may hold: what is let in can also be carried on.
        let events_max = self.settings.batch_max * self.sources.len();
        let (mut batch, mut events, mut bytes, mut bad) = (Vec::new(), 0, 0, 0);
        let mut next = first;
        loop {
            if let Some(received) = next.take() {
                // What is bad takes no place from what is good.
                events += received.events.len();
                bytes += received.delivery.payload.len();
                bad += usize::from(received.events.is_empty());
                batch.push(received);
            }
            if events >= events_max || bytes >= BATCH_BYTES || bad >= BAD_A_TURN {
                return (batch, None);
            }
            next = match deliveries.next().now_or_never().flatten().map(|next| self.receive(next)) {
                Some(Ok(received)) => received,
                Some(Err(broken)) => return (batch, Some(broken)),
                None => return (batch, None),
            };
        }
    }

    /// Handles a batch, with those set aside whose time has come, and settles its messages. `false`: the database is in trouble, nothing was
    /// done.
    async fn work(&self, permit: WritePermit, batch: Vec<Received<H::Item>>, hands: &mut Hands<H::Item>) -> bool {
        let aside = hands.aside.take_due(self.settings.batch_max);
        let fresh = batch.iter().flat_map(|received| received.events.iter().map(|(_, event)| event));
        let items: Vec<&H::Item> = fresh.chain(aside.iter().map(|aside| &aside.item)).collect();
        let results = if items.is_empty() { Ok(Vec::new()) } else { self.unit.run(permit, &*self.handler, &items).await };
        let mut results = match results {
            Ok(results) => results.into_iter(),
            Err(failure) => {
                tracing::warn!(
                    handler = H::NAME,
                    error = format!("{:#}", failure.error()),
                    "the database is in trouble; trying again"
                );
                // An outage is no message's fault: they come again as soon as it may be over. Each batch that fails takes few, and is
                // followed by a rest.
                for received in batch {
                    settle(&received.delivery, AckKind::Nak(Some(AFTER_OUTAGE))).await;
                }
                aside.into_iter().for_each(|aside| self.set_aside(aside, hands));
                return false;
            }
        };
        let mut judged = Vec::with_capacity(batch.len());
        let mut held_up = Vec::new();
        for mut received in batch {
            let (verdict, mut busy) = received.judge(results.by_ref().take(received.events.len()).collect(), &mut hands.failures);
            while let Some(place) = busy.pop() {
                held_up.push(Aside::new(received.events.swap_remove(place).1));
            }
            judged.push((received, verdict));
        }
        let mut failed = Vec::new();
        for (aside, result) in aside.into_iter().zip(results) {
            match result {
                Ok(_) => {}
                Err(Failure::Busy(_) | Failure::Outage(_)) => held_up.push(aside),
                // Its message is settled; its saga asks again, and if that fails too, it comes to the dead letters.
                Err(Failure::Item(error) | Failure::Conflict(error)) => failed.push(error),
            }
        }
        if let (Some(events), Some(error)) = (hands.failed.happened(failed.len() as u64), failed.first()) {
            tracing::warn!(handler = H::NAME, events, error = format!("{error:#}"), "failed; their sagas ask again");
        }
        held_up.into_iter().for_each(|aside| self.set_aside(aside, hands));
        metrics::events_set_aside(H::NAME, hands.aside.len());
        self.settle(judged, hands).await;
        true
    }

    fn set_aside(&self, aside: Aside<H::Item>, hands: &mut Hands<H::Item>) {
        let busy = self.unit.busy();
        if !hands.aside.put(aside, |tries| busy.wait(tries)) {
            metrics::not_set_aside(H::NAME);
        }
    }

    /// Acknowledges the messages of a batch. What is bad about one goes to the dead letters; it is acknowledged when it is safe there.
    async fn settle(&self, judged: Vec<(Received<H::Item>, Verdict)>, hands: &mut Hands<H::Item>) {
        for (received, verdict) in judged {
            let Received { delivery, origin, letter, .. } = received;
            match (verdict, letter) {
                (Verdict::Again, _) => settle(&delivery, again(origin.deliveries())).await,
                (Verdict::Done, None) => settle(&delivery, AckKind::Ack).await,
                (Verdict::Done, Some(letter)) => hands.graveyard.bury(delivery, &origin, &letter).await,
            }
        }
    }
}

/// What a consumer brings, fetched ahead.
async fn messages(broker: &Broker, consumer: &Consumer) -> anyhow::Result<pull::Stream> {
    let consumer = broker.jetstream().get_consumer_from_stream::<pull::Config, _, _>(consumer.name, consumer.stream).await?;
    let messages = consumer.stream().max_messages_per_batch(FETCH_AHEAD).heartbeat(HEARTBEAT).expires(EXPIRES).messages();
    Ok(messages.await?)
}
