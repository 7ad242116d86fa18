//! Publishing again, from the histories, what the stream does not hold: in the order of the sagas, at a pace, resumable.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use chassis::causes;
use chassis::database::Reader;
use chassis::{Note, Outgoing, Packet};
use chrono::{DateTime, Utc};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use saga::{Effect, Entry};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{EVENTS, Watch};
use crate::messages::enqueue_again;
use crate::saga::{LoadedSaga, Saga};
use crate::store::completeness::{self, Found, Rebuild};

/// What marks an event that was published again: when.
const REPUBLISHED: &str = "ce-republished";

/// Sagas looked at in one statement; and those read whole at once, at most.
const PAGE: i64 = 1000;
const AT_ONCE: u32 = 50;

/// Events the broker is asked for at once: one after the other would be as slow as the way there and back.
const ASKED_AT_ONCE: usize = 16;

/// How often how far it has come is written down: a page may take long.
const NOTE_EVERY: Duration = Duration::from_secs(1);

/// How long rows may still be in the outbox although the broker has acknowledged them: several times what their deletion waits for.
const PUBLISHED_ROWS_GO: Duration = Duration::from_millis(1_500);
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// An event of a history.
struct Sent {
    saga: Uuid,
    note: Vec<u8>,
    id: String,
    packet: Packet,
}

/// What `/readyz` says meanwhile.
fn being_completed<S: Saga>(rebuild: &Rebuild, left: i64) -> String {
    let Rebuild { reason, checked, missing, .. } = rebuild;
    let more = if left == completeness::COUNT_MAX { " or more" } else { "" };
    format!(
        "being completed: {checked} events looked for, {missing} were missing so far, {left}{more} {}s are still to be looked at ({reason})",
        S::NAME
    )
}

fn is_unreadable(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Decode(_) | sqlx::Error::ColumnDecode { .. })
}

impl<S: Saga> Watch<S> {
    /// Goes on with a rebuild until the next look is due. Returns what there is to say of it.
    /// Events before the oldest that the stream's limits allow are left out.
    pub(super) async fn carry_on(
        &self,
        mut rebuild: Rebuild,
        oldest: DateTime<Utc>,
        shutdown: &CancellationToken,
    ) -> anyhow::Result<String> {
        let since = rebuild.since.max(oldest);
        let after = rebuild.after_order.max(rebuild.first_order);
        let store = self.store;
        let left = self.database.read(move |mut db| async move { store.after(&mut db, after).await }).await?;
        self.metrics.events_rebuild(Some(left));
        self.health.note(EVENTS, being_completed::<S>(&rebuild, left));
        // A pace is kept in short strides, so that this instance does not lose its hold on the watch.
        let at_once = (self.settings.events_rebuild_rate / 2).clamp(1, AT_ONCE) as usize;
        let until = Instant::now() + self.settings.events_check_every.max(Duration::from_secs(1));
        while Instant::now() < until && !shutdown.is_cancelled() {
            let page = self.page(&rebuild, since).await?;
            let (mut found, mut noted) = (Found::default(), Instant::now());
            for some in page.iter().flat_map(|(_, moved)| moved.chunks(at_once)) {
                let begun = Instant::now();
                anyhow::ensure!(
                    !shutdown.is_cancelled() && self.holds_watch().await?,
                    "another instance watches now, or this one stops"
                );
                let Found { checked, missing, unreadable } = self.some(&rebuild, since, some).await?;
                found.checked += checked;
                found.missing += missing;
                found.unreadable.extend(unreadable);
                let pace = Duration::from_secs_f64(checked as f64 / f64::from(self.settings.events_rebuild_rate));
                tokio::select! {
                    () = tokio::time::sleep(pace.saturating_sub(begun.elapsed())) => {}
                    () = shutdown.cancelled() => {}
                }
                if noted.elapsed() >= NOTE_EVERY {
                    noted = Instant::now();
                    if !self.note(&mut rebuild, some.last().copied(), std::mem::take(&mut found)).await? {
                        return Ok(being_completed::<S>(&rebuild, left)); // Begun again.
                    }
                }
            }
            let last = page.map(|(last, _)| last);
            if !self.note(&mut rebuild, last, found).await? {
                break; // Begun again.
            }
            if last.is_none() {
                let Rebuild { reason, checked, missing, unreadable, .. } = &rebuild;
                tracing::info!(
                    stream = S::EVENTS.name,
                    reason,
                    checked,
                    missing,
                    unreadable,
                    "the stream of events is complete again"
                );
                self.metrics.events_rebuild(None);
                return Ok(format!("complete again: {checked} events looked for, {missing} were missing ({reason})"));
            }
        }
        Ok(being_completed::<S>(&rebuild, left))
    }

