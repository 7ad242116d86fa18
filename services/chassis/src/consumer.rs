//! What durable consumers bring to a handler, written once: pull what has queued up, handle it in a batch, acknowledge.
//!
//! Nobody's trouble is everybody's: what needs a row that somebody holds is set aside (`aside.rs`), and what cannot be read takes no room in a
//! batch and is stored beside the loop (`Graveyard`).

mod aside;
mod binding;
mod failures;
mod received;
mod source;

use std::time::Duration;

use async_nats::jetstream::{AckKind, Message as Delivery};
use envelope::BATCH_MAX_BYTES;
use futures_util::stream::{BoxStream, SelectAll};
use futures_util::{FutureExt, StreamExt};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use self::aside::{Aside, SetAside};
pub(crate) use self::binding::Binding;
use self::binding::FETCH_AHEAD;
use self::failures::Failures;
pub(crate) use self::received::Received;
use self::received::Verdict;
pub use self::source::Source;
use crate::batch_span::Member;
use crate::causes::causes;
use crate::dead_letter::Graveyard;
use crate::delivery::{again, settle};
use crate::failure::{Busy, Failure};
use crate::metrics::Metrics;
use crate::seldom::Seldom;
use crate::settings::BatchSettings;

/// Bytes in one batch of messages, so that a flood of messages with few good events cannot grow one until memory is full.
const BATCH_BYTES: usize = FETCH_AHEAD * BATCH_MAX_BYTES;

/// Messages without a single good event that are read while a batch is gathered: the good ones among them wait no longer.
const BAD_A_BATCH: usize = 64;

/// How soon messages come again that met an outage of the database, and for how long no others are taken.
const AFTER_OUTAGE: Duration = Duration::from_secs(1);
const REST: Duration = Duration::from_millis(500);

/// How long acknowledgements may take at the end; what is not acknowledged comes again.
const LAST_WITHIN: Duration = Duration::from_secs(1);

/// The messages of a handler: what is still to come, and what is in hand.
pub(crate) struct Messages<T> {
    handler: &'static str,
    /// Empty: no more are taken.
    deliveries: SelectAll<BoxStream<'static, Received<T>>>,
    /// As many of each source as a batch of requests may hold: what is let in can also be carried on.
    events_max: usize,
    aside_max: usize,
    busy: Busy,
    aside: SetAside<T>,
    graveyard: Graveyard,
    burying: JoinHandle<()>,
    failures: Failures,
    failed: Seldom,
    /// After an outage of the database none are taken for a while. They are not lost: they come again.
    rests_until: Option<Instant>,
    acknowledging: TaskTracker,
    metrics: Metrics,
}

/// The messages of a batch.
pub(crate) struct MessageBatch<T> {
    received: Vec<Received<T>>,
    /// Those set aside whose time has come.
    aside: Vec<Aside<T>>,
}

impl<T> MessageBatch<T> {
    /// Their events, in order.
    pub(crate) fn items(&self) -> impl Iterator<Item = &T> {
        let fresh = self.received.iter().flat_map(|received| received.events.iter().map(|(_, event)| event));
        fresh.chain(self.aside.iter().map(|aside| &aside.item))
    }

    /// Its messages, for whoever is told of it.
    pub(crate) fn members(&self) -> impl Iterator<Item = Member<'_>> + Clone {
        self.received.iter().map(|Received { delivery, origin, events, .. }| Member {
            subject: &delivery.subject,
            consumer: origin.consumer(),
            events: events.len(),
            payload: &delivery.payload,
        })
    }
}

