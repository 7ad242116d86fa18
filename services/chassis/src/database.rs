//! The database of a service: pools that heal, and migrations.

use std::sync::{Arc, Mutex, RwLock, RwLockReadGuard};
use std::time::{Duration, Instant};

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use metrics::Histogram;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{Connection as _, PgExecutor, Postgres};
use tokio::sync::OwnedMutexGuard;
use tokio_util::sync::CancellationToken;

pub use crate::address::options;
use crate::health::Health;
use crate::meaning::Meaning;
use crate::metrics::Metrics;
use crate::settings::{DatabaseSettings, Secret};

/// How often the pool is pinged, and how long a ping may take: a dead link shows within 15 s.
const PING_EVERY: Duration = Duration::from_secs(5);
const PING_TIMEOUT: Duration = Duration::from_secs(5);

/// The note that writing fails, and for how long after the last failure.
const WRITES: &str = "writes";
const REFUSED_FOR: Duration = Duration::from_secs(15);

/// What `/readyz` says of a database that answers and takes nothing.
const READ_ONLY: &str = "is read-only";

/// How long a request waits for a free connection before it is answered 503.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

/// How often a read is done again at once: once after a migration, and once for each that comes while it is at it.
const READ_AGAIN: u32 = 4;

/// For how long a reading of the database's clock is carried on by the process's own, which only counts.
const CLOCK_EVERY: Duration = Duration::from_secs(10);

/// A connection lent to a read; given back when it is dropped.
pub type Reader = OwnedMutexGuard<PoolConnection<Postgres>>;

/// A handle on the database. Connects when it is first used, so a service can start before its database does.
#[derive(Clone)]
pub struct Database {
    shared: Arc<Shared>,
    /// How long reads waited for a connection.
    waits: Histogram,
}

struct Shared {
    pools: RwLock<Pools>,
    options: PgConnectOptions,
    settings: DatabaseSettings,
    clock: Mutex<Option<(DateTime<Utc>, Instant)>>,
    refused: Mutex<Option<(Instant, String)>>,
}

/// Reads and batches are planned differently, and a flood of reads takes no connection from the batches.
struct Pools {
    reading: PgPool,
    writing: PgPool,
}

impl Database {
    /// Reads the address; connects later.
    pub fn new(url: &Secret, settings: &DatabaseSettings, application: &str) -> anyhow::Result<Self> {
        let options = options(url.expose())?;
        let statement_timeout = settings.statement_timeout.as_millis().to_string();
        let options = options.application_name(application).options([
            // The server ends what takes too long; a client that gives up would leave a transaction open behind it.
            ("statement_timeout", statement_timeout.as_str()),
            ("lock_timeout", "5000"),
            ("idle_in_transaction_session_timeout", "15000"),
            ("jit", "off"),
        ]);
        let pools = RwLock::new(Pools::new(&options, settings));
        let shared = Shared { pools, options, settings: settings.clone(), clock: Mutex::default(), refused: Mutex::default() };
        Ok(Self { shared: Arc::new(shared), waits: Histogram::noop() })
    }

    /// Measures how long reads wait for a connection. `pool`: what their connections are called.
    pub fn measured(self, metrics: &Metrics, pool: &'static str) -> Self {
        Self { waits: metrics.pool_waits(pool), ..self }
    }

