//! The alarm of every saga: takes what is due by the steady clock and lets it decide.
//!
//! This alone covers lost commands, lost answers, crashed processes and a wiped broker.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chassis::causes;
use chassis::database::{Database, Reader};
use chassis::{Failure, UnitOfWork};
use saga::{RetryPolicy, Timing};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::aside::Aside;
use crate::coordinator::Coordinator;
use crate::item::{Item, Moved, Trigger};
use crate::saga::Saga;
use crate::steps::known_plans;

/// Sagas swept in one transaction: a batch.
const SWEEP_MAX: usize = 256;

/// Sagas found by one look. To find the longest due among the unsettled each look reads all of them (there is no index on what changes at
/// every step), so it brings many batches at once.
const LOOK_MAX: i64 = 4096;

/// Lets what is due decide.
pub(crate) struct Sweeper<S: Saga> {
    pub database: Database,
    pub unit: UnitOfWork,
    pub coordinator: Arc<Coordinator<S>>,
    /// Those that failed, until they are tried again.
    pub aside: Arc<Aside>,
    /// How long to rest when nothing is due.
    pub every: Duration,
}

impl<S: Saga> Sweeper<S> {
    /// Sweeps until shutdown.
    pub async fn run(self, shutdown: CancellationToken) {
        // When the outbox was last behind. What was sent is still there: to send it again would only make more of it, and once it is out whoever is
        // asked has as long to answer as at first.
        let mut behind: Option<Instant> = None;
        while !shutdown.is_cancelled() {
            if self.unit.is_behind() {
                behind = Some(Instant::now());
            }
            let first = policies(&self.coordinator.timing).map(|policy| policy.first_retry).max().unwrap_or_default();
            let repeats = behind.is_none_or(|behind| behind.elapsed() >= first);
            if let Err(error) = self.round(repeats, &shutdown).await {
                tracing::debug!(error = causes(&error), "the sweeper cannot look");
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
        let timing = &self.coordinator.timing;
        let step = policies(timing).map(|policy| policy.deadline).min().unwrap_or_default();
        let deadlines = (!repeats).then_some((step, timing.deadline));
        let known = known_plans::<S>();
        let (mut after, mut failed) = (None, 0);
        loop {
            let Coordinator { clock, store, .. } = &*self.coordinator;
            let known = &known;
            let look = |mut db: Reader| async move {
                let now = clock.now(&mut **db).await?;
                store.due(&mut db, now, known, deadlines, after, LOOK_MAX).await
            };
            let due = self.database.read(look).await?;
            let now = Instant::now();
            let ready: Vec<Uuid> = due.iter().map(|(_, id)| *id).filter(|id| self.aside.may_try(*id, now)).collect();
            for batch in ready.chunks(SWEEP_MAX) {
                if shutdown.is_cancelled() {
                    return Ok(());
                }
                match self.sweep(batch).await {
                    Ok(()) => failed = 0,
                    // It may be this batch's own trouble, a lock or a row that takes too long: those behind have their turn all the same.
                    Err(error) if failed == 0 => {
                        failed += 1;
                        tracing::warn!(error = causes(&error), sagas = batch.len(), "sagas that are due could not be swept");
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

    /// One batch. Two instances may find the same sagas; what one decides, the other cannot write, and then sees that nothing is due any
    /// more.
    async fn sweep(&self, sagas: &[Uuid]) -> anyhow::Result<()> {
        let items: Vec<Item<S>> = sagas.iter().map(|id| Item::Input(*id, Trigger::Timer)).collect();
        let permit = self.unit.permit().await;
        let items: Vec<&Item<S>> = items.iter().collect();
        let results = self.unit.run(permit, &*self.coordinator, &items).await;
        let results = results.map_err(|failure| anyhow::anyhow!(causes(failure.error())))?;
        for (id, result) in sagas.iter().zip(results) {
            let failure = match result {
                Ok(output) => output.into_moved().and_then(Moved::trouble),
                Err(Failure::Item(error) | Failure::Conflict(error)) => Some(causes(&error)),
                // The database is in trouble, or the saga is locked: it is found again, and nothing is wrong with it.
                Err(Failure::Outage(_) | Failure::Busy(_)) => continue,
            };
            match failure {
                None => self.aside.clear(*id),
                Some(why) => {
                    let wait = self.aside.put(*id, &why, self.every, Instant::now());
                    tracing::error!(saga = S::NAME, %id, why, again_in = ?wait, "a saga that is due could not be decided; it steps aside");
                }
            }
        }
        self.coordinator.metrics.set_aside(self.aside.count(Instant::now()));
        Ok(())
    }
}

/// The retry policies of the steps that sagas may be at.
fn policies<S: Saga>(timing: &Timing<S>) -> impl Iterator<Item = RetryPolicy> {
    let steps = S::VERSIONS.iter().flat_map(|(version, stages)| stages.iter().flatten().map(|spec| (*version, spec.step)));
    steps.filter_map(|(version, step)| timing.policy(version, step))
}
