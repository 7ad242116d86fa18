//! Carries sagas: what begins, and what comes to those under way (replies, timers, cancellations, operators). One handler for all: decide,
//! enqueue, write.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use chassis::broker::PayloadMax;
use chassis::clock::SteadyClock;
use chassis::database::Database;
use chassis::seldom::Seldom;
use chassis::{Handled, Handler, OneStatement, Outgoing, ReadConnection, Statement};
use saga::{Input, Timing, Verdict};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::batch::{Sagas, Triggers};
use crate::cache::SagaCache;
use crate::item::{Begun, Item, Moved, NewSaga, Outcome, Trigger};
use crate::metrics::{Measured, SagaMetrics};
use crate::progress::{BatchContext, SagaInProgress};
use crate::saga::{Layout as _, LoadedSaga, Record, Saga, View};
use crate::settings::HistoryLimit;
use crate::store::{Keyed, Store, Written};
use crate::traces::Chosen;
use crate::waiters::Waiters;

/// The handler of every batch.
pub(crate) struct Coordinator<S: Saga> {
    pub database: Database,
    pub store: Store<S>,
    pub clock: SteadyClock,
    pub timing: Timing<S>,
    pub limit: HistoryLimit,
    pub payload_max: PayloadMax,
    pub cache: SagaCache<S>,
    /// Those who wait for a saga to move.
    pub waiters: Waiters,
    /// What the log says of what comes.
    pub logged: Logged,
    pub metrics: Arc<SagaMetrics<S>>,
    /// Chooses the sagas whose traces are told, if there is somebody to tell.
    pub traces: Option<Chosen>,
}

/// What one message can cause hundreds of times.
#[derive(Debug, Default)]
pub(crate) struct Logged {
    unknown: Seldom,
    unreadable: Seldom,
}

/// What became of one item, and the saga as it is cached once that is committed.
#[derive(Debug)]
pub(crate) struct Output<S: Saga> {
    pub result: ItemResult<S>,
    cached: Option<Box<LoadedSaga<S>>>,
    /// Of the whole batch, at its first item.
    measured: Option<Box<Measured<S>>>,
    /// The saga, where it came to its end and its trace is to be told.
    traced: Option<Uuid>,
}

/// What became of one item.
#[derive(Debug)]
pub(crate) enum ItemResult<S: Saga> {
    /// Of a saga that was to begin.
    Begun(Begun<S>),
    /// Of what came to a saga; `None`: there is no such saga.
    Moved(Option<Moved<S>>),
}

/// Sagas that begin in this batch.
struct Beginning<'a, S: Saga> {
    /// What became of each item.
    results: Vec<Begun<S>>,
    /// Those that are placed, with their keys.
    placed: Vec<(SagaInProgress<S>, Option<&'a str>)>,
}

impl<S: Saga> Coordinator<S> {
    /// Begins what is to begin. `first`: by key, what was begun with it before.
    fn begin_all<'a>(
        &self,
        new: impl Iterator<Item = &'a NewSaga<S>>,
        mut first: HashMap<String, Keyed<S>>,
        context: &mut BatchContext<'_, S>,
    ) -> anyhow::Result<Beginning<'a, S>> {
        let mut beginning = Beginning { results: Vec::new(), placed: Vec::new() };
        for new in new {
            if let Some(Keyed { request, view }) = new.key.as_ref().and_then(|key| first.get(key)) {
                let same = S::Layout::is_same(request, &new.request);
                beginning.results.push(if same { Begun::Replayed(view.clone()) } else { Begun::KeyReused });
                continue;
            }
            let record = Record::new(new.request.clone(), new.trace.clone(), context.now, context.steady);
            let mut open = SagaInProgress::new(record, Some(Vec::new()));
            open.decide(Input::Start, context)?;
            open.set_timers(context);
            let view: View<S> = S::Layout::view(&open.record);
            if let Some(key) = &new.key {
                first.insert(key.clone(), Keyed { request: new.request.clone(), view: view.clone() });
            }
            beginning.results.push(Begun::Placed(view));
            beginning.placed.push((open, new.key.as_deref()));
        }
        Ok(beginning)
    }

    /// The saga, if this ends it and its trace is to be told.
    fn traced(&self, open: &SagaInProgress<S>) -> Option<Uuid> {
        let chosen = self.traces.as_ref()?;
        (open.ended.is_some() && chosen.chooses(&open.record)).then(|| open.record.id())
    }

    fn write(
        &self,
        context: BatchContext<'_, S>,
        sagas: &mut Sagas<S>,
        beginning: &Beginning<'_, S>,
        measured: &mut Measured<S>,
    ) -> anyhow::Result<Statement> {
        for open in sagas.open.values_mut().filter(|open| open.moved) {
            measured.saga(&open.before, &open.record, open.ended);
            open.set_timers(&context);
        }
        let mut written = Written { placed: Vec::new(), moved: Vec::new(), entries: Vec::new(), cancelled: Vec::new() };
        for (open, key) in &beginning.placed {
            measured.saga(&open.before, &open.record, open.ended);
            written.placed.push((&open.record, *key));
            written.entries.extend(&open.entries);
        }
        for open in sagas.open.values().filter(|open| open.moved) {
            written.moved.push((&open.record, open.record.sequence - open.entries.len() as u32));
            written.entries.extend(&open.entries);
            written.cancelled.extend(open.cancelled_with.as_deref().map(|key| (key, open.record.id())));
        }
        self.store.write(context.outgoing, context.now, written)
    }
}

