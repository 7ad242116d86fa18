//! The trace of a saga after the fact: once it has come to its end, or is stuck, its spans are made of its history, with the times that are recorded
//! there, and told whole. Nothing is done for it while the saga is under way, and whether its caller's trace was sampled does not matter.

use std::collections::HashSet;
use std::time::Duration;

use chassis::clock::SteadyClock;
use chassis::database::{Database, Reader};
use chassis::gather::gather;
use chassis::metrics::Metrics;
use chassis::otlp::Traces;
use chrono::Utc;
use metrics::counter;
use saga::Phase;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::filter::Filter;
use crate::saga::{Record, Saga};
use crate::settings::TimingSettings;
use crate::spans::{End, spans};
use crate::store::{SagaFilter, Store};

/// Sagas whose histories wait to be read.
const QUEUE: usize = 4_096;

/// Histories read at once.
const AT_ONCE: usize = 64;

/// How often it is looked which sagas are stuck, how many at a time, and how many of them are remembered as told.
const LOOK_EVERY: Duration = Duration::from_secs(10);
const LOOK_MAX: i64 = 200;
const REMEMBERED: usize = 10_000;

/// Chooses the sagas whose traces are told.
#[derive(Clone)]
pub(crate) struct Chosen {
    metrics: Metrics,
    slow: Duration,
    traces: Traces,
    queue: mpsc::Sender<Uuid>,
}

impl Chosen {
    /// A saga that has come to its end, if its trace is one to be told.
    pub fn chooses<S: Saga>(&self, record: &Record<S>) -> bool {
        let slow = (record.updated_at - record.created_at).to_std().is_ok_and(|took| took >= self.slow);
        slow || !matches!(record.state.phase(), Phase::Completed) || self.traces.in_share(&record.trace.parent)
    }

    /// Has the traces of these told; those that there is no room for are dropped.
    pub fn tell(&self, sagas: impl Iterator<Item = Uuid>) {
        dropped(&self.metrics, sagas.filter(|id| self.queue.try_send(*id).is_err()).count());
    }
}

fn dropped(metrics: &Metrics, sagas: usize) {
    if sagas > 0 {
        metrics.record(|| counter!("waybill_traces_dropped_total").increment(sagas as u64));
    }
}

/// Reads the histories of the sagas that are chosen, and tells their traces.
pub(crate) struct Tracer<S: Saga> {
    metrics: Metrics,
    store: Store<S>,
    database: Database,
    clock: SteadyClock,
    stuck_after: Duration,
    traces: Traces,
    queue: mpsc::Receiver<Uuid>,
}

impl<S: Saga> Tracer<S> {
    /// It, and what chooses.
    pub fn new(
        timing: &TimingSettings,
        (traces, metrics): (Traces, Metrics),
        store: Store<S>,
        (database, clock): (Database, SteadyClock),
    ) -> (Chosen, Self) {
        let (sender, queue) = mpsc::channel(QUEUE);
        metrics.describe(
            "waybill_traces_dropped_total",
            "Sagas whose traces were not told, because too many waited, their histories could not be read or the service stopped.",
        );
        (
            Chosen { metrics: metrics.clone(), slow: timing.traces_slow, traces: traces.clone(), queue: sender },
            Self { metrics, store, database, clock, stuck_after: timing.stuck_after, traces, queue },
        )
    }

    /// Tells traces until shutdown.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let (mut ended, mut told, mut after) = (Vec::new(), HashSet::<Uuid>::new(), None);
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = gather(&mut self.queue, &mut ended, AT_ONCE) => {
                    let sagas = std::mem::take(&mut ended);
                    self.tell(&sagas, End::Final).await;
                }
                _ = look.tick() => {
                    let stuck = self.stuck(&mut after).await;
                    let new: Vec<Uuid> = stuck.into_iter().filter(|id| !told.contains(id)).collect();
                    if told.len() + new.len() > REMEMBERED {
                        told.clear();
                    }
                    told.extend(&new);
                    self.tell(&new, End::Stuck(Utc::now())).await;
                }
                () = shutdown.cancelled() => return dropped(&self.metrics, ended.len() + self.queue.len()),
            }
        }
    }

    /// Some of the sagas that are stuck, each time the next.
    async fn stuck(&self, after: &mut Option<Uuid>) -> Vec<Uuid> {
        let mut filter = Filter::all::<S>();
        filter.in_flight = true;
        let (stuck_after, aside) = (self.stuck_after, Vec::new());
        let wanted = &SagaFilter::<S> { filter, id: None, step: None, stuck_only: true, cause: None, aside, stuck_after };
        let (clock, store, from) = (&self.clock, self.store, *after);
        let read = |mut db: Reader| async move {
            let steady = clock.now(&mut **db).await?;
            store.sagas(&mut db, steady, wanted, from, LOOK_MAX).await
        };
        match self.database.read(read).await {
            Ok(found) => {
                let full = found.items.len() as i64 == LOOK_MAX;
                *after = found.items.last().filter(|_| full).map(|saga| saga.id).or(found.next);
                found.items.into_iter().map(|saga| saga.id).collect()
            }
            Err(error) => {
                tracing::debug!(%error, "stuck sagas cannot be looked for; their traces are told later");
                Vec::new()
            }
        }
    }

    async fn tell(&self, sagas: &[Uuid], end: End) {
        for ids in sagas.chunks(AT_ONCE) {
            let store = self.store;
            match self.database.read(|mut db| async move { store.loaded(&mut db, ids).await }).await {
                Ok(loaded) => loaded.iter().for_each(|saga| self.traces.tell(spans(saga, end))),
                Err(error) => {
                    dropped(&self.metrics, ids.len());
                    tracing::debug!(%error, "histories cannot be read; their traces are not told");
                }
            }
        }
    }
}
