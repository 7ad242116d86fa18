//! The life of a service: alive at once, ready when it is, drained before it ends.

use std::future::Future;
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use clap::Args;
use envelope::Topology;
use sqlx::migrate::Migrator;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::SetOnce;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::broker::{Broker, PayloadMax};
use crate::causes::causes;
use crate::consumer::{Binding, Messages, Source};
use crate::database::Database;
use crate::discovery::{self, DiscoverySettings};
use crate::group_commit::GroupCommit;
use crate::handler::Handler;
use crate::health::Health;
use crate::http;
use crate::identity::{Identity, IdentitySettings};
use crate::intake::Intake;
use crate::metrics::Metrics;
use crate::otlp::{TraceSettings, Traces};
use crate::outbox::{Outbox, RebuildMessages};
use crate::settings::{BatchSettings, BrokerSettings, DatabaseSettings, HttpSettings, OutboxSettings, Secret};
use crate::telemetry;
use crate::topology;
use crate::unit_of_work::UnitOfWork;
use crate::writers::Writers;

/// Settings every service with a database has.
#[derive(Args, Clone, Debug)]
pub struct Parts {
    #[allow(missing_docs)]
    #[command(flatten)]
    pub broker: BrokerSettings,
    #[allow(missing_docs)]
    #[command(flatten)]
    pub database: DatabaseSettings,
    #[allow(missing_docs)]
    #[command(flatten)]
    pub outbox: OutboxSettings,
    #[allow(missing_docs)]
    #[command(flatten)]
    pub http: HttpSettings,
    #[allow(missing_docs)]
    #[command(flatten)]
    pub batch: BatchSettings,
    #[allow(missing_docs)]
    #[command(flatten)]
    pub discovery: DiscoverySettings,
    #[allow(missing_docs)]
    #[command(flatten)]
    pub identity: IdentitySettings,
    #[allow(missing_docs)]
    #[command(flatten)]
    pub traces: TraceSettings,
}

/// A service's run. Boxed, so that a service is compiled once, in its own crate, and not again in every program that runs it.
pub type Running = Pin<Box<dyn Future<Output = anyhow::Result<()>> + Send>>;

/// What a service is begun with.
pub struct Start<'a> {
    /// Its name, in metrics, logs and the names of its consumers.
    pub name: &'static str,
    /// Where it answers.
    pub listener: TcpListener,
    /// Its own database.
    pub database_url: &'a Secret,
    /// What brings that up to date.
    pub migrator: &'static Migrator,
    /// The streams and consumers of the whole system; it watches those that it depends on.
    pub topology: &'static Topology,
    /// Its settings.
    pub settings: &'a Parts,
    /// For a service that can make its messages again.
    pub rebuild: Option<Box<dyn RebuildMessages>>,
    /// Cancelled when it is to stop.
    pub shutdown: CancellationToken,
}

/// A service with a database and a broker.
pub struct Service {
    name: &'static str,
    listener: TcpListener,
    settings: Parts,
    identity: Identity,
    database: Database,
    broker: Broker,
    unit: UnitOfWork,
    health: Health,
    metrics: Metrics,
    traces: Option<Traces>,
    /// Set once the schema is up to date. Background tasks wait for this, and requests are told to come again.
    migrated: Arc<SetOnce<()>>,
    /// Cancelled from outside: stop taking work.
    shutdown: CancellationToken,
    /// Cancelled once no request is under way any more.
    stop_writing: CancellationToken,
    /// Cancelled last: nothing more is going to be published.
    stop_relay: CancellationToken,
    tasks: TaskTracker,
    writers: TaskTracker,
    relay: TaskTracker,
}

