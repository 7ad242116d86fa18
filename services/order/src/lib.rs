//! The order service: takes orders and carries each through its saga.
//!
//! [`saga`] is the order saga; the rest are its surroundings. `edge` takes requests, `place` writes new orders, `advance` applies
//! what comes to orders under way (`open` decides one of them), `tell` says what came of it, `sweeper` takes what is due, `store` has the
//! statements.

mod advance;
mod aside;
mod complete;
mod edge;
mod export;
mod live;
mod metrics;
mod open;
mod place;
mod plans;
mod recent;
pub mod saga;
mod sagas;
mod store;
mod sweeper;
mod tell;
mod timer;
mod view;
mod waiting;

use std::sync::Arc;
use std::time::Duration;

use ::saga::RetryOverride;
use anyhow::ensure;
use chassis::broker::PayloadMax;
use chassis::clock::SteadyClock;
use chassis::database::Database;
use chassis::keys::{self, KeySettings};
use chassis::settings::{DatabaseSettings, Secret, database_url, hidden, seconds};
use chassis::{Parts, RebuildMessages, Running, Service, Source, Start, http};
use chrono::TimeDelta;
use clap::{Args, Parser};
use events::OrderId;
use events::streams::TOPOLOGY;
use saga_runtime::Saga as _;
use saga_runtime::steps::reply_readers;
use serde_json::value::RawValue;
use sqlx::migrate::Migrator;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::advance::{Advance, Trigger};
use crate::aside::Aside;
pub use crate::complete::Completeness;
use crate::place::Place;
use crate::recent::Recent;
use crate::sweeper::Sweeper;
use crate::waiting::Waiting;

static MIGRATIONS: Migrator = sqlx::migrate!("../../migrations/order");

/// The settings of the order service.
#[derive(Parser, Clone, Debug)]
#[command(name = "waybill-order", version, about = "Waybill's order service: takes orders and carries each through its saga")]
pub struct Settings {
    /// Where to listen.
    #[arg(long, env = "WAYBILL_ORDER_LISTEN", default_value = "127.0.0.1:8083")]
    pub listen: String,

    /// This service's own database.
    #[arg(
        long,
        env = "ORDER_DATABASE_URL",
        default_value = "postgres://waybill@127.0.0.1:5432/waybill_order",
        hide_env_values = true,
        value_name = "URL",
        value_parser = hidden(database_url)
    )]
    pub database_url: Secret,

    #[allow(missing_docs)]
    #[command(flatten)]
    pub timing: Timing,

    #[allow(missing_docs)]
    #[command(flatten)]
    pub limit: HistoryLimit,

    #[allow(missing_docs)]
    #[command(flatten)]
    pub operators: OperatorSettings,

    #[allow(missing_docs)]
    #[command(flatten)]
    pub events: Completeness,

    #[allow(missing_docs)]
    #[command(flatten)]
    pub keys: KeySettings,

    #[allow(missing_docs)]
    #[command(flatten)]
    pub parts: Parts,
}

/// How long a history may grow. An ordinary one has three to twenty entries.
#[derive(Args, Clone, Copy, Debug)]
pub struct HistoryLimit {
    /// Entries of an order's history from which on repetitions are no longer recorded (they are sent all the same) and an operator's
    /// `retry` is refused. What moves an order towards its end is recorded whatever its history's length. A history is read whole for
    /// the order's last event and for its replay: the limit keeps that affordable.
    #[arg(long, env = "WAYBILL_HISTORY_MAX_ENTRIES", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(16..))]
    pub history_max_entries: u32,

    /// The same in bytes. A nats-server takes messages of 1 MiB at its own defaults, and an order's last event carries its history.
    #[arg(long, env = "WAYBILL_HISTORY_MAX_BYTES", default_value_t = 768 * 1024, value_parser = clap::value_parser!(u64).range(65_536..=1 << 30))]
    pub history_max_bytes: u64,
}

