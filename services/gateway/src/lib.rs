//! The gateway: one door in front of the user, product and order services.
//!
//! It forwards and decides nothing: a request goes to its service once all of it is there, every answer of a service streams through as it
//! is, and no state is kept but the health of each service. A service that is down costs its own routes a quick 503 and the others nothing.

mod breaker;
mod headers;
mod proxy;
mod root;
mod settings;
mod upstream;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::{any, get};
use chassis::health::Health;
use chassis::http::{ANY, Api, Queries};
use chassis::{Running, http};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use settings::{BaseUrl, Settings, UpstreamSettings};
use upstream::Upstream;

/// How much longer the edge waits than the proxy, so that the answer to a client names the service that was too slow.
const EDGE_SLACK: Duration = Duration::from_secs(1);

/// Runs the gateway until shutdown, then finishes the requests under way. Needs none of the services to be there.
pub fn run(settings: Settings, shutdown: CancellationToken) -> Running {
    Box::pin(async move {
        let listener = http::listen(&settings.listen, "--listen (WAYBILL_GATEWAY_LISTEN)").await?;
        serve(listener, settings, shutdown).await
    })
}

/// The same on a listener that is there already, whatever the settings say.
pub async fn serve(listener: TcpListener, settings: Settings, shutdown: CancellationToken) -> anyhow::Result<()> {
    tracing::info!(service = "gateway", address = %listener.local_addr()?, "started");
    let mut edge = settings.http.clone();
    edge.http_timeout = edge.http_timeout.max(settings.upstream.answer_timeout + EDGE_SLACK);
    // Nothing to expect here: a gateway whose services are down still serves the routes of the others, so it is ready.
    http::serve(listener, "gateway", Api::new(routes(&settings), QUERIES), Health::default(), &edge, shutdown).await;
    tracing::info!(service = "gateway", "stopped");
    Ok(())
}

/// What the services are asked is theirs to judge.
const QUERIES: Queries = &[
    ("/users", ANY),
    ("/users/{*rest}", ANY),
    ("/products", ANY),
    ("/products/{*rest}", ANY),
    ("/orders", ANY),
    ("/orders/{*rest}", ANY),
];

fn routes(settings: &Settings) -> Router {
    let service = |path: &str, name, url: &BaseUrl| {
        Router::new()
            .route(path, any(proxy::forward))
            .route(&format!("{path}/{{*rest}}"), any(proxy::forward))
            .with_state(Arc::new(Upstream::new(name, url, &settings.upstream, &settings.http)))
    };
    Router::new()
        .route("/", get(root::show))
        .merge(service("/users", "user", &settings.user_url))
        .merge(service("/products", "product", &settings.product_url))
        .merge(service("/orders", "order", &settings.order_url))
}
