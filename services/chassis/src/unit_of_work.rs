//! The unit of work: a batch, in one transaction, with everything it says in one outbox row.

mod around_locks;

use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use backon::{BackoffBuilder as _, ExponentialBuilder};
use sqlx::{Executor, PgConnection};
use uuid::Uuid;

use crate::held::Held;
use crate::meaning::Meaning;
use crate::metrics;
use crate::outbox::Outbox;
use crate::outgoing::Outgoing;
use crate::settings::BatchSettings;
use crate::unsure::{self, Unsure};
use crate::writers::{Turn, Writers};

/// A function from a transaction and a batch to a batch: the answers, one for each item in order, and what to say.
///
/// It may be called again with the same items after a rollback, so it keeps nothing of its own. A refusal is an answer; an error means
/// that nothing was done.
pub trait Handler: Send + Sync + 'static {
    /// A request, an event, a timer.
    type Item: Send + Sync + 'static;
    /// What becomes of one item.
    type Answer: Send + 'static;
    /// What it is called in metrics and logs: `place_orders`.
    const NAME: &'static str;
    /// Whether it writes everything in one statement, begun with [`Outgoing::statement`] or left to the outbox. That is a transaction of
    /// its own, so none is begun around it, which saves two round trips; what the handler reads, it reads in none.
    const ONE_STATEMENT: bool = false;

    /// Does the work, inside the transaction.
    fn handle(
        &self,
        tx: &mut PgConnection,
        batch: &[&Self::Item],
    ) -> impl Future<Output = anyhow::Result<Handled<Self::Answer>>> + Send;

    /// The rows an item needs to itself. While somebody else is known to hold one of them, the item is not tried.
    fn rows(&self, _: &Self::Item) -> Vec<Uuid> {
        Vec::new()
    }

    /// For each item, those of its rows that somebody else holds; an item with none is not held up by a row. Asked after a batch has met a
    /// lock, outside of any transaction; must not wait for one.
    fn held(&self, _: &mut PgConnection, items: &[&Self::Item]) -> impl Future<Output = anyhow::Result<Vec<Vec<Uuid>>>> + Send {
        around_locks::nothing(items.len())
    }

    /// Called after the commit, with the items and their answers: to wake who waits in this process, to keep what is needed again. Must
    /// not block.
    fn committed(&self, _: &[&Self::Item], _: &mut [Self::Answer]) {}
}

/// What a handler made of a batch.
pub struct Handled<A> {
    /// One for each item, in order.
    pub answers: Vec<A>,
    /// What to say, once it is committed.
    pub outgoing: Outgoing,
}

/// Another transaction came first; the same work, begun again, will see what it did.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("another transaction came first")]
pub struct Conflict;

/// Why a batch, or one item of it, was not done.
#[derive(Debug)]
pub enum Failure {
    /// The database is in trouble; the same work may succeed later. Nothing was done, unless the error is [`Unsure`].
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

    /// Waits for the right to run a batch. What arrives meanwhile belongs in it.
    pub async fn turn(&self) -> Turn {
        self.writers.turn().await
    }