impl Service {
    /// Takes the address and starts what watches the database and the broker. Needs neither to be there yet.
    ///
    /// # Errors
    /// Where a setting is malformed, or leaves open who may do what.
    pub async fn start(with: Start<'_>) -> anyhow::Result<Self> {
        let Start { name, listener, database_url, migrator, topology, settings, rebuild, shutdown } = with;
        let identity = Identity::new(&settings.identity, listener.local_addr()?)?;
        let application = format!("waybill-{name}");
        let metrics = Metrics::new(name);
        let database = Database::new(database_url, &settings.database, &application)?.measured(&metrics, "reading");
        let broker = Broker::connect(&settings.broker, &application).await?;
        let (traces, teller) = Traces::new(metrics.clone(), &settings.traces)?.unzip();
        let measured = (metrics.clone(), traces.clone());
        let outbox = Outbox::new(measured, database.clone(), broker.clone(), &settings.broker, &settings.outbox, rebuild);
        let health = Health::default();
        for check in ["database", "migrations", "broker"] {
            health.expect(check);
        }
        let writers = Writers::new(database.clone(), &settings.database, metrics.pool_waits("writing"));
        let unit = UnitOfWork::new(writers, outbox.clone(), &settings.batch, metrics.clone());
        let service = Self {
            name,
            listener,
            settings: settings.clone(),
            identity,
            unit,
            database,
            broker,
            health,
            metrics,
            traces,
            migrated: Arc::default(),
            shutdown,
            stop_writing: CancellationToken::new(),
            stop_relay: CancellationToken::new(),
            tasks: TaskTracker::new(),
            writers: TaskTracker::new(),
            relay: TaskTracker::new(),
        };
        service.unit.show_locks(&service.health);
        let (database, health, stop) = (service.database.clone(), service.health.clone(), service.shutdown.clone());
        let migrated = service.migrated.clone();
        service.tasks.spawn(async move {
            if database.migrate(migrator, &health, &stop).await {
                let _ = migrated.set(());
                database.watch(&health, &stop).await;
            }
        });
        let (broker, health, stop) = (service.broker.clone(), service.health.clone(), service.shutdown.clone());
        service.tasks.spawn(async move { broker.watch(&health, &stop).await });
        let (broker, health, stop) = (service.broker.clone(), service.health.clone(), service.shutdown.clone());
        let backlog = service.settings.batch.backlog_noted;
        let metrics = service.metrics.clone();
        service.tasks.spawn(async move { topology::watch(&metrics, topology, &broker, &health, backlog, &stop).await });
        let address = service.settings.discovery.address(service.listener.local_addr()?);
        let (broker, health, stop) = (service.broker.clone(), service.health.clone(), service.shutdown.clone());
        service.tasks.spawn(discovery::announce(name, address, broker, health, stop));
        let (relay, health, stop) = (outbox, service.health.clone(), service.stop_relay.clone());
        service.relay.spawn(service.once_migrated(stop.clone(), async move { relay.relay(&health, &stop).await }));
        if let Some(teller) = teller {
            // Until nothing more is written: what a service does last is told too.
            service.tasks.spawn(teller.run(service.stop_relay.clone()));
        }
        tracing::info!(service = name, address = %service.listener.local_addr()?, "started");
        Ok(service)
    }

    /// The database, for reads.
    pub fn database(&self) -> Database {
        self.database.clone()
    }

    /// Has this follow what the broker takes in one message.
    pub fn follow_payload_max(&self, max: &PayloadMax) {
        max.follow(&self.broker);
    }

    /// The broker, for what is neither a batch nor a message to be handled.
    pub fn broker(&self) -> Broker {
        self.broker.clone()
    }

    /// What `/readyz` answers.
    pub fn health(&self) -> Health {
        self.health.clone()
    }

    /// What it measures.
    pub fn metrics(&self) -> Metrics {
        self.metrics.clone()
    }

    /// Takes traces to be told, where there is a receiver.
    pub fn traces(&self) -> Option<Traces> {
        self.traces.clone()
    }

    /// Runs batches that come neither from a queue nor from the broker: timers, rare writes.
    pub fn unit_of_work(&self) -> UnitOfWork {
        self.unit.clone()
    }

    /// Cancelled when the service should stop taking work.
    pub fn shutdown(&self) -> CancellationToken {
        self.shutdown.clone()
    }

    /// Handles what clients request through the queue that is returned; what arrives together shares a batch.
    pub fn group_commit<H: Handler>(&self, handler: Arc<H>) -> GroupCommit<H> {
        self.intake(Vec::new(), handler)
    }

    /// Handles what durable consumers bring, until shutdown; what arrives together shares a batch.
    pub fn consume<H: Handler>(&self, sources: Vec<Source<H::Item>>, handler: Arc<H>) {
        drop(self.intake(sources, handler));
    }