    /// Writes down what was found up to an order; without one, at the end. `false`: the rebuild was begun again meanwhile.
    async fn note(&self, rebuild: &mut Rebuild, last: Option<Uuid>, found: Found) -> sqlx::Result<bool> {
        let (before, counts) = (rebuild.clone(), found.clone());
        let advance = move |mut db: Reader| {
            let (before, found) = (before.clone(), found.clone());
            async move { completeness::advance_rebuild(&mut db, before, last, found).await }
        };
        if !self.database.read(advance).await? {
            return Ok(false);
        }
        self.metrics.events_rebuilt(counts.checked, if rebuild.dry_run { 0 } else { counts.missing });
        rebuild.checked += counts.checked;
        rebuild.missing += counts.missing;
        rebuild.unreadable += counts.unreadable.len() as i64;
        rebuild.after_order = last.or(rebuild.after_order);
        Ok(true)
    }

    /// The next sagas to look at: the last of them, and those that moved. `None`: there are no more.
    async fn page(&self, rebuild: &Rebuild, since: DateTime<Utc>) -> sqlx::Result<Option<(Uuid, Vec<Uuid>)>> {
        let (store, after, first) = (self.store, rebuild.after_order, rebuild.first_order);
        if let Some(first) = first.filter(|first| after.is_none_or(|after| after < *first)) {
            let late = move |mut db: Reader| async move { store.moved_late(&mut db, after, first, since, PAGE).await };
            let late = self.database.read(late).await?;
            if let Some(last) = late.last() {
                return Ok(Some((*last, late)));
            }
        }
        let page = move |mut db: Reader| async move { store.moved_since(&mut db, after.max(first), since, PAGE).await };
        self.database.read(page).await
    }

    /// Looks for the events of some sagas, and publishes those that are missing. Returns how many were looked for, were missing, and
    /// could not be read or are not taken.
    async fn some(&self, rebuild: &Rebuild, since: DateTime<Utc>, sagas: &[Uuid]) -> anyhow::Result<Found> {
        let (mut sent, mut unreadable) = (Vec::new(), Vec::new());
        for (saga, loaded) in self.read(sagas).await? {
            match loaded.and_then(|loaded| self.sent(&loaded, since)) {
                Ok(events) => sent.extend(events),
                Err(error) => {
                    unreadable.push(saga);
                    tracing::warn!(%saga, error = causes(&error), "this build cannot make the events of the saga again");
                }
            }
        }
        let pending = self.on_their_way(&sent).await?;
        sent.retain(|sent| !pending.contains(&sent.note));
        let checked = sent.len();
        let missing: Vec<Option<Sent>> = stream::iter(sent)
            .map(|sent| async move {
                let held = self.broker.holds(S::EVENTS.name, &sent.packet.subject).await?;
                anyhow::Ok((!held).then_some(sent))
            })
            .buffered(ASKED_AT_ONCE)
            .try_collect()
            .await?;
        let missing: Vec<Sent> = missing.into_iter().flatten().collect();
        let count = missing.len();
        if !rebuild.dry_run && !missing.is_empty() {
            // An id of its own each time: the broker may still remember the first one's, or that of the rebuild before it began again, and would
            // drop this for it.
            let begun = rebuild.begun_at.timestamp_micros();
            let again = |sent: Sent| (format!("{}/again/{}/{begun}", sent.id, rebuild.id), sent.packet);
            let sagas: Vec<Uuid> = missing.iter().map(|sent| sent.saga).collect();
            for (place, unpublished) in self.broker.publish_each(missing.into_iter().map(again).collect()).await {
                match unpublished.cause {
                    chassis::unpublished::Cause::Outage | chassis::unpublished::Cause::Unheard => {
                        return Err(unpublished).context("publishing again failed");
                    }
                    _ => unreadable.push(sagas[place]),
                }
            }
        }
        Ok(Found { checked: checked as i64, missing: count as i64, unreadable })
    }