    /// Does a batch in one transaction. Where somebody else holds a row, it goes on without the items that need it. If it fails, its items
    /// are tried one by one, so that one that cannot be done stops no other.
    ///
    /// `Err`: the database is in trouble, and nothing was done. Run it in a task of its own: dropped half way it would waste a connection.
    pub async fn run<H: Handler>(
        &self,
        turn: Turn,
        handler: &H,
        items: &[&H::Item],
    ) -> Result<Vec<Result<H::Answer, Failure>>, Failure> {
        if !self.held.is_empty() {
            return self.around_locks(Some(turn), handler, items, false).await;
        }
        match self.attempt(turn, handler, items).await {
            Ok(answers) => Ok(answers.into_iter().map(Ok).collect()),
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
    pub async fn run_detached<H: Handler>(&self, handler: &Arc<H>, item: H::Item) -> Result<H::Answer, Failure> {
        let (unit, handler) = (self.clone(), handler.clone());
        let work = tokio::spawn(async move { unit.run_one(&*handler, &item).await });
        work.await.unwrap_or_else(|error| Err(Failure::Item(anyhow!(error))))
    }

    /// One item, alone. Where somebody else holds a row that it needs, it waits for its time without a turn.
    async fn run_one<H: Handler>(&self, handler: &H, item: &H::Item) -> Result<H::Answer, Failure> {
        let mut waits = self.busy.waits();
        loop {
            let mut results = self.run(self.turn().await, handler, &[item]).await?;
            match results.pop().unwrap_or_else(|| Err(Failure::Item(anyhow!("the handler gave no answer")))) {
                Err(Failure::Busy(error)) => match waits.next() {
                    Some(wait) => tokio::time::sleep(wait).await,
                    None => return Err(Failure::Busy(error)),
                },
                done => return done,
            }
        }
    }

    async fn attempt<H: Handler>(&self, turn: Turn, handler: &H, items: &[&H::Item]) -> Result<Vec<H::Answer>, Failure> {
        let begun = Instant::now();
        let mut turn = Some(turn);
        let mut waits =
            ExponentialBuilder::new().with_min_delay(Duration::from_millis(5)).with_max_times(5).with_jitter().build();
        let (mut renewals, mut conflicts) = (0, 0);
        let done = loop {
            let mine = match turn.take() {
                Some(turn) => turn,
                None => self.turn().await,
            };
            let mine = Mutex::new(Some(mine));
            let error = match self.once(&mine, handler, items).await {
                Ok(answers) => break Ok(answers),
                Err(error) => error,
            };
            turn = mine.into_inner().expect("the turn is never poisoned");
            match Meaning::of_any(&error) {
                Meaning::StalePlan if renewals < RENEWALS => renewals += 1,
                // At once: what came first is committed, and is seen.
                Meaning::Conflict if conflicts == 0 => conflicts += 1,
                Meaning::Conflict => match waits.next() {
                    Some(wait) => {
                        // Nobody else is to wait for this one's luck.
                        drop(turn.take());
                        tokio::time::sleep(wait).await;
                    }
                    None => break Err(error),
                },
                _ => break Err(error),
            }
        };
        drop(turn);
        metrics::batch(H::NAME, items.len(), begun.elapsed(), done.is_ok());
        done.map_err(Failure::of)
    }

    async fn once<H: Handler>(
        &self,
        turn: &Mutex<Option<Turn>>,
        handler: &H,
        items: &[&H::Item],
    ) -> anyhow::Result<Vec<H::Answer>> {
        let room = self.outbox.room().await;
        let mut writer = self.writers.writer().await?;
        let work = tokio::time::timeout(self.writers.patience(), write(&mut writer.connection, turn, handler, items)).await;
        let Handled { mut answers, outgoing } = match work {
            Ok(Ok(handled)) => handled,
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
        self.outbox.committed(room, outgoing);
        handler.committed(items, &mut answers);
        Ok(answers)
    }
}

/// Does a batch in one transaction.
async fn write<H: Handler>(
    connection: &mut PgConnection,
    turn: &Mutex<Option<Turn>>,
    handler: &H,
    items: &[&H::Item],
) -> anyhow::Result<Handled<H::Answer>> {
    if H::ONE_STATEMENT {
        return handle(connection, handler, items).await.map_err(unsure::of_one_statement);
    }
    connection.execute("begin").await?;
    let handled = handle(connection, handler, items).await;
    if handled.is_ok() {
        // The next batch begins while this one waits for the disk.
        drop(turn.lock().expect("the turn is never poisoned").take());
        connection.execute("commit").await.map_err(unsure::of_commit)?;
    } else if let Err(error) = connection.execute("rollback").await {
        // The connection is gone, and the transaction with it; what failed first says why.
        tracing::debug!(%error, "no rollback");
    }
    handled
}

/// Handles a batch, and writes what it says.
async fn handle<H: Handler>(
    connection: &mut PgConnection,
    handler: &H,
    items: &[&H::Item],
) -> anyhow::Result<Handled<H::Answer>> {
    let mut handled = handler.handle(connection, items).await?;
    anyhow::ensure!(handled.answers.len() == items.len(), "{} answers for {} items", handled.answers.len(), items.len());
    if !handled.outgoing.is_written() {
        handled.outgoing.statement(crate::outbox!()).execute(&mut *connection).await?;
    }
    Ok(handled)
}
