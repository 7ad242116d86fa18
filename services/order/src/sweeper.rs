//! The alarm of every saga: takes what is due by the steady clock and lets it decide.
//!
//! This alone covers lost commands, lost answers, crashed processes and a wiped broker.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chassis::clock::SteadyClock;
use chassis::database::{Database, Reader};
use chassis::health::Health;
use chassis::{Failure, UnitOfWork};
use events::OrderId;
use saga::Verdict;
use tokio_util::sync::CancellationToken;

use crate::advance::{Advance, Trigger};
use crate::aside::Aside;
use crate::open::Outcome;
use crate::{metrics, plans, store};

/// Orders swept in one transaction: a batch.
const SWEEP_MAX: usize = 256;

/// Orders found by one look. To find the longest due among the unsettled each look reads all of them (there is no index on what changes at
/// every step), so it brings many batches at once.
const LOOK_MAX: i64 = 4096;

/// Lets what is due decide.
pub struct Sweeper {
    pub database: Database,
    pub unit: UnitOfWork,
    pub advance: Arc<Advance>,
    /// Those that failed, until they are tried again.
    pub aside: Arc<Aside>,
    /// How long to rest when nothing is due.
    pub every: Duration,
}

impl Sweeper {
    /// Sweeps until shutdown.
    pub async fn run(self, shutdown: CancellationToken) {
        // When the outbox was last behind. What was said is still there: to say it again would only make more of it, and once it is out whoever is
        // asked has as long to answer as at first.
        let mut behind: Option<Instant> = None;
        while !shutdown.is_cancelled() {
            if self.unit.is_behind() {
                behind = Some(Instant::now());
            }
            let repeats = behind.is_none_or(|behind| behind.elapsed() >= self.advance.timing.retry_first);
            if let Err(error) = self.round(repeats, &shutdown).await {
                tracing::debug!(error = format!("{error:#}"), "the sweeper cannot look");
            }
            tokio::select! {
                () = tokio::time::sleep(self.every) => {}
                () = shutdown.cancelled() => {}
            }
        }
    }

    /// Everything that is due now, the longest due first; without repetitions only what may be given up. What fails steps aside, and the round
    /// goes on behind it.
    async fn round(&self, repeats: bool, shutdown: &CancellationToken) -> anyhow::Result<()> {
        let known = plans::known();
        let deadlines = (!repeats).then(|| self.advance.timing.deadlines());
        let (mut after, mut failed) = (None, 0);
        loop {
            let (clock, known) = (&self.advance.clock, &known);
            let look = |mut db: Reader| async move {
                let now = clock.now(&mut **db).await?;
                store::due(&mut db, now, known, deadlines, after, LOOK_MAX).await
            };
            let due = self.database.read(look).await?;
            let now = Instant::now();
            let ready: Vec<OrderId> = due.iter().map(|(_, id)| *id).filter(|id| self.aside.may_try(*id, now)).collect();
            for batch in ready.chunks(SWEEP_MAX) {
                if shutdown.is_cancelled() {
                    return Ok(());
                }
                match self.sweep(batch).await {
                    Ok(()) => failed = 0,
                    // It may be this batch's own trouble, a lock or a row that takes too long: those behind have their turn all the same.
                    Err(error) if failed == 0 => {
                        failed += 1;
                        tracing::warn!(
                            error = format!("{error:#}"),
                            orders = batch.len(),
                            "orders that are due could not be swept"
                        );
                    }
                    Err(error) => return Err(error),
                }
            }
            after = due.last().copied();
            if due.len() < LOOK_MAX as usize {
                return Ok(());
            }
        }
    }

    /// One batch. Two instances may find the same orders; what one decides, the other cannot write, and then sees that nothing is due any
    /// more.
    async fn sweep(&self, orders: &[OrderId]) -> anyhow::Result<()> {
        let items: Vec<(OrderId, Trigger)> = orders.iter().map(|id| (*id, Trigger::Timer)).collect();
        let permit = self.unit.permit().await;
        let items: Vec<&(OrderId, Trigger)> = items.iter().collect();
        let results = self.unit.run(permit, &*self.advance, &items).await;
        let results = results.map_err(|failure| anyhow::anyhow!("{:#}", failure.error()))?;
        for (id, result) in orders.iter().zip(results) {
            let failure = match result {
                Ok(Some(moved)) => match moved.outcome {
                    Outcome::Decided(Verdict::Moved) | Outcome::Nothing | Outcome::KeyUsed(_) => None,
                    Outcome::Decided(Verdict::Ignored(why)) => Some(why.name().to_owned()),
                    Outcome::HistoryFull => Some("its history is full".to_owned()),
                    Outcome::Unreadable(why) => Some(why),
                },
                Ok(None) => None,
                Err(Failure::Item(error) | Failure::Conflict(error)) => Some(format!("{error:#}")),
                // The database is in trouble, or the order is locked: it is found again, and nothing is wrong with it.
                Err(Failure::Outage(_) | Failure::Busy(_)) => continue,
            };
            match failure {
                None => self.aside.clear(*id),
                Some(why) => {
                    let wait = self.aside.put(*id, self.every, Instant::now());
                    tracing::error!(order = %id, why, again_in = ?wait, "an order that is due could not be decided; it steps aside");
                }
            }
        }
        metrics::set_aside(self.aside.count(Instant::now()));
        Ok(())
    }
}

/// Counts the sagas in flight and those that are stuck, for /metrics and /readyz.
pub struct Count {
    /// The connections it may use.
    pub operators: Database,
    pub clock: SteadyClock,
    pub aside: Arc<Aside>,
    pub stuck_after: Duration,
}

impl Count {
    /// Counts until shutdown.
    pub async fn run(self, health: Health, shutdown: CancellationToken) {
        const COUNT_EVERY: Duration = Duration::from_secs(5);
        while !shutdown.is_cancelled() {
            if let Ok(tally) = self.tally().await {
                metrics::sagas(tally.in_flight, tally.stuck, tally.unknown_plan(), tally.unreadable);
                health.note("sagas", tally.words(self.aside.count(Instant::now())));
            }
            tokio::select! {
                () = tokio::time::sleep(COUNT_EVERY) => {}
                () = shutdown.cancelled() => {}
            }
        }
    }

    async fn tally(&self) -> sqlx::Result<plans::Tally> {
        let count = |mut db: Reader| async move {
            let now = self.clock.now(&mut **db).await?;
            store::count(&mut db, now, self.stuck_after).await
        };
        Ok(plans::Tally::of(self.operators.read(count).await?))
    }
}
