//! The product service: what there is, what it costs, and who holds it.
//!
//! [`inventory`] decides, purely; `store` reads and writes; `handler` puts the two together for a batch.

mod direct;
mod handler;
pub mod inventory;
mod keyed;
mod orphan;
mod requests;
mod routes;
mod store;

pub use handler::{command, reply};

use std::sync::Arc;

use chassis::keys::{self, KeySettings};
use chassis::settings::{Secret, database_url, hidden};
use chassis::{Parts, Running, Service, Source, Start, http};
use clap::Parser;
pub use direct::ReservationSettings;
use events::CloudEvent;
use events::streams::{PRODUCT_COMMANDS_CONSUMER, TOPOLOGY};
use sqlx::migrate::Migrator;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// The schema of the product service's database.
pub static MIGRATIONS: Migrator = sqlx::migrate!("../../migrations/product");

/// The speaker of this service's events.
const SOURCE: &str = "/waybill/product";

/// The settings of the product service.
#[derive(Parser, Clone, Debug)]
#[command(name = "waybill-product", version, about = "Waybill's product service: what there is, what it costs, and who holds it")]
pub struct Settings {
    /// Where to listen.
    #[arg(long, env = "WAYBILL_PRODUCT_LISTEN", default_value = "127.0.0.1:8082")]
    pub listen: String,

    /// This service's own database.
    #[arg(
        long,
        env = "PRODUCT_DATABASE_URL",
        default_value = "postgres://waybill@127.0.0.1:5432/waybill_product",
        hide_env_values = true,
        value_name = "URL",
        value_parser = hidden(database_url)
    )]
    pub database_url: Secret,

    #[allow(missing_docs)]
    #[command(flatten)]
    pub keys: KeySettings,

    #[allow(missing_docs)]
    #[command(flatten)]
    pub reservations: ReservationSettings,

    #[allow(missing_docs)]
    #[command(flatten)]
    pub parts: Parts,
}

/// Runs the service until shutdown. Errors only where it cannot even start: an address taken, a malformed setting.
pub fn run(settings: Settings, shutdown: CancellationToken) -> Running {
    Box::pin(async move {
        let listener = http::listen(&settings.listen, "--listen or WAYBILL_PRODUCT_LISTEN").await?;
        start(listener, settings, shutdown).await
    })
}

/// The same on a listener that is there already, whatever the settings say.
pub fn serve(listener: TcpListener, settings: Settings, shutdown: CancellationToken) -> Running {
    Box::pin(start(listener, settings, shutdown))
}

async fn start(listener: TcpListener, settings: Settings, shutdown: CancellationToken) -> anyhow::Result<()> {
    let service = Service::start(Start {
        name: "product",
        listener,
        database_url: &settings.database_url,
        migrator: &MIGRATIONS,
        topology: &TOPOLOGY,
        settings: &settings.parts,
        rebuild: None,
        shutdown,
    })
    .await?;
    service.consume(vec![Source::new(PRODUCT_COMMANDS_CONSUMER, CloudEvent::decode)], Arc::new(handler::Commands));
    service.spawn(keys::expire(service.database(), settings.keys.keys_expire_after, store::EXPIRE_KEYS, service.shutdown()));
    let direct = Arc::new(direct::Direct { expire_after: settings.reservations.reservations_expire_after });
    service.spawn(direct::expire(service.database(), service.unit_of_work(), direct.clone(), service.shutdown()));
    let app = routes::AppState {
        database: service.database(),
        creating: service.group_commit(Arc::new(handler::Create)),
        stocking: Arc::new(handler::ChangeStock),
        reserving: direct,
        reservations_per_subject: settings.reservations.reservations_per_subject,
        giving_back: Arc::new(orphan::GiveBack),
        unit: service.unit_of_work(),
    };
    service.run(http::Api::new(routes::routes().with_state(app))).await
}

/// The OpenAPI document of the service.
pub fn openapi() -> serde_json::Value {
    http::document_of("product", &operations())
}

/// What can be asked of the service, and by whom.
pub fn operations() -> Vec<http::Operation> {
    routes::routes().operations()
}
