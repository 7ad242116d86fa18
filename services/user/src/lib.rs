//! The user service: who there is, and who may order.

mod handler;
mod keys;
mod requests;
mod routes;
mod store;

pub use handler::judge;

use std::sync::Arc;

use chassis::settings::{Secret, database_url, hidden};
use chassis::{Parts, Running, Service, Source, Start, http};
use clap::Parser;
use events::CloudEvent;
use events::streams::{TOPOLOGY, USER_COMMANDS_CONSUMER};
use sqlx::migrate::Migrator;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

static MIGRATIONS: Migrator = sqlx::migrate!("../../migrations/user");

/// The speaker of this service's events.
const SOURCE: &str = "/waybill/user";

/// The settings of the user service.
#[derive(Parser, Clone, Debug)]
#[command(name = "waybill-user", version, about = "Waybill's user service: who there is, and who may order")]
pub struct Settings {
    /// Where to listen.
    #[arg(long, env = "WAYBILL_USER_LISTEN", default_value = "127.0.0.1:8081")]
    pub listen: String,

    /// This service's own database.
    #[arg(
        long,
        env = "USER_DATABASE_URL",
        default_value = "postgres://waybill@127.0.0.1:5432/waybill_user",
        hide_env_values = true,
        value_name = "URL",
        value_parser = hidden(database_url)
    )]
    pub database_url: Secret,

    #[allow(missing_docs)]
    #[command(flatten)]
    pub parts: Parts,
}

/// Runs the service until shutdown. Errors only where it cannot even start: an address taken, a malformed setting.
pub fn run(settings: Settings, shutdown: CancellationToken) -> Running {
    Box::pin(async move {
        let listener = http::listen(&settings.listen, "--listen or WAYBILL_USER_LISTEN").await?;
        start(listener, settings, shutdown).await
    })
}

/// The same on a listener that is there already, whatever the settings say.
pub fn serve(listener: TcpListener, settings: Settings, shutdown: CancellationToken) -> Running {
    Box::pin(start(listener, settings, shutdown))
}

async fn start(listener: TcpListener, settings: Settings, shutdown: CancellationToken) -> anyhow::Result<()> {
    let service = Service::start(Start {
        name: "user",
        listener,
        database_url: &settings.database_url,
        migrator: &MIGRATIONS,
        topology: &TOPOLOGY,
        settings: &settings.parts,
        rebuild: None,
        shutdown,
    })
    .await?;
    service.consume(vec![Source::new(USER_COMMANDS_CONSUMER, CloudEvent::decode)], Arc::new(handler::Validate));
    service.spawn(keys::fill(service.database(), service.shutdown()));
    let app = routes::AppState {
        database: service.database(),
        creating: service.group_commit(Arc::new(handler::Create)),
        updating: Arc::new(handler::Update),
        unit: service.unit_of_work(),
    };
    service.run(http::Api::new(routes::routes().with_state(app))).await
}

/// The OpenAPI document of the service.
pub fn openapi() -> serde_json::Value {
    http::document_of("user", &operations())
}

/// What can be asked of the service, and by whom.
pub fn operations() -> Vec<http::Operation> {
    routes::routes().operations()
}