impl HistoryLimit {
    pub(crate) fn is_reached(&self, row: &view::Row) -> bool {
        row.sequence >= self.history_max_entries || row.history_bytes >= self.history_max_bytes
    }
}

/// What operators may take of the database.
#[derive(Args, Clone, Debug)]
pub struct OperatorSettings {
    /// Connections for what operators ask: sagas, exports, the counts in /readyz. They have their own, so that no question of theirs
    /// takes one from customers; who finds none free is answered 503.
    #[arg(long, env = "WAYBILL_OPERATOR_CONNECTIONS", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub operator_connections: u32,

    /// Seconds a statement of an operator may run before the database ends it.
    #[arg(long, env = "WAYBILL_OPERATOR_TIMEOUT", default_value = "10", value_parser = seconds)]
    pub operator_timeout: Duration,
}

impl OperatorSettings {
    /// The service's database, by connections of their own.
    fn database(&self, url: &Secret, parts: &Parts) -> anyhow::Result<Database> {
        let settings = DatabaseSettings {
            database_connections: self.operator_connections,
            statement_timeout: self.operator_timeout,
            ..parts.database.clone()
        };
        Database::new(url, &settings, "waybill-order-operators")
    }
}

/// How patient a saga is.
#[derive(Args, Clone, Copy, Debug)]
pub struct Timing {
    /// Seconds before an unanswered command is sent again; each further wait is twice as long. Shorter heals a lost message sooner;
    /// too short adds to the load of a service that is merely busy.
    #[arg(long, env = "WAYBILL_RETRY_FIRST", default_value = "5", value_parser = seconds)]
    pub retry_first: Duration,

    /// The longest wait, in seconds, between two sendings of one command.
    #[arg(long, env = "WAYBILL_RETRY_MAX", default_value = "60", value_parser = seconds)]
    pub retry_max: Duration,

    /// Seconds a step may go unanswered before the order is given up and undone. Longer than a deployment of the service that answers.
    #[arg(long, env = "WAYBILL_STEP_DEADLINE", default_value = "300", value_parser = seconds)]
    pub step_deadline: Duration,

    /// Seconds an order may take in all before it is given up and undone.
    #[arg(long, env = "WAYBILL_ORDER_DEADLINE", default_value = "900", value_parser = seconds)]
    pub order_deadline: Duration,

    /// Seconds a saga may wait for one answer before it counts as stuck: listed, counted in /metrics and noted in /readyz.
    #[arg(long, env = "WAYBILL_STUCK_AFTER", default_value = "30", value_parser = seconds)]
    pub stuck_after: Duration,

    /// Seconds between two looks for orders that are due.
    #[arg(long, env = "WAYBILL_SWEEP_EVERY", default_value = "1", value_parser = seconds)]
    pub sweep_every: Duration,
}

impl Timing {
    /// Whether the settings agree with each other.
    ///
    /// # Errors
    /// Names the two that do not.
    pub fn check(&self) -> anyhow::Result<()> {
        ensure!(
            self.retry_first <= self.retry_max,
            "--retry-first or WAYBILL_RETRY_FIRST ({} s) is more than --retry-max or WAYBILL_RETRY_MAX ({} s)",
            self.retry_first.as_secs_f64(),
            self.retry_max.as_secs_f64()
        );
        Ok(())
    }

    /// How long a step, and an order as a whole, may take.
    pub(crate) fn deadlines(&self) -> (TimeDelta, TimeDelta) {
        (store::delta(self.step_deadline), store::delta(self.order_deadline))
    }

    /// As the engine takes it.
    pub(crate) fn of_saga(&self) -> ::saga::Timing<saga::Order> {
        let all = RetryOverride {
            first_retry: Some(self.retry_first),
            max_retry: Some(self.retry_max),
            deadline: Some(self.step_deadline),
        };
        ::saga::Timing { all, ..::saga::Timing::of_plan(self.order_deadline) }
    }
}

