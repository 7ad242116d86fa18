//! The alarm of every saga: takes what is due by the steady clock and lets it decide.
//!
//! This alone covers lost commands, lost answers, crashed processes and a wiped broker.

use std::sync::Arc;
use std::time::Duration;

use chassis::clock::SteadyClock;
use chassis::database::{Database, Reader};
use chassis::health::Health;
use chassis::{UnitOfWork, metrics};
use events::OrderId;
use tokio_util::sync::CancellationToken;

use crate::advance::{Advance, Trigger};
use crate::store;

/// Orders swept in one transaction: a batch.
const SWEEP_MAX: i64 = 256;

/// Sweeps until shutdown.
pub async fn run(database: Database, unit: UnitOfWork, advance: Arc<Advance>, every: Duration, shutdown: CancellationToken) {
    while !shutdown.is_cancelled() {
        let swept = sweep(&database, &unit, &advance).await.unwrap_or_else(|error| {
            tracing::debug!(error = format!("{error:#}"), "the sweeper cannot look");
            0
        });
        if swept == SWEEP_MAX as usize {
            continue; // There is more.
        }
        tokio::select! {
            () = tokio::time::sleep(every) => {}
            () = shutdown.cancelled() => {}
        }
    }
}

/// Counts the sagas in flight and those that are stuck, for /metrics and /readyz, until shutdown.
pub async fn count(database: Database, clock: SteadyClock, health: Health, stuck_after: Duration, shutdown: CancellationToken) {
    const COUNT_EVERY: Duration = Duration::from_secs(5);
    while !shutdown.is_cancelled() {
        if let Ok((in_flight, stuck)) = counts(&database, &clock, stuck_after).await {
            metrics::sagas(in_flight, stuck);
            health.note("sagas", format!("{in_flight} in flight, {stuck} stuck"));
        }
        tokio::select! {
            () = tokio::time::sleep(COUNT_EVERY) => {}
            () = shutdown.cancelled() => {}
        }
    }
}

async fn counts(database: &Database, clock: &SteadyClock, stuck_after: Duration) -> sqlx::Result<(i64, i64)> {
    let count = |mut db: Reader| async move {
        let now = clock.now(&mut db).await?;
        store::count(&mut db, now, stuck_after).await
    };
    database.read(count).await
}

/// One batch. Two instances may find the same orders; what one decides, the other cannot write, and then sees that nothing is due any more.
async fn sweep(database: &Database, unit: &UnitOfWork, advance: &Advance) -> anyhow::Result<usize> {
    let clock = &advance.clock;
    let look = |mut db: Reader| async move {
        let now = clock.now(&mut db).await?;
        store::due(&mut db, now, SWEEP_MAX).await
    };
    let due = database.read(look).await?;
    if due.is_empty() {
        return Ok(0);
    }
    let items: Vec<(OrderId, Trigger)> = due.iter().map(|id| (OrderId(*id), Trigger::Timer)).collect();
    let turn = unit.turn().await;
    let results = unit
        .run(turn, advance, &items.iter().collect::<Vec<_>>())
        .await
        .map_err(|failure| anyhow::anyhow!("{:#}", failure.error()))?;
    let failed = results.iter().filter(|result| result.is_err()).count();
    if failed > 0 {
        tracing::error!(failed, "orders that are due could not be decided");
    }
    // What failed is found again: without progress, wait for the next look.
    Ok(if failed == 0 { due.len() } else { 0 })
}