    /// Handles both: what durable consumers bring and what clients request share the batches of one handler.
    pub fn intake<H: Handler>(&self, sources: Vec<Source<H::Item>>, handler: Arc<H>) -> GroupCommit<H> {
        for source in &sources {
            self.health.expect(source.consumer.stream);
        }
        let (batch, busy) = (&self.settings.batch, self.unit.busy());
        let (queue, requests) = GroupCommit::new(batch, &self.settings.http, busy, self.metrics.clone());
        let binding = Binding {
            broker: self.broker.clone(),
            health: self.health.clone(),
            metrics: self.metrics.clone(),
            migrated: self.migrated.clone(),
        };
        let messages = Messages::bind(H::NAME, sources, &binding, batch, busy);
        let intake = Intake { handler, unit: self.unit.clone(), requests, messages, traces: self.traces.clone() };
        self.writers.spawn(intake.run(self.shutdown.clone(), self.stop_writing.clone()));
        queue
    }

    /// Runs a task from when the schema is up to date until shutdown; it must end soon after.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.writers.spawn(self.once_migrated(self.shutdown.clone(), task));
    }

    /// The task. It starts after the migrations, or at shutdown, so that its cleanup still runs.
    fn once_migrated<F: Future<Output = ()>>(&self, stop: CancellationToken, task: F) -> impl Future<Output = ()> + use<F> {
        let migrated = self.migrated.clone();
        async move {
            tokio::select! {
                _ = migrated.wait() => {}
                () = stop.cancelled() => {}
            }
            task.await;
        }
    }

    /// Serves the API until shutdown, then drains in the order that loses nothing: requests, writers, what is to be published.
    pub async fn run(self, api: http::Api) -> anyhow::Result<()> {
        let (http, shutdown) = (&self.settings.http, self.shutdown.clone());
        let api = api.once(self.migrated).traced(self.traces);
        http::serve(self.listener, self.metrics, api, self.health, http, self.identity, shutdown).await;
        self.stop_writing.cancel();
        self.writers.close();
        self.writers.wait().await;
        self.stop_relay.cancel();
        self.relay.close();
        self.relay.wait().await;
        self.tasks.close();
        self.tasks.wait().await;
        self.unit.release();
        self.database.close().await;
        tracing::info!(service = self.name, "stopped");
        Ok(())
    }
}

/// Threads of a service: half the cores, because the database and the broker want theirs. A batch that stays on one thread costs a tenth less
/// CPU than one handed from thread to thread; on two cores this is one thread, enough for twice what the database can take.
fn threads() -> usize {
    cores().div_ceil(2)
}

/// The cores this process may use.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// A runtime with so many threads, or as many as `TOKIO_WORKER_THREADS` says.
///
/// # Errors
/// Where that is no number of threads (the runtime itself would panic), or the system gives none.
pub fn runtime(threads: usize) -> anyhow::Result<Runtime> {
    const NAME: &str = "TOKIO_WORKER_THREADS";
    let threads = match std::env::var_os(NAME).filter(|value| !value.is_empty()) {
        None => threads,
        Some(given) => {
            let number = given.to_str().and_then(|text| text.parse().ok()).filter(|number| (1..=1024).contains(number));
            number.with_context(|| format!("{NAME} is not a number from 1 to 1024: `{}`", given.display()))?
        }
    };
    Ok(Builder::new_multi_thread().worker_threads(threads).enable_all().build()?)
}

/// The `main` of every service binary: logs, a runtime, and SIGINT or SIGTERM as shutdown.
pub fn main<F: Future<Output = anyhow::Result<()>>>(run: impl FnOnce(CancellationToken) -> F) -> ExitCode {
    let result = telemetry::init("info").and_then(|()| runtime(threads())).and_then(|runtime| {
        runtime.block_on(async {
            let shutdown = CancellationToken::new();
            let stop = shutdown.clone();
            let mut interrupt = signal(SignalKind::interrupt())?;
            let mut terminate = signal(SignalKind::terminate())?;
            tokio::spawn(async move {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                stop.cancel();
            });
            run(shutdown).await
        })
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", causes(&error));
            ExitCode::FAILURE
        }
    }
}