    /// Does work that may be done twice: reads, above all. What the database says of it is heeded: statements that a migration made stale
    /// are prepared anew and the work is done again, as it is after a lost race; a connection to a database in trouble is closed, so that
    /// the next one finds whoever is in charge by then.
    pub async fn read<T, F>(&self, mut work: impl FnMut(Reader) -> F) -> sqlx::Result<T>
    where
        F: Future<Output = sqlx::Result<T>>,
    {
        // Lent whole, not by reference: a closure that borrows its argument makes futures that cannot be shown to be `Send`.
        let lent = Arc::new(tokio::sync::Mutex::new(self.acquire().await?));
        let mut again = READ_AGAIN;
        loop {
            let error = match work(lent.clone().lock_owned().await).await {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            let mut connection = lent.lock().await;
            match Meaning::of(&error) {
                Meaning::StalePlan if again > 0 => connection.clear_cached_statements().await?,
                Meaning::Conflict if again > 0 => {}
                Meaning::Outage => {
                    connection.close_on_drop();
                    return Err(error);
                }
                _ => return Err(error),
            }
            again -= 1;
        }
    }

    /// A connection for a read. Measured also where there was none in time.
    async fn acquire(&self) -> sqlx::Result<PoolConnection<Postgres>> {
        let begun = Instant::now();
        let acquired = self.pool().acquire().await;
        self.waits.record(begun.elapsed().as_secs_f64());
        acquired
    }

    /// The connections for reads, and for writes that are no batch.
    pub(crate) fn pool(&self) -> PgPool {
        self.pools().reading.clone()
    }

    /// The connections batches are written on.
    pub(crate) fn writing_pool(&self) -> PgPool {
        self.pools().writing.clone()
    }

    /// For a connection on which statements may take what they take.
    pub(crate) fn patient_options(&self) -> PgConnectOptions {
        self.shared.options.clone().options([("statement_timeout", "0"), ("lock_timeout", "0")])
    }

    /// How long a statement may run.
    pub(crate) fn statement_timeout(&self) -> Duration {
        self.shared.settings.statement_timeout
    }

    fn pools(&self) -> RwLockReadGuard<'_, Pools> {
        self.shared.pools.read().expect("the lock is never poisoned")
    }

    /// Waits for every connection to come back, and closes it.
    pub(crate) async fn close(&self) {
        let (reading, writing) = (self.pool(), self.writing_pool());
        tokio::join!(reading.close(), writing.close());
    }

    /// The time by the database's clock, in whole microseconds: the one clock that all instances share. Read on this connection every
    /// few seconds, and carried on from there by a clock that nobody can set.
    pub async fn now(&self, connection: impl PgExecutor<'_>) -> sqlx::Result<DateTime<Utc>> {
        let known = *self.shared.clock.lock().expect("the clock is never poisoned");
        let (then, since) = match known.filter(|(_, since)| since.elapsed() < CLOCK_EVERY) {
            Some(known) => known,
            None => {
                let now: DateTime<Utc> = sqlx::query_scalar("select clock_timestamp()").fetch_one(connection).await?;
                let reading = (now, Instant::now());
                *self.shared.clock.lock().expect("the clock is never poisoned") = Some(reading);
                reading
            }
        };
        let passed = TimeDelta::from_std(since.elapsed()).unwrap_or_default();
        Ok((then + passed).trunc_subsecs(6))
    }

    /// Brings the schema up to date, trying again until the database is there. `false`: told to stop before it was.
    pub async fn migrate(&self, migrator: &Migrator, health: &Health, shutdown: &CancellationToken) -> bool {
        let mut wait = Duration::from_millis(100);
        // A schema may be ahead of this build: the next one is being rolled out, or was rolled back.
        let mut migrator = Migrator::with_migrations(migrator.iter().cloned().collect());
        migrator.set_ignore_missing(true);
        loop {
            match self.run_migrations(&migrator).await {
                Ok(()) => {
                    health.set("migrations", Ok(()));
                    return true;
                }
                Err(error) => {
                    health.set("migrations", Err(error.to_string()));
                    tracing::warn!(%error, "the schema is not up to date yet; trying again");
                }
            }
            tokio::select! {
                () = tokio::time::sleep(wait) => wait = (wait * 2).min(Duration::from_secs(2)),
                () = shutdown.cancelled() => return false,
            }
        }
    }

    /// On a connection of its own, on which a statement takes what it takes: on a large table that is longer than any of a request may.
    async fn run_migrations(&self, migrator: &Migrator) -> Result<(), MigrateError> {
        let options = self.shared.options.clone().options([("statement_timeout", "0")]);
        let pool = PgPoolOptions::new().max_connections(1).acquire_timeout(ACQUIRE_TIMEOUT).connect_lazy_with(options);
        let done = migrator.run(&pool).await;
        pool.close().await;
        done
    }

    /// A batch failed because the database is in trouble: its disk is full, say. Reads may go on.
    pub(crate) fn refused(&self, why: String) {
        *self.shared.refused.lock().expect("the lock is never poisoned") = Some((Instant::now(), why));
    }

