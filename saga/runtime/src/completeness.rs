//! The stream of a saga's events holds every event: what the broker acknowledged and does not hold any more (its machine crashed, its store was wiped or
//! restored from an old copy, somebody purged the stream) is noticed, and published again from the histories.
//!
//! One instance watches. Every few seconds it writes a checkpoint: up to this message of the stream, every event until this moment is
//! stored. An event is acknowledged when its row has left the outbox, so the oldest row there says until when.

mod rebuild;
pub(crate) mod routes;
mod stream;

use std::sync::Arc;
use std::time::Duration;

use chassis::broker::Broker;
use chassis::causes;
use chassis::database::Database;
use chassis::health::Health;
use chassis::settings::seconds;
use chrono::{DateTime, TimeDelta, Utc};
use clap::Args;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::stream::Stream;
use crate::metrics::SagaMetrics;
use crate::saga::Saga;
use crate::store::Store;
use crate::store::completeness::{self as store, Checkpoint};

/// Settings of the watch over the stream of events.
#[derive(Args, Clone, Copy, Debug)]
pub struct Completeness {
    /// Seconds between two looks whether the stream of events still holds what was acknowledged.
    #[arg(long, env = "WAYBILL_EVENTS_CHECK_EVERY", default_value = "5", value_parser = seconds)]
    pub events_check_every: Duration,

    /// Events a second that are looked for, and published again where they are missing, after the broker lost some. More is complete
    /// sooner, and takes more from the sagas meanwhile.
    #[arg(long, env = "WAYBILL_EVENTS_REBUILD_RATE", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    pub events_rebuild_rate: u32,
}

/// A checkpoint's moment is the database's, rows commit up to some seconds later, and its clock is read every ten seconds only.
const MARGIN: TimeDelta = TimeDelta::seconds(60);

/// After each restart of the broker the sagas begun within this time before what is certain are looked at one after the other: nearly all that
/// moved are among them. Those begun earlier are found by when they moved, through an index on that.
const UNDER_WAY: TimeDelta = TimeDelta::hours(2);

/// What `/readyz` calls it.
const EVENTS: &str = "events";

/// Watches the stream.
pub(crate) struct Watch<S: Saga> {
    pub store: Store<S>,
    pub database: Database,
    pub broker: Broker,
    pub health: Health,
    pub settings: Completeness,
    pub payload_max: chassis::broker::PayloadMax,
    pub holder: Uuid,
    pub metrics: Arc<SagaMetrics<S>>,
}

/// What the broker lost.
#[derive(Debug, PartialEq)]
struct Loss {
    reason: String,
    /// Until then everything is there; `None`: nothing is certain.
    since: Option<DateTime<Utc>>,
    /// Sagas begun before this moment only if they moved since.
    begun_after: Option<DateTime<Utc>>,
}

impl<S: Saga> Watch<S> {
    /// Watches until shutdown.
    pub async fn run(self, shutdown: CancellationToken) {
        // One after the other: two that are made beside each other would wait for each other.
        let indexes = async {
            for index in [self.store.moved_index(), self.store.actions_index()] {
                index.ensure(self.database.clone(), shutdown.clone()).await;
            }
        };
        tokio::join!(indexes, self.watch(&shutdown));
    }

    async fn watch(&self, shutdown: &CancellationToken) {
        while !shutdown.is_cancelled() {
            match self.look(shutdown).await {
                Ok(note) => self.health.note(EVENTS, note),
                Err(error) => self.health.note(EVENTS, format!("not checked: {}", causes(&error))),
            }
            tokio::select! {
                () = tokio::time::sleep(self.settings.events_check_every) => {}
                () = shutdown.cancelled() => {}
            }
        }
    }