impl<T: Send + 'static> Messages<T> {
    /// Binds to the consumers of these sources. It never makes one: that is the provisioner's right.
    pub(crate) fn bind(
        handler: &'static str,
        sources: Vec<Source<T>>,
        with: &Binding,
        settings: &BatchSettings,
        busy: Busy,
    ) -> Self {
        let (metrics, health) = (with.metrics.clone(), with.health.clone());
        let (graveyard, burying) = Graveyard::open(with.broker.clone(), settings.dead_letters_per_second, metrics, health);
        sources.iter().for_each(|source| with.metrics.count_dead_letters(source.consumer.stream));
        Self {
            handler,
            events_max: settings.batch_max * sources.len(),
            aside_max: settings.batch_max,
            deliveries: sources.into_iter().map(|source| with.received(source)).collect(),
            busy,
            aside: SetAside::new(settings.aside_max),
            graveyard,
            burying: tokio::spawn(burying),
            failures: Failures::default(),
            failed: Seldom::default(),
            rests_until: None,
            acknowledging: TaskTracker::new(),
            metrics: with.metrics.clone(),
        }
    }

    /// Whether there may be more.
    pub(crate) fn is_open(&self) -> bool {
        !self.deliveries.is_empty()
    }

    /// Takes no more.
    pub(crate) fn close(&mut self) {
        self.deliveries.clear();
    }

    /// Ends: what was to be kept as dead letters is.
    pub(crate) async fn end(self) {
        drop(self.graveyard);
        let _ = self.burying.await;
        self.acknowledging.close();
        let _ = tokio::time::timeout(LAST_WITHIN, self.acknowledging.wait()).await;
    }

    /// Waits for a message; `None`: until some that are set aside are due.
    pub(crate) async fn some(&mut self) -> Option<Received<T>> {
        if let Some(until) = self.rests_until {
            tokio::time::sleep_until(until).await;
            self.rests_until = None;
        }
        tokio::select! {
            biased;
            Some(received) = self.deliveries.next() => Some(received),
            () = self.aside.due() => None,
        }
    }

    /// A batch of what is here.
    pub(crate) fn gather(&mut self, first: Option<Received<T>>) -> MessageBatch<T> {
        let mut batch = MessageBatch { received: Vec::new(), aside: Vec::new() };
        if !self.is_open() || self.rests_until.is_some_and(|until| Instant::now() < until) {
            return batch;
        }
        let (mut events, mut bytes, mut bad) = (0, 0, 0);
        let mut next = first;
        while let Some(received) = next.take().or_else(|| self.deliveries.next().now_or_never().flatten()) {
            // What is bad takes no place from what is good.
            events += received.events.len();
            bytes += received.delivery.payload.len();
            bad += usize::from(received.events.is_empty());
            batch.received.push(received);
            if events >= self.events_max || bytes >= BATCH_BYTES || bad >= BAD_A_BATCH {
                break;
            }
        }
        batch.aside = self.aside.take_due(self.aside_max);
        batch
    }

    /// Settles a batch by what became of its events.
    pub(crate) async fn settle<O>(&mut self, batch: MessageBatch<T>, mut results: impl Iterator<Item = Result<O, Failure>>) {
        let mut judged = Vec::with_capacity(batch.received.len());
        let mut held_up = Vec::new();
        for mut received in batch.received {
            let (verdict, mut busy) = received.judge(results.by_ref().take(received.events.len()).collect(), &mut self.failures);
            while let Some(place) = busy.pop() {
                held_up.push(Aside::new(received.events.swap_remove(place).1));
            }
            judged.push((received, verdict));
        }
        let mut failed = Vec::new();
        for (aside, result) in batch.aside.into_iter().zip(results) {
            match result {
                Ok(_) => {}
                Err(Failure::Busy(_) | Failure::Outage(_)) => held_up.push(aside),
                // Its message is settled; its saga asks again, and if that fails too, it comes to the dead letters.
                Err(Failure::Item(error) | Failure::Conflict(error)) => failed.push(error),
            }
        }
        if let (Some(events), Some(error)) = (self.failed.happened(failed.len() as u64), failed.first()) {
            tracing::warn!(handler = self.handler, events, error = causes(error), "failed; their sagas ask again");
        }
        self.set_aside(held_up);
        self.acknowledge(judged).await;
    }

    /// Settles a message without a good event.
    pub(crate) async fn settle_bad(&mut self, bad: Received<T>) {
        self.acknowledge(vec![(bad, Verdict::Done)]).await;
    }

    /// An outage is no message's fault: they come again as soon as it may be over.
    pub(crate) fn put_back(&mut self, batch: MessageBatch<T>, failure: &Failure) {
        if self.is_open() {
            let error = causes(failure.error());
            tracing::warn!(handler = self.handler, error, "the database is in trouble; trying again");
        }
        self.rests_until = Some(Instant::now() + REST);
        let back = batch.received.into_iter().map(|received| (received.delivery, AckKind::Nak(Some(AFTER_OUTAGE))));
        self.tell(back.collect());
        self.set_aside(batch.aside);
    }

    fn set_aside(&mut self, held_up: Vec<Aside<T>>) {
        for aside in held_up {
            if !self.aside.put(aside, |tries| self.busy.wait(tries)) {
                self.metrics.not_set_aside(self.handler);
            }
        }
        if self.is_open() {
            self.metrics.events_set_aside(self.handler, self.aside.len());
        }
    }

    /// Acknowledges messages. What is bad about one goes to the dead letters; it is acknowledged when it is safe there.
    async fn acknowledge(&mut self, judged: Vec<(Received<T>, Verdict)>) {
        let mut settled = Vec::with_capacity(judged.len());
        for (received, verdict) in judged {
            let Received { delivery, origin, letter, .. } = received;
            match (verdict, letter) {
                (Verdict::Again, _) => settled.push((delivery, again(origin.deliveries()))),
                (Verdict::Done, None) => settled.push((delivery, AckKind::Ack)),
                (Verdict::Done, Some(letter)) => self.graveyard.bury(delivery, &origin, &letter).await,
            }
        }
        self.tell(settled);
    }

    /// Tells the broker, beside the next batch: while the broker is away that may take long, and what clients request does not wait for it.
    fn tell(&self, settled: Vec<(Delivery, AckKind)>) {
        if settled.is_empty() {
            return;
        }
        self.acknowledging.spawn(async move {
            for (delivery, kind) in settled {
                settle(&delivery, kind).await;
            }
        });
    }
}