    /// Notes that writing fails, for as long as it does.
    fn note_refused(&self, health: &Health) {
        let refused = self.shared.refused.lock().expect("the lock is never poisoned").clone();
        match refused.filter(|(at, _)| at.elapsed() < REFUSED_FOR) {
            Some((_, why)) => health.note(WRITES, format!("what is written fails: {why}")),
            None => health.unnote(WRITES),
        }
    }

    /// Pings until shutdown. A pool that hangs is replaced: its connections' permits are lost for good (launchbadge/sqlx#4349).
    pub async fn watch(&self, health: &Health, shutdown: &CancellationToken) {
        let mut hung = false;
        while !shutdown.is_cancelled() {
            let pool = self.pool();
            // Spawned, because a database future must never be dropped half way: it would go back to the pool in an unknown state.
            let ping = tokio::spawn(async move { ping(&pool).await });
            match tokio::time::timeout(PING_TIMEOUT, ping).await {
                Ok(Ok(result)) => {
                    hung = matches!(result, Err(sqlx::Error::PoolTimedOut));
                    let writable = result.map_err(|error| if hung { "does not answer".to_owned() } else { error.to_string() });
                    health.set("database", writable.and_then(|yes| yes.then_some(()).ok_or_else(|| READ_ONLY.to_owned())));
                }
                Ok(Err(_)) => return, // The runtime is going down.
                Err(_) => {
                    health.set("database", Err("does not answer".to_owned()));
                    if hung {
                        tracing::warn!("the database pool hangs; replacing it");
                        *self.shared.pools.write().expect("the lock is never poisoned") =
                            Pools::new(&self.shared.options, &self.shared.settings);
                    }
                    hung = true;
                }
            }
            self.note_refused(health);
            let wait = if health.readiness().checks.get("database").is_some_and(|state| state == "ok") {
                PING_EVERY
            } else {
                Duration::from_millis(250)
            };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = shutdown.cancelled() => return,
            }
        }
    }
}

impl Pools {
    fn new(options: &PgConnectOptions, settings: &DatabaseSettings) -> Self {
        // What a read does not ask for folds away when it is planned with its values.
        let reading = options.clone().options([("plan_cache_mode", "force_custom_plan")]);
        // The statements of a batch all find rows by their keys: planned once, without a look at the values. Left to choose, Postgres would
        // scan the whole of a table that was small when the plan was made (240 instead of 79 us an order), or plan each batch anew.
        let lock_timeout = settings.lock_timeout.as_millis().max(1).to_string();
        let writing = options.clone().options([
            // A row that somebody holds for longer is gone around.
            ("lock_timeout", lock_timeout.as_str()),
            ("plan_cache_mode", "force_generic_plan"),
            ("enable_seqscan", "off"),
            ("enable_hashjoin", "off"),
            ("enable_mergejoin", "off"),
        ]);
        Self { reading: pool(reading, settings.database_connections), writing: pool(writing, settings.writing_connections()) }
    }
}

fn pool(options: PgConnectOptions, connections: u32) -> PgPool {
    PgPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .idle_timeout(Duration::from_secs(600))
        // A future dropped between BEGIN and COMMIT hands its connection back inside the open transaction, and what the next one
        // writes would be lost with it (launchbadge/sqlx#4385). The rollback closes that door; the begin before it spares the server's
        // log a warning each time there is nothing to roll back. A transaction that has failed refuses it, and its connection is closed.
        .after_release(|connection, _| {
            Box::pin(async move {
                sqlx::Executor::execute(connection, "begin; rollback").await?;
                Ok(true)
            })
        })
        .connect_lazy_with(options)
}

/// Whether a database that answers also takes what is written. A connection to one that does not is closed: after a failover another server
/// is the one to talk to, and a session that began read-only stays so.
async fn ping(pool: &PgPool) -> sqlx::Result<bool> {
    let mut connection = pool.acquire().await?;
    let read_only: String = sqlx::query_scalar("show transaction_read_only").fetch_one(&mut *connection).await?;
    let writable = read_only == "off";
    if !writable {
        drop(connection.detach());
    }
    Ok(writable)
}