/// What is cached of a saga after its batch. To one that has come to its end mostly nothing comes any more.
fn cached<S: Saga>(open: SagaInProgress<S>) -> Option<Box<LoadedSaga<S>>> {
    let SagaInProgress { record, history, .. } = open;
    if record.state.is_settled() { None } else { Some(Box::new(LoadedSaga { record, history: history? })) }
}

impl<S: Saga> Handler for Coordinator<S> {
    type Item = Item<S>;
    type Output = Output<S>;
    type Shape = OneStatement;
    const NAME: &'static str = S::NAME;

    /// Decides a batch, what comes to each saga in its order.
    async fn handle(&self, db: &mut ReadConnection, batch: &[&Item<S>]) -> anyhow::Result<Handled<Output<S>>> {
        let (now, steady) = (self.database.now(&mut *db).await?, self.clock.now(&mut *db).await?);
        let (timing, limit, payload_max) = (&self.timing, &self.limit, self.payload_max.get());
        let (outgoing, mut measured) = (Outgoing::new(S::SOURCE, now), Measured::new(now, steady));
        let mut context = BatchContext { now, steady, timing, limit, payload_max, outgoing };
        // A key that was used before asks for nothing. Looked for here, so that whoever comes second with it finds the first.
        let (mut begun_with, mut cancelled_with) = (Vec::new(), Vec::new());
        for item in batch {
            match item {
                Item::Begin(new) => begun_with.extend(new.key.as_deref()),
                Item::Input(_, trigger) => cancelled_with.extend(trigger.key()),
            }
        }
        let begun = if begun_with.is_empty() { HashMap::new() } else { self.store.by_keys(&mut *db, &begun_with).await? };
        let cancelled = match cancelled_with.is_empty() {
            true => HashMap::new(),
            false => self.store.cancelled_with(&mut *db, &cancelled_with).await?,
        };
        let used = |trigger: &Trigger<S>| trigger.key().and_then(|key| cancelled.get(key)).copied();
        let mut triggers: Triggers<'_, S> = BTreeMap::new();
        for item in batch {
            let Item::Input(id, trigger) = item else { continue };
            if !matches!(trigger, Trigger::Reply(_)) {
                context.outgoing.keep_order();
            }
            if used(trigger).is_none() {
                triggers.entry(*id).or_default().push(trigger);
            }
        }
        let mut sagas = Sagas::decide(&self.cache, &self.store, db, &mut context, &triggers).await?;
        let new = batch.iter().filter_map(|item| match item {
            Item::Begin(new) => Some(new),
            Item::Input(..) => None,
        });
        let beginning = self.begin_all(new, begun, &mut context)?;
        let statement = self.write(context, &mut sagas, &beginning, &mut measured)?;
        let (mut results, mut placed) = (beginning.results.into_iter(), beginning.placed.into_iter());
        let output = |item: &&Item<S>| match item {
            Item::Begin(_) => {
                let begun = results.next().expect("one for each saga that begins");
                let placed = if matches!(begun, Begun::Placed(_)) { placed.next() } else { None };
                Output {
                    result: ItemResult::Begun(begun),
                    cached: placed.and_then(|(open, _)| cached(open)),
                    measured: None,
                    traced: None,
                }
            }
            Item::Input(id, trigger) => match used(trigger) {
                // Nobody looks where it stands.
                Some(saga) => Output::moved(Some(Moved::nothing(*id, "".into(), Outcome::KeyUsed(saga))), None),
                None => {
                    let (moved, done) = sagas.moved(*id, trigger);
                    let traced = done.as_ref().and_then(|open| self.traced(open));
                    Output { traced, ..Output::moved(moved, done.and_then(cached)) }
                }
            },
        };
        let mut outputs: Vec<Output<S>> = batch.iter().map(output).collect();
        if let Some(first) = outputs.first_mut() {
            first.measured = Some(Box::new(measured));
        }
        Ok(Handled::new(outputs, statement))
    }

