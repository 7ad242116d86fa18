//! A clock for spans that outlast any process: how long a saga may wait, and when it is asked for again.
//!
//! Nobody can set it. It is a row of the service's database, which every running instance carries on by the time that it counts itself: about
//! once a second it writes what it has, unless the row is ahead, and goes on from what the row then says. So it never runs faster than real
//! time, never jumps, and outlives all of them. Readings of different instances differ by about a second at most: a deadline that one of
//! them set and another judges may be met that much early. Neither the database's time of day nor anybody else's has a part in it.
//!
//! Time that nobody could use does not count: while no instance runs, while the database is away, or while a process stands still, there is
//! nobody who could have taken an answer, so no deadline comes nearer.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use sqlx::{PgConnection, PgExecutor};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use crate::database::Database;

/// How often an instance carries the clock on.
const TICK_EVERY: Duration = Duration::from_secs(1);

/// How long a tick may take before the next is tried.
const TICK_WITHIN: Duration = Duration::from_secs(5);

/// What counts at most of the time between two ticks. Longer than a busy database keeps one waiting; what is beyond was an outage.
const GAP_MAX: Duration = Duration::from_secs(10);

/// The clock of one database, for all sagas in it. Its readings look like times of day, and began as one, but only the spans between them
/// mean anything.
#[derive(Clone, Debug, Default)]
pub struct SteadyClock(Arc<Mutex<Option<Reading>>>);

/// What the row said, and when this process learned it.
#[derive(Clone, Copy, Debug)]
struct Reading {
    at: DateTime<Utc>,
    taken: Instant,
}

impl Reading {
    fn now(self, moment: Instant) -> DateTime<Utc> {
        let passed = moment.saturating_duration_since(self.taken).min(GAP_MAX);
        (self.at + TimeDelta::from_std(passed).unwrap_or_default()).trunc_subsecs(6)
    }
}

impl SteadyClock {
    /// What the clock says. Costs a query only where no tick has come through for a while.
    pub async fn now(&self, connection: impl PgExecutor<'_>) -> sqlx::Result<DateTime<Utc>> {
        match self.reading().filter(|reading| reading.taken.elapsed() < GAP_MAX) {
            Some(reading) => Ok(reading.now(Instant::now())),
            None => {
                let at = sqlx::query_scalar("select at from saga_clock").fetch_one(connection).await?;
                Ok(self.learn(at, Instant::now()))
            }
        }
    }

    /// Carries the clock on until shutdown.
    pub async fn run(self, database: Database, shutdown: CancellationToken) {
        let mut ticks = interval(TICK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = shutdown.cancelled() => return,
            }
            let (clock, database) = (self.clone(), database.clone());
            // Spawned, because a database future must never be dropped half way.
            let tick = tokio::spawn(async move {
                let clock = &clock;
                database.read(|mut db| async move { clock.tick(&mut db).await }).await
            });
            match timeout(TICK_WITHIN, tick).await {
                Ok(Ok(Ok(_))) => {}
                Ok(Ok(Err(error))) => tracing::debug!(%error, "the clock of the sagas stands still"),
                Ok(Err(_)) => return, // The runtime is going down.
                Err(_) => tracing::debug!("the clock of the sagas stands still: the database does not answer"),
            }
        }
    }

    /// Carries the clock on to what this process has counted, unless somebody has counted more. Does not wait for the disk: what a crash of
    /// the database's machine takes back is less than a second, and whoever is still there has it.
    async fn tick(&self, connection: &mut PgConnection) -> sqlx::Result<DateTime<Utc>> {
        let at = sqlx::query_scalar(
            "update saga_clock set at = greatest(at, $1) from (select set_config('synchronous_commit', 'off', true)) as lazily \
             returning at",
        )
        .bind(self.reading().map(|reading| reading.now(Instant::now())))
        .fetch_one(connection)
        .await?;
        Ok(self.learn(at, Instant::now()))
    }

    /// Goes on from what the row says, or from what this process has counted meanwhile. What the row says was so some time ago, not later.
    fn learn(&self, at: DateTime<Utc>, moment: Instant) -> DateTime<Utc> {
        let mut known = self.0.lock().expect("the clock is never poisoned");
        let at = known.map_or(at, |known| known.now(moment).max(at));
        *known = Some(Reading { at, taken: moment });
        at
    }

    fn reading(&self) -> Option<Reading> {
        *self.0.lock().expect("the clock is never poisoned")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_000_000 + seconds, 0).unwrap()
    }

    #[test]
    fn it_goes_on_between_ticks_and_follows_whoever_is_ahead() {
        let (clock, start) = (SteadyClock::default(), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(clock.learn(at(0), start), at(0));
        assert_eq!(clock.reading().unwrap().now(after(2)), at(2));
        assert_eq!(clock.learn(at(5), after(2)), at(5), "another instance has counted more");
        assert_eq!(clock.learn(at(6), after(4)), at(7), "the row was written before, and this one has counted on");
        assert_eq!(clock.learn(at(-3_600), after(5)), at(8), "a row that was set back takes nobody back");
        assert_eq!(clock.reading().unwrap().now(after(6)), at(9));
    }

    #[test]
    fn time_in_which_no_tick_comes_through_counts_for_a_moment_only() {
        let (clock, start, hour) = (SteadyClock::default(), Instant::now(), Duration::from_secs(3_600));
        clock.learn(at(0), start);
        assert_eq!(clock.reading().unwrap().now(start + hour), at(10));
        assert_eq!(clock.learn(at(0), start + hour), at(10));
        assert_eq!(clock.reading().unwrap().now(start + hour + TICK_EVERY), at(11), "it goes on from where it stood");
    }
}
