//! Turns what a decision sends into messages, and makes again from the history alone what was sent before.

#[cfg(test)]
mod fuzz;

use std::collections::{BTreeSet, HashMap};

use anyhow::Context as _;
use chassis::broker::PayloadMax;
use chassis::{CannotRebuild, NewEvent, Note, Outgoing, Packet, RebuildMessages, Rebuilt};
use envelope::{Data, event_subject};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use saga::{Effect, Entry, Milestone, step_name};
use serde_json::value::RawValue;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::saga::{History, Layout as _, LoadedSaga, Projection, Record, Saga};
use crate::store::Store;

/// Enqueues what one decision sends. The record is as the decision left it, the history ends with its entry. `payload_max`: what the broker
/// takes in one message.
///
/// # Errors
/// Where a message cannot be written.
pub fn enqueue<S: Saga>(
    outgoing: &mut Outgoing,
    record: &Record<S>,
    history: &[Box<RawValue>],
    effects: &[Effect<S>],
    payload_max: usize,
) -> anyhow::Result<()> {
    let id = record.id();
    if !effects.is_empty() {
        outgoing.note(Note { subject: id, entry: record.sequence });
    }
    for effect in effects {
        let (subject, trace) = (id.to_string(), Some(record.trace.clone()));
        let (verb, step, attempt) = match effect {
            Effect::Execute { step, attempt } => ("", *step, *attempt),
            Effect::Compensate { step, attempt } => ("undo_", *step, *attempt),
            Effect::Notify(milestone) => {
                let (word, event) = event(*milestone, record, history, payload_max)?;
                // Its place in the history tells one from a namesake.
                let event_id = format!("{id}/{word}/{}", record.sequence);
                let event = NewEvent { id: event_id, subject, trace, attempt: None, message: event };
                outgoing.publish_event(event_subject(S::NAME, word, &id), event)?;
                continue;
            }
        };
        let channel = S::channel(step);
        let to = if verb.is_empty() { Some(channel.execute) } else { channel.compensate };
        if let (Some(message), Some(to)) = (record.state.command(&record.request, effect), to) {
            let id = format!("{id}/{verb}{}/{attempt}", step_name::<S>(step));
            outgoing.send(to, NewEvent { id, subject, trace, attempt: Some(attempt), message })?;
        }
    }
    Ok(())
}

/// Room for a message's subject and headers.
pub const HEADERS: usize = 4 * 1024;

/// Room for what an event says beside the history, however much that is.
const BESIDE: usize = 64 * 1024;

/// The event of a milestone. One that tells an end carries the whole history or, where the broker would not take that, a claim check.
fn event<S: Saga>(
    milestone: Milestone,
    record: &Record<S>,
    history: &[Box<RawValue>],
    payload_max: usize,
) -> anyhow::Result<(&'static str, S::Event)> {
    if !matches!(milestone, Milestone::Completed | Milestone::Compensated) {
        return S::event(milestone, record, History::None);
    }
    // As an array: brackets, and a comma between two.
    let length = 1 + history.iter().map(|entry| entry.get().len() + 1).sum::<usize>();
    let fits = |beside: usize| length + beside + HEADERS <= payload_max;
    let carries = fits(BESIDE) || {
        // Measured only where it could be too much.
        let (_, event) = S::event(milestone, record, History::None)?;
        fits(serde_json::to_vec(&Data(&event))?.len())
    };
    S::event(milestone, record, if carries { History::Whole(history) } else { History::Claimed(history) })
}

/// Makes messages again from the histories, with what the broker takes in one message.
pub(crate) struct FromHistories<S: Saga> {
    pub store: Store<S>,
    pub payload_max: PayloadMax,
}

impl<S: Saga> RebuildMessages for FromHistories<S> {
    fn rebuild<'a>(&'a self, db: &'a mut PgConnection, rows: &'a [Vec<Note>]) -> BoxFuture<'a, anyhow::Result<Rebuilt>> {
        async move {
            let ids: BTreeSet<Uuid> = rows.iter().flatten().map(|note| note.subject).collect();
            let sagas = self.store.loaded(db, &ids.into_iter().collect::<Vec<_>>()).await?;
            let sagas: HashMap<Uuid, &LoadedSaga<S>> = sagas.iter().map(|saga| (saga.record.id(), saga)).collect();
            Ok(rows.iter().map(|notes| self.row(&sagas, notes)).collect())
        }
        .boxed()
    }
}

impl<S: Saga> FromHistories<S> {
    fn row(&self, sagas: &HashMap<Uuid, &LoadedSaga<S>>, notes: &[Note]) -> anyhow::Result<Vec<Packet>> {
        let mut outgoing: Option<Outgoing> = None;
        for Note { subject, entry } in notes {
            let saga = sagas.get(subject).ok_or_else(|| CannotRebuild(format!("there is no {} {subject}", S::NAME)))?;
            enqueue_again(&mut outgoing, saga, *entry as usize, self.payload_max.get())
                .with_context(|| format!("entry {entry} of {} {subject}", S::NAME))?;
        }
        Ok(outgoing.map(Outgoing::into_packets).unwrap_or_default())
    }
}

/// Enqueues what an entry of a saga's history sent, as it was sent then. The entries of one transaction bear one time.
///
/// # Errors
/// Where there is no such entry, or this build cannot read it.
pub fn enqueue_again<S: Saga>(
    outgoing: &mut Option<Outgoing>,
    saga: &LoadedSaga<S>,
    sequence: usize,
    payload_max: usize,
) -> anyhow::Result<()> {
    let missing = |sequence| CannotRebuild(format!("entry {sequence} is missing from its history"));
    let mut record = Record { projection: Projection::<S>::default(), ..saga.record.clone() };
    let mut last = None;
    for (place, entry) in saga.history.iter().take(sequence).enumerate() {
        let entry: Entry<S> = serde_json::from_str(entry.get())?;
        let place = place as u32 + 1;
        if entry.sequence != place {
            return Err(missing(place).into());
        }
        record.sequence = entry.sequence;
        record.state = entry.state;
        S::Layout::project(&mut record.projection, &record.state);
        last = Some((entry.time, entry.sent));
    }
    let history = saga.history.get(..sequence).ok_or_else(|| missing(saga.history.len() as u32 + 1))?;
    let (time, sent) = last.ok_or_else(|| CannotRebuild("entries count from 1".to_owned()))?;
    enqueue(outgoing.get_or_insert_with(|| Outgoing::new(S::SOURCE, time)), &record, history, &sent, payload_max)
}
