//! The sagas of a batch: found in the cache or read, and decided.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use chassis::ReadConnection;
use saga::{IgnoredBecause, Verdict};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::cache::SagaCache;
use crate::item::{Moved, Outcome, Trigger};
use crate::progress::{BatchContext, SagaInProgress, ends};
use crate::saga::{Layout as _, LoadedSaga, Record, Saga};
use crate::store::{Store, Unreadable};

/// What comes to each saga, in its order.
pub(crate) type Triggers<'a, S> = BTreeMap<Uuid, Vec<&'a Trigger<S>>>;

/// The sagas of a batch that something comes to.
pub(crate) struct Sagas<S: Saga> {
    pub open: BTreeMap<Uuid, SagaInProgress<S>>,
    unreadable: HashMap<Uuid, Unreadable>,
}

impl<S: Saga> Sagas<S> {
    /// Decides what comes to each.
    pub async fn decide(
        cache: &SagaCache<S>,
        store: &Store<S>,
        db: &mut ReadConnection,
        context: &mut BatchContext<'_, S>,
        triggers: &Triggers<'_, S>,
    ) -> anyhow::Result<Self> {
        let mut sagas = Self { open: BTreeMap::new(), unreadable: HashMap::new() };
        let (mut unsure, mut looked_at, mut kept) = (Vec::new(), Vec::new(), HashMap::new());
        for (id, triggers) in triggers {
            let cached = cache.take(*id);
            if triggers.iter().any(|trigger| looks(trigger)) {
                kept.extend(cached.map(|saga| (*id, saga)));
                looked_at.push(*id);
                unsure.push(*id);
                continue;
            }
            // What is cached may be out of date. Only a step forward is believed: it is written only onto what it was decided on.
            let mut open = cached.map(|LoadedSaga { record, history }| SagaInProgress::new(record, Some(history)));
            let forward = open.as_mut().map(|open| open.decide_all(&triggers[..1], context)).transpose()?;
            match open {
                Some(mut open) if forward == Some(true) => {
                    open.decide_all(&triggers[1..], context)?;
                    sagas.open.insert(*id, open);
                }
                _ => unsure.push(*id),
            }
        }
        if unsure.is_empty() {
            return Ok(sagas);
        }
        let mut records = Vec::with_capacity(unsure.len());
        for found in store.records(&mut *db, &unsure).await? {
            match found {
                Ok(record) => records.push(record),
                Err(unreadable) => drop(sagas.unreadable.insert(unreadable.id, unreadable)),
            }
        }
        if !looked_at.is_empty() {
            for holed in store.holed(&mut *db, &looked_at).await? {
                sagas.unreadable.entry(holed.id).or_insert(holed);
            }
            records.retain(|record| !sagas.unreadable.contains_key(&record.id()));
        }
        let mut kept: HashMap<Uuid, Vec<Box<RawValue>>> = records
            .iter()
            .filter_map(|record| Some((record.id(), kept.remove(&record.id())?, record.sequence)))
            .filter(|(_, saga, sequence)| saga.record.sequence == *sequence)
            .map(|(id, saga, _)| (id, saga.history))
            .collect();
        let unread: Vec<&Record<S>> = records.iter().filter(|record| !kept.contains_key(&record.id())).collect();
        let mut histories = ending_histories(store, db, &unread, triggers, context).await?;
        for record in records {
            let id = record.id();
            let read = histories.remove(&id).map(|mut entries| {
                // Read after the row: another instance may have appended meanwhile.
                entries.truncate(record.sequence as usize);
                entries
            });
            if let Some(entries) = read.as_ref().filter(|entries| entries.len() < record.sequence as usize) {
                let why = format!("{} entries of its history are missing", record.sequence as usize - entries.len());
                sagas.unreadable.insert(id, Unreadable { id, status: record.status().to_owned(), plan: None, why });
                continue;
            }
            let history = read.or_else(|| kept.remove(&id));
            let mut open = SagaInProgress::new(record, history);
            open.decide_all(&triggers[&id], context)?;
            sagas.open.insert(id, open);
        }
        Ok(sagas)
    }

    /// What became of the next trigger of a saga, and the saga itself, where that was its last. `None`: there is no such saga.
    pub fn moved(&mut self, id: Uuid, trigger: &Trigger<S>) -> (Option<Moved<S>>, Option<SagaInProgress<S>>) {
        if let Some(Unreadable { status, plan, why, .. }) = self.unreadable.get(&id) {
            let outcome = match plan {
                Some(plan) if S::stages(*plan).is_none() => Outcome::Decided(Verdict::Ignored(IgnoredBecause::UnknownPlan)),
                _ => Outcome::Unreadable(why.clone()),
            };
            return (Some(Moved::nothing(id, Cow::Owned(status.clone()), outcome)), None);
        }
        let Some(open) = self.open.get_mut(&id) else { return (None, None) };
        let outcome = open.outcomes.pop_front().unwrap_or(Outcome::Nothing);
        let view = matches!(trigger, Trigger::Cancel(_)).then(|| S::Layout::view(&open.record));
        let (status, sequence) = (Cow::Borrowed(open.record.status()), open.record.sequence);
        let moved = Moved { id, status, sequence, view, outcome };
        let done = open.outcomes.is_empty();
        (Some(moved), if done { self.open.remove(&id) } else { None })
    }
}

/// Whether this is decided on the saga's row, whatever is cached. What comes of itself comes seldom, and is how a row that was damaged is found.
fn looks<S: Saga>(trigger: &Trigger<S>) -> bool {
    matches!(trigger, Trigger::Timer | Trigger::Operator { .. })
}

/// The histories of sagas that these triggers end: a saga's last event carries its whole history, and nothing else needs it. What is
/// refused, late or repeated must not cost a read of everything that ever happened.
async fn ending_histories<S: Saga>(
    store: &Store<S>,
    db: &mut ReadConnection,
    records: &[&Record<S>],
    triggers: &Triggers<'_, S>,
    context: &BatchContext<'_, S>,
) -> sqlx::Result<HashMap<Uuid, Vec<Box<RawValue>>>> {
    let ending = records.iter().filter(|record| ends(record, &triggers[&record.id()], context));
    let ending: Vec<Uuid> = ending.map(|record| record.id()).collect();
    let mut histories: HashMap<Uuid, Vec<Box<RawValue>>> = HashMap::new();
    if !ending.is_empty() {
        for (id, entry) in store.histories(db, &ending).await? {
            histories.entry(id).or_default().push(entry);
        }
    }
    Ok(histories)
}
