//! The order service: takes orders and carries each through its saga.
//!
//! `order` is what was asked for and how it ended, [`saga`] the order saga, `projection` its own columns and what people see of it, `routes`
//! what can be asked. What carries sagas is the crate `saga_runtime`.

mod order;
mod pending;
mod projection;
mod routes;
pub mod saga;
mod search;

use std::sync::Arc;

use chassis::settings::{Secret, database_url, hidden};
use chassis::{Parts, Running, Service, Start, http};
use clap::Parser;
use events::streams::TOPOLOGY;
use saga_runtime::{Prepared, Runtime, SagaSettings, operator_routes};
use sqlx::migrate::Migrator;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use pending::PendingSettings;

/// The schema of the order service's database.
pub static MIGRATIONS: Migrator = sqlx::migrate!("../../migrations/order");

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
    pub sagas: SagaSettings,

    #[allow(missing_docs)]
    #[command(flatten)]
    pub pending: PendingSettings,

    #[allow(missing_docs)]
    #[command(flatten)]
    pub parts: Parts,
}

impl Settings {
    /// Whether the settings agree with each other and with the plan.
    ///
    /// # Errors
    /// Names those that do not.
    pub fn check(&self) -> anyhow::Result<()> {
        self.sagas.timing.timing::<saga::Order>().map(drop)
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
    let orders = Prepared::<saga::Order>::new(&settings.sagas, &TOPOLOGY)?;
    let service = Service::start(Start {
        name: "order",
        listener,
        database_url: &settings.database_url,
        migrator: &MIGRATIONS,
        topology: &TOPOLOGY,
        settings: &settings.parts,
        rebuild: Some(orders.rebuild_messages()),
        shutdown,
    })
    .await?;
    let orders = orders.start(&service, &settings.database_url, &settings.parts)?;
    service.run(http::Api::new(routes(settings.pending).with_state(orders))).await
}

/// The OpenAPI document of the service.
pub fn openapi() -> serde_json::Value {
    http::document_of("order", &operations())
}

/// What can be asked of the service, and by whom.
pub fn operations() -> Vec<http::Operation> {
    routes(PendingSettings::default()).operations()
}

fn routes(pending: PendingSettings) -> http::Routes<Arc<Runtime<saga::Order>>> {
    routes::routes(pending).merge(operator_routes())
}
