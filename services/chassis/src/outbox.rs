//! The transactional outbox: what a transaction says is written with it, in one row, and published after it.
//!
//! The task that committed publishes at once. What it could not (the broker was away, the process died), and what has to keep its place in
//! the order of the rows, is left to the relay.

mod choose;
mod lane;
mod letter;
mod rebuild;
mod relay;
mod rows;
mod seen;
mod settle;
mod unheard;
mod watch;
mod wire;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use self::lane::Lane;
use self::unheard::Unheard;
use self::wire::{in_wire_order, message_id};
use crate::batch_span::BatchSpan;
use crate::broker::Broker;
use crate::database::Database;
use crate::health::Health;
use crate::metrics::Metrics;
use crate::note::Note;
use crate::otlp::Traces;
use crate::outgoing::Outgoing;
use crate::packet::{Packet, subject_id};
use crate::settings::{BrokerSettings, OutboxSettings};
use crate::unpublished::Unpublished;

pub use self::rebuild::{CannotRebuild, RebuildMessages, Rebuilt};

/// How long published rows are gathered before one statement deletes them; and how soon a deletion that failed is tried again.
const SWEEP_EVERY: Duration = Duration::from_millis(100);
const SWEEP_AGAIN: Duration = Duration::from_secs(1);

/// How long the relay must have found no row that had been waiting for it, to have caught up.
const CAUGHT_UP_AFTER: Duration = Duration::from_secs(1);

/// How long a batch waits for a place among the rows in flight. A slow broker slows the batches; one that hangs leaves rows to the relay.
const PERMIT_WITHIN: Duration = Duration::from_secs(1);

/// What makes the outbox's table: the text of a migration of every service that sends.
///
/// ```sql
#[doc = include_str!("outbox/outbox.sql")]
/// ```
pub const OUTBOX_SQL: &str = include_str!("outbox/outbox.sql");

/// The outbox of one database.
#[derive(Clone)]
pub struct Outbox(Arc<Inner>);

struct Inner {
    metrics: Metrics,
    traces: Option<Traces>,
    database: Database,
    broker: Broker,
    settings: OutboxSettings,
    relay_after: Duration,
    in_flight: Arc<Semaphore>,
    publishing: TaskTracker,
    /// Rows this instance publishes at this moment, or has published and not deleted yet: nobody here takes them up again.
    in_hand: Mutex<HashSet<Uuid>>,
    /// Rows to be deleted.
    published: Mutex<Vec<Uuid>>,
    something_published: Notify,
    /// Rows left to the relay.
    lane: Mutex<Lane>,
    something_left: Notify,
    /// Rows the relay found to wait behind others.
    behind: Mutex<HashSet<Uuid>>,
    /// When the relay last took a row that had been waiting for it.
    last_late: Mutex<Option<Instant>>,
    /// Rows that no stream takes.
    unheard: Mutex<Unheard>,
    rebuild: Option<Box<dyn RebuildMessages>>,
}

