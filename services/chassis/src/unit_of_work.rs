//! The unit of work: a batch, written at once with everything it sends in one outbox row.

mod around_locks;
mod shape;

use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use backon::{BackoffBuilder as _, ExponentialBuilder};
use sqlx::PgConnection;
use uuid::Uuid;

use self::shape::Committed;
pub use self::shape::{InTransaction, OneStatement, Shape};
use crate::held::Held;
use crate::meaning::Meaning;
use crate::metrics;
use crate::outbox::Outbox;
use crate::settings::BatchSettings;
use crate::statement::Statement;
use crate::unsure::{self, Unsure};
use crate::writers::{WritePermit, Writers};

/// A function from a connection and a batch to outputs, one for each item in order, and the statement that writes the batch and what it sends.
///
/// It may be called again with the same items after a rollback, so it keeps nothing of its own. A refusal is an output; an error means
/// that nothing was done.
pub trait Handler: Send + Sync + 'static {
    /// A request, an event, a timer.
    type Item: Send + Sync + 'static;
    /// What becomes of one item.
    type Output: Send + 'static;
    /// What it works on: [`InTransaction`] or as [`OneStatement`].
    type Shape: Shape;
    /// What it is called in metrics and logs: `place_orders`.
    const NAME: &'static str;

    /// Does the work, and leaves the last statement of it to the unit of work.
    fn handle(
        &self,
        db: &mut <Self::Shape as Shape>::Connection,
        batch: &[&Self::Item],
    ) -> impl Future<Output = anyhow::Result<Handled<Self::Output>>> + Send;

    /// The rows an item needs to itself. While somebody else is known to hold one of them, the item is not tried.
    fn rows(&self, _: &Self::Item) -> Vec<Uuid> {
        Vec::new()
    }

    /// For each item, those of its rows that somebody else holds; an item with none is not held up by a row. Asked after a batch has met a
    /// lock, outside of any transaction; must not wait for one.
    fn held(&self, _: &mut PgConnection, items: &[&Self::Item]) -> impl Future<Output = anyhow::Result<Vec<Vec<Uuid>>>> + Send {
        around_locks::nothing(items.len())
    }

    /// Called after the commit, with the items and their outputs: to wake who waits in this process, to keep what is needed again. Must
    /// not block.
    fn committed(&self, _: &[&Self::Item], _: &mut [Self::Output]) {}
}

/// What a handler made of a batch.
pub struct Handled<O> {
    /// One for each item, in order.
    pub outputs: Vec<O>,
    /// What is still to be written, and what is to be sent once it is committed.
    pub statement: Statement,
}

impl<O> Handled<O> {
    /// These outputs, and what is to be written: a [`Statement`], or just [`Outgoing`](crate::Outgoing).
    pub fn new(outputs: Vec<O>, statement: impl Into<Statement>) -> Self {
        Self { outputs, statement: statement.into() }
    }
}

/// Why a batch, or one item of it, was not done.
#[derive(Debug)]
pub enum Failure {
    /// The database is in trouble; the same work may succeed later. Nothing was done, unless the error is `Unsure`.
    Outage(anyhow::Error),
    /// Somebody else holds a row that this item needs: it may be done later, and nothing else waits for it.
    Busy(anyhow::Error),
    /// At every try another transaction had come first. Nothing was done, and the database is well.
    Conflict(anyhow::Error),
    /// This item fails on its own; trying again would not help.
    Item(anyhow::Error),
}

/// How often a batch is begun again at once because its connection's statements were of another time.
const RENEWALS: u32 = 4;

impl Failure {
    /// By what the error means.
    pub(crate) fn of(error: anyhow::Error) -> Self {
        match Meaning::of_any(&error) {
            Meaning::Own => Self::Item(error),
            Meaning::Busy => Self::Busy(error),
            Meaning::Conflict => Self::Conflict(error),
            // Tried again as often as makes sense, and none of it this item's fault.
            Meaning::StalePlan | Meaning::Outage => Self::Outage(error),
        }
    }

    /// The same of another item of the batch.
    pub(crate) fn copy(&self) -> Self {
        let error = anyhow!("{:#}", self.error());
        Self::Outage(if self.error().is::<Unsure>() { error.context(Unsure) } else { error })
    }

    /// The error behind it.
    pub fn error(&self) -> &anyhow::Error {
        let (Self::Outage(error) | Self::Busy(error) | Self::Conflict(error) | Self::Item(error)) = self;
        error
    }
}

/// How long what needs a row that somebody else holds waits for it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Busy {
    retry: Duration,
    timeout: Duration,
}

impl Busy {
    /// The wait after so many tries: each twice as long as the one before, up to ten times the first.
    pub(crate) fn wait(self, tries: u32) -> Duration {
        self.retry.saturating_mul(1 << tries.min(4)).min(self.retry.saturating_mul(10))
    }

    /// The waits of a request, until its time is up.
    pub(crate) fn waits(self) -> impl Iterator<Item = Duration> {
        let deadline = Instant::now() + self.timeout;
        (0..).map(move |tries| self.wait(tries)).take_while(move |wait| Instant::now() + *wait <= deadline)
    }
}

/// Runs batches.
#[derive(Clone)]
pub struct UnitOfWork {
    writers: Arc<Writers>,
    outbox: Outbox,
    held: Arc<Held>,
    busy: Busy,
}

impl UnitOfWork {
    pub(crate) fn new(writers: Writers, outbox: Outbox, settings: &BatchSettings) -> Self {
        let busy = Busy { retry: settings.busy_retry, timeout: settings.busy_timeout };
        Self { writers: Arc::new(writers), outbox, held: Arc::new(Held::new(busy.retry)), busy }
    }

    /// How long what is held up waits.
    pub(crate) fn busy(&self) -> Busy {
        self.busy
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
                tracing::info!(handler = H::NAME, reason = format!("{error:#}"), "a batch met a lock; going on around it");
                self.around_locks(None, handler, items, true).await
            }
            Err(failure) if items.len() == 1 => Ok(vec![Err(failure)]),
            Err(failure) => {
                tracing::warn!(
                    error = format!("{:#}", failure.error()),
                    items = items.len(),
                    "a batch failed; trying its items alone"
                );
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
        metrics::batch(H::NAME, items.len(), begun.elapsed(), done.is_ok());
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
                self.writers.failed(writer, Meaning::of_any(&error)).await;
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