    async fn look(&self, shutdown: &CancellationToken) -> anyhow::Result<String> {
        if !self.holds_watch().await? {
            self.metrics.events_rebuild(None);
            return Ok("watched by another instance".to_owned());
        }
        anyhow::ensure!(self.broker.is_connected(), "the broker is not connected");
        // Before the stream is asked: what was acknowledged by then is in what it says.
        let until = self.database.read(|mut db| async move { store::acknowledged_until(&mut db).await }).await?;
        let stream = Stream::read(&self.broker, S::EVENTS.name).await?;
        let last = self.database.read(|mut db| async move { store::checkpoint(&mut db).await }).await?;
        if let Some(last) = &last
            && let Some(loss) = self.loss(last, &stream).await?
        {
            self.begin(&stream, loss).await?;
        }
        let open = self.database.read(|mut db| async move { store::open_rebuild(&mut db).await }).await?;
        // Until a rebuild has ended no more is certain than when it began.
        let until = open.as_ref().filter(|open| !open.dry_run).map_or(until, |open| until.min(open.since));
        let (checkpoint, keep) = (stream.checkpoint(until), stream.max_age() + Duration::from_secs(24 * 3600));
        let first = stream.first();
        self.database
            .read(move |mut db| {
                let checkpoint = checkpoint.clone();
                async move { store::record_checkpoint(&mut db, checkpoint, first, keep).await }
            })
            .await?;
        match open {
            Some(open) => self.carry_on(open, stream.oldest_to_hold(), shutdown).await,
            None => {
                self.metrics.events_rebuild(None);
                Ok(format!("complete until {}", until.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)))
            }
        }
    }

    /// Whether this instance watches; it does for some seconds more.
    async fn holds_watch(&self) -> sqlx::Result<bool> {
        let holder = self.holder;
        self.database.read(move |mut db| async move { store::hold_watch(&mut db, holder).await }).await
    }

    /// Has what is missing published again.
    async fn begin(&self, stream: &Stream, loss: Loss) -> anyhow::Result<()> {
        let oldest = stream.oldest_to_hold();
        let since = loss.since.map_or(oldest, |since| (since - MARGIN).max(oldest));
        let first_order = loss.begun_after.map(begun_at);
        tracing::warn!(stream = S::EVENTS.name, reason = loss.reason, %since, "the stream of events holds less than was acknowledged, or may: looking for what is missing");
        let reason = loss.reason;
        self.database
            .read(move |mut db| {
                let reason = reason.clone();
                async move { store::begin_rebuild(&mut db, reason, since, first_order).await }
            })
            .await?;
        let (incarnation, last, first) = (stream.incarnation.clone(), stream.last_sequence, stream.first_sequence);
        self.database
            .read(move |mut db| {
                let incarnation = incarnation.clone();
                async move { store::forget_checkpoints(&mut db, incarnation, last, first).await }
            })
            .await?;
        Ok(())
    }

    /// What the stream has lost since a checkpoint.
    async fn loss(&self, last: &Checkpoint, stream: &Stream) -> anyhow::Result<Option<Loss>> {
        let loss = |reason: String, since| Ok(Some(Loss { reason, since, begun_after: None }));
        if last.incarnation != stream.incarnation {
            return loss("the stream was made anew".to_owned(), None);
        }
        if last.sequence > stream.last_sequence || !stream.holds(last).await? {
            let since = self.last_good(stream, stream.last_sequence).await?;
            return loss(format!("its last message is {}, and {} was acknowledged", stream.last_sequence, last.sequence), since);
        }
        if let Some(early) = self.purged(stream).await? {
            return loss(
                format!("its first message is {}, and {early} is not old enough to be gone", stream.first_sequence),
                None,
            );
        }
        if last.deleted < stream.deleted {
            let first = stream.first_deleted().await?.unwrap_or(stream.first_sequence);
            let since = self.last_good(stream, first - 1).await?;
            return loss(format!("{} messages were deleted in its middle", stream.deleted - last.deleted), since);
        }
        if last.server != stream.server {
            // Acknowledged after the last checkpoint, and lost with the process that acknowledged it.
            let since = last.complete_until;
            let reason = "the broker was started again".to_owned();
            return Ok(Some(Loss { reason, since: Some(since), begun_after: Some(since - MARGIN - UNDER_WAY) }));
        }
        Ok(None)
    }

    /// Until when everything is there, by the newest checkpoint at or before a message that still is what it was.
    async fn last_good(&self, stream: &Stream, sequence: i64) -> anyhow::Result<Option<DateTime<Utc>>> {
        let incarnation = stream.incarnation.clone();
        let checkpoints = self.database.read(move |mut db| {
            let incarnation = incarnation.clone();
            async move { store::checkpoints_until(&mut db, incarnation, sequence).await }
        });
        for checkpoint in checkpoints.await? {
            if stream.holds(&checkpoint).await? {
                return Ok(Some(checkpoint.complete_until));
            }
        }
        Ok(None)
    }

    /// A message that was removed from the front although no limit explains it.
    async fn purged(&self, stream: &Stream) -> anyhow::Result<Option<i64>> {
        let (incarnation, before) = (stream.incarnation.clone(), stream.first_sequence - 1);
        let gone = self.database.read(move |mut db| {
            let incarnation = incarnation.clone();
            async move { store::checkpoints_until(&mut db, incarnation, before).await }
        });
        let Some(gone) = gone.await?.into_iter().next() else { return Ok(None) };
        // One of an empty stream is no message: what was stored after it, and is gone, was no older than what is there now.
        let stored_at = if gone.sequence == 0 { stream.oldest() } else { gone.stored_at };
        Ok((stream.first_sequence > 1 && !stream.explains(stored_at)).then_some(gone.sequence.max(1)))
    }
}

/// The id before those of sagas that began at a moment.
fn begun_at(moment: DateTime<Utc>) -> Uuid {
    Uuid::from_u128((moment.timestamp_millis().max(0) as u128) << 80)
}