/// The right to publish one row; only so many are in flight.
pub(crate) struct PublishPermit(#[allow(dead_code)] OwnedSemaphorePermit);

impl Outbox {
    pub(crate) fn new(
        (metrics, traces): (Metrics, Option<Traces>),
        database: Database,
        broker: Broker,
        broker_settings: &BrokerSettings,
        settings: &OutboxSettings,
        rebuild: Option<Box<dyn RebuildMessages>>,
    ) -> Self {
        metrics.count_outbox();
        Self(Arc::new(Inner {
            metrics,
            traces,
            database,
            broker,
            settings: settings.clone(),
            relay_after: broker_settings.relay_after,
            in_flight: Arc::new(Semaphore::new(broker_settings.publish_in_flight)),
            publishing: TaskTracker::new(),
            in_hand: Mutex::default(),
            published: Mutex::default(),
            something_published: Notify::new(),
            lane: Mutex::default(),
            something_left: Notify::new(),
            behind: Mutex::default(),
            last_late: Mutex::default(),
            unheard: Mutex::default(),
            rebuild,
        }))
    }

    /// Waits for a place among the rows in flight. `None`: the broker is away or does not keep up; what is written is left to the relay.
    pub(crate) async fn publish_permit(&self) -> Option<PublishPermit> {
        if !self.0.broker.is_connected() {
            return None;
        }
        let permit = tokio::time::timeout(PERMIT_WITHIN, self.0.in_flight.clone().acquire_owned()).await;
        permit.ok()?.ok().map(PublishPermit)
    }

    /// Takes over what is committed. It is published in the background, or left to the relay: without a permit, where it is to keep its place
    /// among the rows, and where it tells of something that an earlier row left there tells of.
    pub(crate) fn committed(&self, permit: Option<PublishPermit>, outgoing: Outgoing) {
        let (row, in_order) = (outgoing.id(), outgoing.is_in_order());
        let (notes, packets) = outgoing.into_notes_and_packets();
        if packets.is_empty() {
            return;
        }
        // What notes tell of is read from them when it is asked for, which it rarely is.
        let told = if notes.is_empty() { told(&packets) } else { Vec::new() };
        let about = move || Note::read_all(&notes).unwrap_or_default().into_iter().map(|note| note.subject).chain(told).collect();
        let Some(permit) = permit.filter(|_| !in_order && self.lane().lets_pass(|| self::told(&packets))) else {
            return self.leave(row, about());
        };
        self.in_hand().insert(row);
        let outbox = self.clone();
        self.0.publishing.spawn(async move {
            outbox.publish(row, packets, about).await;
            drop(permit);
        });
    }

    async fn publish(&self, row: Uuid, packets: Vec<Packet>, about: impl FnOnce() -> Vec<Uuid>) {
        let count = packets.len();
        let messages = in_wire_order(packets, None).map(|(index, packet)| (message_id(row, index), packet)).collect();
        match self.put_on_the_wire(messages).await.first() {
            None => {
                self.0.metrics.published(count);
                self.is_published(row);
            }
            Some((_, unpublished)) => {
                self.0.metrics.publish_failed();
                tracing::warn!(%row, reason = %unpublished, "publishing failed; the relay will try again");
                // First the lane, then out of hand: in between nothing may pass.
                self.leave(row, about());
                self.in_hand().remove(&row);
            }
        }
    }

    /// Publishes messages, and tells of it. Returns those that were not acknowledged, by their place.
    async fn put_on_the_wire(&self, messages: Vec<(String, Packet)>) -> Vec<(usize, Unpublished)> {
        let packets = || messages.iter().map(|(_, packet)| packet);
        let span = self.0.traces.as_ref().and_then(|traces| BatchSpan::publish(traces, packets()));
        let failed = self.0.broker.publish_each(messages).await;
        if let Some(span) = span {
            span.end(failed.first().map(|(_, unpublished)| (unpublished.cause.name(), unpublished.to_string())));
        }
        failed
    }

    /// Whether commands wait here: the broker is away, or was a moment ago and the relay is at what has gathered since.
    pub(crate) fn is_behind(&self) -> bool {
        !self.0.broker.is_connected() || self.last_late().is_some_and(|late| late.elapsed() < CAUGHT_UP_AFTER)
    }

    /// Leaves a row to the relay.
    fn leave(&self, row: Uuid, about: Vec<Uuid>) {
        self.lane().leave(row, about);
        self.0.something_left.notify_one();
    }

    /// Every message of a row is acknowledged, or kept as a dead letter: the row goes.
    fn is_published(&self, row: Uuid) {
        self.lane().remove(row);
        self.published().push(row);
        self.0.something_published.notify_one();
    }

    /// Publishes what was left behind, deletes what is published and counts what is here, until shutdown; then waits for the last
    /// acknowledgements.
    pub(crate) async fn relay(&self, health: &Health, shutdown: &CancellationToken) {
        let sweeps = async {
            while !shutdown.is_cancelled() {
                tokio::select! {
                    () = self.0.something_published.notified() => {}
                    () = shutdown.cancelled() => return,
                }
                tokio::time::sleep(SWEEP_EVERY).await;
                if !self.sweep().await {
                    tokio::time::sleep(SWEEP_AGAIN).await;
                    self.0.something_published.notify_one();
                }
            }
        };
        tokio::join!(self.run_relay(shutdown), sweeps, self.watch(health, shutdown));
        self.0.publishing.close();
        self.0.publishing.wait().await;
        self.last_words().await;
        self.sweep().await;
    }

    /// Deletes published rows; those that cannot be deleted now are not forgotten.
    async fn sweep(&self) -> bool {
        let ids = std::mem::take(&mut *self.published());
        if ids.is_empty() {
            return true;
        }
        match rows::delete(&self.0.database.pool(), &ids).await {
            Ok(()) => {
                let deleted: HashSet<Uuid> = ids.into_iter().collect();
                self.in_hand().retain(|id| !deleted.contains(id));
                true
            }
            Err(error) => {
                tracing::warn!(%error, "published rows not deleted; trying again");
                self.published().extend(ids);
                false
            }
        }
    }

    fn lane(&self) -> MutexGuard<'_, Lane> {
        self.0.lane.lock().expect("the lane is never poisoned")
    }

    fn in_hand(&self) -> MutexGuard<'_, HashSet<Uuid>> {
        self.0.in_hand.lock().expect("the set is never poisoned")
    }

    fn behind(&self) -> MutexGuard<'_, HashSet<Uuid>> {
        self.0.behind.lock().expect("the set is never poisoned")
    }

    fn last_late(&self) -> MutexGuard<'_, Option<Instant>> {
        self.0.last_late.lock().expect("the time is never poisoned")
    }

    fn unheard(&self) -> MutexGuard<'_, Unheard> {
        self.0.unheard.lock().expect("the list is never poisoned")
    }

    fn published(&self) -> MutexGuard<'_, Vec<Uuid>> {
        self.0.published.lock().expect("the list is never poisoned")
    }
}

/// What events for everyone among these messages tell of.
fn told(packets: &[Packet]) -> Vec<Uuid> {
    packets.iter().filter_map(|packet| subject_id(&packet.subject)).collect()
}
