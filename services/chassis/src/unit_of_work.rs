//! The unit of work: a batch, written at once with everything it sends in one outbox row.

mod around_locks;

use std::io;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use backon::{BackoffBuilder as _, ExponentialBuilder};

use crate::causes::causes;
use crate::failure::{Busy, Failure};
use crate::handler::{Committed, Handler, Shape as _};
use crate::health::Health;
use crate::held::Held;
use crate::meaning::Meaning;
use crate::metrics::Metrics;
use crate::outbox::Outbox;
use crate::settings::BatchSettings;
use crate::unsure;
use crate::writers::{WritePermit, Writers};

/// How often a batch is begun again at once because its connection's statements were of another time.
const RENEWALS: u32 = 4;

/// Runs batches.
#[derive(Clone)]
pub struct UnitOfWork {
    writers: Arc<Writers>,
    outbox: Outbox,
    held: Arc<Held>,
    busy: Busy,
    metrics: Metrics,
}

impl UnitOfWork {
    pub(crate) fn new(writers: Writers, outbox: Outbox, settings: &BatchSettings, metrics: Metrics) -> Self {
        let busy = Busy { retry: settings.busy_retry, timeout: settings.busy_timeout };
        Self { writers: Arc::new(writers), outbox, held: Arc::new(Held::new(busy.retry)), busy, metrics }
    }

    /// Has `/readyz` say which rows somebody else holds.
    pub(crate) fn show_locks(&self, health: &Health) {
        health.follow(self.held.clone());
    }

    /// How long what is held up waits.
    pub(crate) fn busy(&self) -> Busy {
        self.busy
    }

    /// Whether what was said waits in the outbox, because the broker is or was away. To say it again would only make more of it.
    pub fn is_behind(&self) -> bool {
        self.outbox.is_behind()
    }

    /// Lets go of the kept connections, so that the database can be closed.
    pub(crate) fn release(&self) {
        self.writers.release();
    }

    /// Waits for the right to write a batch. What arrives meanwhile belongs in it.
    pub async fn permit(&self) -> WritePermit {
        self.writers.permit().await
    }

    /// Writes a batch at once. Where somebody else holds a row, it goes on without the items that need it. If it fails, its items
    /// are tried one by one, so that one that cannot be done stops no other.
    ///
    /// `Err`: the database is in trouble, and nothing was done. Run it in a task of its own: dropped half way it would waste a connection.
    pub async fn run<H: Handler>(
        &self,
        permit: WritePermit,
        handler: &H,
        items: &[&H::Item],
    ) -> Result<Vec<Result<H::Output, Failure>>, Failure> {
        if !self.held.is_empty() {
            return self.around_locks(Some(permit), handler, items, false).await;
        }
        match self.attempt(permit, handler, items).await {
            Ok(outputs) => Ok(outputs.into_iter().map(Ok).collect()),
            Err(failure @ Failure::Outage(_)) => Err(failure),
            Err(Failure::Busy(error)) => {
                tracing::info!(handler = H::NAME, reason = causes(&error), "a batch met a lock; going on around it");
                self.around_locks(None, handler, items, true).await
            }
            Err(failure) if items.len() == 1 => Ok(vec![Err(failure)]),
            Err(failure) => {
                tracing::warn!(error = causes(failure.error()), items = items.len(), "a batch failed; trying its items alone");
                Ok(self.one_by_one(None, handler, items).await)
            }
        }
    }

    /// One item, alone, in a task of its own: a client that disconnects cannot leave a transaction half done.
    pub async fn run_detached<H: Handler>(&self, handler: &Arc<H>, item: H::Item) -> Result<H::Output, Failure> {
        let (unit, handler) = (self.clone(), handler.clone());
        let work = tokio::spawn(async move { unit.run_one(&*handler, &item).await });
        work.await.unwrap_or_else(|error| Err(Failure::Item(anyhow!(error))))
    }

    /// One item, alone. Where somebody else holds a row that it needs, it waits for its time without a permit.
    async fn run_one<H: Handler>(&self, handler: &H, item: &H::Item) -> Result<H::Output, Failure> {
        let mut waits = self.busy.waits();
        loop {
            let mut results = self.run(self.permit().await, handler, &[item]).await?;
            match results.pop().unwrap_or_else(|| Err(Failure::Item(anyhow!("the handler gave no output")))) {
                Err(Failure::Busy(error)) => match waits.next() {
                    Some(wait) => tokio::time::sleep(wait).await,
                    None => return Err(Failure::Busy(error)),
                },
                done => return done,
            }
        }
    }

    async fn attempt<H: Handler>(&self, permit: WritePermit, handler: &H, items: &[&H::Item]) -> Result<Vec<H::Output>, Failure> {
        let begun = Instant::now();
        let mut permit = Some(permit);
        let mut waits =
            ExponentialBuilder::new().with_min_delay(Duration::from_millis(5)).with_max_times(5).with_jitter().build();
        let (mut renewals, mut conflicts) = (0, 0);
        let done = loop {
            let mine = match permit.take() {
                Some(permit) => permit,
                None => self.permit().await,
            };
            let mine = Mutex::new(Some(mine));
            let error = match self.once(&mine, handler, items).await {
                Ok(outputs) => break Ok(outputs),
                Err(error) => error,
            };
            permit = mine.into_inner().expect("the permit is never poisoned");
            match Meaning::of_any(&error) {
                Meaning::StalePlan if renewals < RENEWALS => renewals += 1,
                // At once: what came first is committed, and is seen.
                Meaning::Conflict if conflicts == 0 => conflicts += 1,
                Meaning::Conflict => match waits.next() {
                    Some(wait) => {
                        // Nobody else is to wait for this one's luck.
                        drop(permit.take());
                        tokio::time::sleep(wait).await;
                    }
                    None => break Err(error),
                },
                _ => break Err(error),
            }
        };
        drop(permit);
        self.metrics.batch(H::NAME, items.len(), begun.elapsed(), done.is_ok());
        done.map_err(Failure::of)
    }

    async fn once<H: Handler>(
        &self,
        permit: &Mutex<Option<WritePermit>>,
        handler: &H,
        items: &[&H::Item],
    ) -> anyhow::Result<Vec<H::Output>> {
        let publish = self.outbox.publish_permit().await;
        let mut writer = self.writers.writer().await?;
        let work = H::Shape::write(&mut writer.connection, permit, handler, items);
        let Committed { mut outputs, outgoing } = match tokio::time::timeout(self.writers.patience(), work).await {
            Ok(Ok(done)) => done,
            Ok(Err(error)) => {
                self.writers.failed(writer, &error).await;
                return Err(error);
            }
            Err(_) => {
                // Closed, not released: nobody knows what it is at.
                writer.close();
                let silent = sqlx::Error::Io(io::ErrorKind::TimedOut.into());
                return Err(unsure::of_commit(silent)).context("the database does not answer");
            }
        };
        self.writers.keep(writer);
        self.outbox.committed(publish, outgoing);
        handler.committed(items, &mut outputs);
        Ok(outputs)
    }
}
