//! How many sagas are in flight, how many of them are stuck, and what they wait for: counted every few seconds for /metrics and /readyz, and again when
//! somebody asks. However many there are, whoever asks is answered at once: where counting takes long, with what was counted last.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use chassis::clock::SteadyClock;
use chassis::database::{Database, Reader};
use chassis::health::Health;
use chrono::{DateTime, Utc};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::aside::Aside;
use crate::metrics::SagaMetrics;
use crate::plan_registry::Tally;
use crate::saga::Saga;
use crate::store::{Store, Waiting};

/// How often is counted if nobody asks.
const EVERY: Duration = Duration::from_secs(5);

/// How long whoever asks waits for a new count, if there is an older one.
const PATIENCE: Duration = Duration::from_millis(150);

/// Where there are more, of the time one part in so many goes by counting, at most: it reads all that are in flight.
const MANY: i64 = 10_000;
const SHARE: u32 = 10;

/// What was counted.
pub(crate) struct Counted<S: Saga> {
    /// When, as a time of day.
    pub at: DateTime<Utc>,
    pub groups: Vec<Waiting<S>>,
    begun: Instant,
    took: Duration,
}

impl<S: Saga> Counted<S> {
    fn is_of_many(&self) -> bool {
        self.groups.iter().map(|group| group.sagas).sum::<i64>() > MANY
    }
}

/// Counts.
pub(crate) struct Count<S: Saga> {
    /// The connections it may use.
    pub operators: Database,
    pub clock: SteadyClock,
    pub store: Store<S>,
    pub stuck_after: Duration,
    /// Those that could not be decided.
    pub aside: Arc<Aside>,
    pub last: Mutex<Option<Arc<Counted<S>>>>,
    /// One at a time.
    pub counting: tokio::sync::Mutex<()>,
}

impl<S: Saga> Count<S> {
    /// Counts until shutdown.
    pub async fn run(self: Arc<Self>, metrics: Arc<SagaMetrics<S>>, health: Health, shutdown: CancellationToken) {
        while !shutdown.is_cancelled() {
            let counted = self.clone().count().await;
            if let Ok(counted) = &counted {
                let tally = Tally::of(&counted.groups);
                metrics.sagas(&tally);
                health.note("sagas", tally.words(self.aside.count(Instant::now())));
            }
            let rest = counted.map_or(EVERY, |counted| EVERY.max(counted.took * SHARE));
            tokio::select! {
                () = tokio::time::sleep(rest) => {}
                () = shutdown.cancelled() => {}
            }
        }
    }

    /// What there is now or, where counting takes long, a moment ago.
    pub async fn now(self: &Arc<Self>) -> sqlx::Result<Arc<Counted<S>>> {
        // It is counted to the end, also if nobody waits for it.
        let mut counting = tokio::spawn(self.clone().count());
        let counted = match (self.last(), tokio::time::timeout(PATIENCE, &mut counting).await) {
            (_, Ok(counted)) => counted,
            (Some(last), Err(_)) => return Ok(last),
            (None, Err(_)) => counting.await,
        };
        counted.map_err(|panicked| sqlx::Error::Protocol(panicked.to_string()))?
    }

    fn last(&self) -> Option<Arc<Counted<S>>> {
        self.last.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }

    async fn count(self: Arc<Self>) -> sqlx::Result<Arc<Counted<S>>> {
        let asked = Instant::now();
        let _one = self.counting.lock().await;
        if let Some(last) = self.last()
            && (last.begun >= asked || (last.is_of_many() && last.begun.elapsed() < last.took * SHARE))
        {
            return Ok(last);
        }
        let (begun, at) = (Instant::now(), Utc::now());
        let aside: Arc<[Uuid]> = self.aside.ids().into();
        let count = |mut db: Reader| {
            let (count, aside) = (self.clone(), aside.clone());
            async move {
                let steady = count.clock.now(&mut **db).await?;
                count.store.count(&mut db, steady, count.stuck_after, &aside).await
            }
        };
        let groups = self.operators.read(count).await?;
        let counted = Arc::new(Counted { at, groups, begun, took: begun.elapsed() });
        *self.last.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(counted.clone());
        Ok(counted)
    }
}