    fn rows(&self, item: &Item<S>) -> Vec<Uuid> {
        match item {
            Item::Begin(_) => Vec::new(),
            Item::Input(id, _) => vec![*id],
        }
    }

    async fn held(&self, db: &mut PgConnection, batch: &[&Item<S>]) -> anyhow::Result<Vec<Vec<Uuid>>> {
        let rows: Vec<Vec<Uuid>> = batch.iter().map(|item| self.rows(item)).collect();
        let held = self.store.held(db, &rows.concat()).await?;
        Ok(rows.into_iter().map(|rows| rows.into_iter().filter(|id| held.contains(id)).collect()).collect())
    }

    /// Caches what will move again, wakes who waits, and counts what happened.
    fn committed(&self, batch: &[&Item<S>], outputs: &mut [Output<S>]) {
        self.cache.keep(outputs.iter_mut().filter_map(|output| output.cached.take()).map(|saga| *saga));
        outputs.iter_mut().filter_map(|output| output.measured.take()).for_each(|measured| self.metrics.count(&measured));
        if let Some(chosen) = &self.traces {
            chosen.tell(outputs.iter().filter_map(|output| output.traced));
        }
        let (mut unknown, mut unreadable) = (Vec::new(), Vec::new());
        for (item, output) in batch.iter().zip(outputs.iter()) {
            let (Item::Input(id, trigger), ItemResult::Moved(moved)) = (item, &output.result) else { continue };
            let Some(moved) = moved else {
                unknown.extend(matches!(trigger, Trigger::Reply(_)).then_some(*id));
                continue;
            };
            if let Outcome::Unreadable(why) = &moved.outcome {
                unreadable.push((moved.id, why));
            }
            if let Some(reason) = moved.outcome.ignored_because() {
                self.metrics.ignored(reason, 1);
                tracing::debug!(saga = S::NAME, id = %moved.id, ?trigger, reason, "changed nothing");
            }
            self.waiters.moved(moved.id, moved.sequence);
        }
        if !unknown.is_empty() {
            self.metrics.unknown(unknown.len() as u64);
        }
        if let (Some(replies), Some(id)) = (self.logged.unknown.happened(unknown.len() as u64), unknown.first()) {
            tracing::warn!(saga = S::NAME, replies, %id, "replies for sagas that nobody knows");
        }
        if let (Some(inputs), Some((id, why))) = (self.logged.unreadable.happened(unreadable.len() as u64), unreadable.first()) {
            tracing::error!(saga = S::NAME, inputs, %id, why, "the saga cannot be read whole, and is left alone");
        }
    }
}

impl<S: Saga> Output<S> {
    fn moved(moved: Option<Moved<S>>, cached: Option<Box<LoadedSaga<S>>>) -> Self {
        Self { result: ItemResult::Moved(moved), cached, measured: None, traced: None }
    }

    /// Of what came to a saga.
    pub fn into_moved(self) -> Option<Moved<S>> {
        match self.result {
            ItemResult::Moved(moved) => moved,
            ItemResult::Begun(_) => None,
        }
    }
}

impl<S: Saga> Moved<S> {
    /// Why the sweeper would have the saga step aside; nothing where it moved, or had no reason to.
    pub(crate) fn trouble(self) -> Option<String> {
        match self.outcome {
            Outcome::Decided(Verdict::Moved) | Outcome::Nothing | Outcome::KeyUsed(_) => None,
            Outcome::Decided(Verdict::Ignored(why)) => Some(why.name().to_owned()),
            Outcome::HistoryFull => Some("its history is full".to_owned()),
            Outcome::Unreadable(why) => Some(why),
        }
    }
}
