//! The gateway: one door in front of the user, product and order services.
//!
//! It forwards and decides nothing: a request goes to its service once all of it is there, every answer of a service streams through as it
//! is, and no state is kept but the health of each service. A service that is down costs its own routes a quick 503 and the others nothing.

mod breaker;
mod directory;
mod headers;
mod instances;
mod proxy;
mod root;
mod settings;
mod upstream;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::any;
use chassis::broker::Broker;
use chassis::discovery;
use chassis::health::Health;
use chassis::http::{Api, Operation, Routes, Shape, Who};
use chassis::identity::{Identity, Role};
use chassis::metrics::Metrics;
use chassis::{Running, http};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use settings::{BaseUrl, Discovery, Settings, UpstreamSettings};
use upstream::Upstream;

/// How much longer the edge waits than the proxy, so that the answer to a client names the service that was too slow.
const EDGE_SLACK: Duration = Duration::from_secs(1);

/// Runs the gateway until shutdown, then finishes the requests under way. Needs none of the services to be there, nor the broker.
pub fn run(settings: Settings, shutdown: CancellationToken) -> Running {
    Box::pin(async move {
        let listener = http::listen(&settings.listen, "--listen (WAYBILL_GATEWAY_LISTEN)").await?;
        serve(listener, settings, shutdown).await
    })
}

/// The same on a listener that is there already, whatever the settings say.
pub async fn serve(listener: TcpListener, settings: Settings, shutdown: CancellationToken) -> anyhow::Result<()> {
    let identity = Identity::new(&settings.identity, listener.local_addr()?)?;
    tracing::info!(service = "gateway", address = %listener.local_addr()?, "started");
    let mut edge = settings.http.clone();
    edge.http_timeout = edge.http_timeout.max(settings.upstream.answer_timeout + EDGE_SLACK);
    // Notes, not checks: a gateway whose services are down still serves the routes of the others, so it is ready.
    let (health, upstreams) = (Health::default(), upstreams(&settings));
    let mut found = JoinSet::new();
    if settings.discovery == Discovery::Nats {
        let broker = Broker::connect(&settings.broker, "waybill-gateway").await?;
        let services = upstreams.iter().map(|(_, upstream)| upstream.clone()).collect();
        found.spawn(directory::follow(broker.clone(), services, shutdown.clone()));
        let address = settings.announced.address(listener.local_addr()?);
        found.spawn(discovery::announce("gateway", address, broker, health.clone(), shutdown.clone()));
    }
    let every = settings.upstream.watch_every;
    let watching = upstreams.iter().map(|(_, upstream)| upstream.clone());
    let watching = watching.map(|upstream| watch(upstream, every, health.clone(), shutdown.clone())).map(tokio::spawn);
    let watching: Vec<_> = watching.collect();
    let api = Api::proxy(own(), passing(upstreams), &PASSED, STRANGERS_STAY_OUT, OPENAPI);
    http::serve(listener, Metrics::new("gateway"), api, health, &edge, identity, shutdown).await;
    watching.iter().for_each(tokio::task::JoinHandle::abort);
    tracing::info!(service = "gateway", "stopped");
    Ok(())
}

/// What the services are asked is theirs to judge.
const PASSED: [&str; 6] = ["/users", "/users/{*rest}", "/products", "/products/{*rest}", "/orders", "/orders/{*rest}"];

/// What the gateway and the services behind it serve, in one document. A test makes it of theirs.
pub const OPENAPI: &str = include_str!("../../../docs/openapi/gateway.json");

/// The services' paths that the gateway serves.
pub const PATHS: [&str; 3] = ["/users", "/products", "/orders"];

/// What the gateway answers by itself.
fn own() -> Routes {
    let map = Shape::Value(serde_json::json!({ "type": "object", "required": ["name", "version", "routes"] }));
    let root = Operation::get(Who::Anyone, "/", "root", "What is where").answers(200, "The routes, by service", map);
    Routes::new().route(root, root::show)
}

/// The OpenAPI document of what the gateway answers by itself.
pub fn openapi() -> serde_json::Value {
    chassis::http::document_of("gateway", &own().operations())
}

/// The gateway wants to know who it is, so that strangers come no further; what a caller may do each service says, which asks again.
const STRANGERS_STAY_OUT: Who = Who::Roles(&Role::ALL);

/// The services, each with its path.
fn upstreams(settings: &Settings) -> [(&'static str, Arc<Upstream>); 3] {
    let upstream = |name, url: &BaseUrl| {
        let upstream = Upstream::new(name, &settings.upstream, &settings.http);
        if settings.discovery == Discovery::Addresses {
            upstream.set_instances([(url.authority().clone(), true)]);
        }
        Arc::new(upstream)
    };
    [
        ("/users", upstream("user", &settings.user_url)),
        ("/products", upstream("product", &settings.product_url)),
        ("/orders", upstream("order", &settings.order_url)),
    ]
}

fn passing(upstreams: [(&'static str, Arc<Upstream>); 3]) -> Router {
    upstreams.into_iter().fold(Router::new(), |routes, (path, upstream)| {
        let service = Router::new()
            .route(path, any(proxy::forward))
            .route(&format!("{path}/{{*rest}}"), any(proxy::forward))
            .with_state(upstream);
        routes.merge(service)
    })
}

/// A service that does not say so within this time hangs: /livez has a place of its own and waits for nothing.
const ALIVE_WITHIN: Duration = Duration::from_secs(2);

/// Notes in `/readyz` whether a service answers.
async fn watch(upstream: Arc<Upstream>, every: Duration, health: Health, shutdown: CancellationToken) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(every) => {}
            () = shutdown.cancelled() => return,
        }
        let alive = upstream.is_alive(ALIVE_WITHIN).await;
        health.note(upstream.name(), if alive { "answers" } else { "does not answer" }.to_owned());
    }
}