/// Runs the service until shutdown. Errors only where it cannot even start: an address taken, a malformed setting.
pub fn run(settings: Settings, shutdown: CancellationToken) -> Running {
    Box::pin(async move {
        let listener = http::listen(&settings.listen, "--listen or WAYBILL_ORDER_LISTEN").await?;
        start(listener, settings, shutdown).await
    })
}

/// The same on a listener that is there already, whatever the settings say.
pub fn serve(listener: TcpListener, settings: Settings, shutdown: CancellationToken) -> Running {
    Box::pin(start(listener, settings, shutdown))
}

async fn start(listener: TcpListener, settings: Settings, shutdown: CancellationToken) -> anyhow::Result<()> {
    settings.timing.check()?;
    saga_runtime::verify::<saga::Order>(&TOPOLOGY)?;
    let payload_max = PayloadMax::default();
    let rebuild = Some(Box::new(tell::SayAgain(payload_max.clone())) as Box<dyn RebuildMessages>);
    let service = Service::start(Start {
        name: "order",
        listener,
        database_url: &settings.database_url,
        migrator: &MIGRATIONS,
        topology: &TOPOLOGY,
        settings: &settings.parts,
        rebuild,
        shutdown,
    })
    .await?;
    service.follow_payload_max(&payload_max);
    let recent = Arc::new(Recent::default());
    let clock = SteadyClock::default();
    service.spawn(clock.clone().run(service.database(), service.shutdown()));
    let waiting = Waiting::default();
    service.spawn(waiting.clone().look(service.database(), service.shutdown()));
    let advance = Arc::new(Advance {
        database: service.database(),
        clock: clock.clone(),
        timing: settings.timing,
        limit: settings.limit,
        payload_max: payload_max.clone(),
        recent: recent.clone(),
        waiting,
        told: advance::Told::default(),
    });
    let replies = reply_readers::<saga::Order>().into_iter().map(|(consumer, read)| {
        let read = move |json: &RawValue| {
            let reply = read(json)?;
            Ok((OrderId(saga::Order::correlate(&reply)), Trigger::Reply(reply)))
        };
        Source::new(consumer, read)
    });
    service.consume(replies.collect(), advance.clone());
    let aside = Arc::new(Aside::default());
    let sweeper = Sweeper {
        database: service.database(),
        unit: service.unit_of_work(),
        advance: advance.clone(),
        aside: aside.clone(),
        every: settings.timing.sweep_every,
    };
    service.spawn(sweeper.run(service.shutdown()));
    let operators = settings.operators.database(&settings.database_url, &settings.parts)?;
    let watch = complete::Watch {
        database: service.database(),
        broker: service.broker(),
        health: service.health(),
        settings: settings.events,
        payload_max,
        holder: Uuid::now_v7(),
    };
    service.spawn(watch.run(service.shutdown()));
    service.spawn(keys::expire(service.database(), settings.keys, store::cancellations::EXPIRE, service.shutdown()));
    service.health().expect(plans::CHECK);
    service.spawn(plans::record(service.database(), service.health(), service.shutdown()));
    let stuck_after = settings.timing.stuck_after;
    let count = sweeper::Count { operators: operators.clone(), clock: clock.clone(), aside, stuck_after };
    service.spawn(count.run(service.health(), service.shutdown()));
    let edge = Arc::new(edge::Edge {
        database: service.database(),
        operators,
        placing: service.group_commit(Arc::new(Place { database: service.database(), clock, timing: settings.timing, recent })),
        advance,
        unit: service.unit_of_work(),
        stream_reads: Semaphore::new((settings.parts.database.database_connections as usize / 2).max(1)),
        shutdown: service.shutdown(),
        stuck_after,
    });
    service
        .run(http::Api::new(
            edge::router(edge.clone()).merge(sagas::router(edge.clone())).merge(complete::routes::router(edge)),
            edge::QUERIES,
        ))
        .await
}