    /// Sagas with their histories: all in one statement or, where one of them cannot be read, each in its own.
    async fn read(&self, sagas: &[Uuid]) -> anyhow::Result<Vec<(Uuid, anyhow::Result<LoadedSaga<S>>)>> {
        let store = self.store;
        let loaded = |ids: Vec<Uuid>| {
            self.database.read(move |mut db| {
                let ids = ids.clone();
                async move { store.loaded(&mut db, &ids).await }
            })
        };
        match loaded(sagas.to_vec()).await {
            Ok(mut all) => {
                all.sort_by_key(|saga| saga.record.id());
                return Ok(all.into_iter().map(|saga| (saga.record.id(), Ok(saga))).collect());
            }
            Err(error) if is_unreadable(&error) => {}
            Err(error) => return Err(error.into()),
        }
        let mut each = Vec::with_capacity(sagas.len());
        for id in sagas {
            match loaded(vec![*id]).await {
                Ok(found) => each.extend(found.into_iter().map(|saga| (*id, Ok(saga)))),
                Err(error) if is_unreadable(&error) => each.push((*id, Err(error.into()))),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(each)
    }

    /// The notes of events that are still in the outbox. Asked after the histories and before the stream: what is neither there nor here is
    /// lost. A row goes some time after the broker has acknowledged it, and what it is about may be lost with the broker that did: what is here
    /// is asked for again, and only what stays for longer than a row is kept that is published is on its way.
    async fn on_their_way(&self, sent: &[Sent]) -> anyhow::Result<HashSet<Vec<u8>>> {
        let mut notes: Vec<Vec<u8>> = sent.iter().map(|sent| sent.note.clone()).collect();
        let until = Instant::now() + PUBLISHED_ROWS_GO;
        loop {
            let asked = notes.clone();
            let pending = move |mut db: Reader| {
                let asked = asked.clone();
                async move { completeness::in_outbox(&mut db, asked).await }
            };
            notes = self.database.read(pending).await?;
            if notes.is_empty() || Instant::now() >= until {
                return Ok(notes.into_iter().collect());
            }
            tokio::time::sleep(ASK_AGAIN).await;
        }
    }

    /// The events that a saga's history sent since a moment, as they were sent then, marked.
    fn sent(&self, saga: &LoadedSaga<S>, since: DateTime<Utc>) -> anyhow::Result<Vec<Sent>> {
        let mut events = Vec::new();
        let id = saga.record.id();
        for entry in &saga.history {
            let entry: Entry<S> = serde_json::from_str(entry.get())?;
            if entry.time < since || !entry.sent.iter().any(|message| matches!(message, Effect::Notify(_))) {
                continue;
            }
            let mut outgoing: Option<Outgoing> = None;
            enqueue_again(&mut outgoing, saga, entry.sequence as usize, self.payload_max.get())?;
            let note = Note { subject: id, entry: entry.sequence }.bytes().to_vec();
            for mut packet in outgoing.map(Outgoing::into_packets).unwrap_or_default() {
                let event_id = packet.headers.iter().find(|(name, _)| name == "ce-id").map(|(_, id)| id.clone());
                if let Some(event_id) = event_id {
                    packet.headers.push((REPUBLISHED.into(), Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Secs, true)));
                    events.push(Sent { saga: id, note: note.clone(), id: event_id, packet });
                }
            }
        }
        Ok(events)
    }
}
