//! The server: our own accept loop, because `axum::serve` sets no timer and slow clients would hold sockets for ever
//! (tokio-rs/axum#2741).

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use axum::body::Body;
use axum::extract::{ConnectInfo, MatchedPath};
use axum::http::{HeaderName, HeaderValue, Request, StatusCode};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Json, Router};
use futures_util::FutureExt as _;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tower::Layer;

use crate::health::Health;
use crate::http::Problem;
use crate::metrics;
use crate::settings::HttpSettings;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// How long requests under way may take once the service is asked to stop.
const DRAIN: Duration = Duration::from_secs(10);

/// Binds an address; says which setting moves it where it is taken.
pub async fn listen(address: &str, setting: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| match error.kind() {
        std::io::ErrorKind::AddrInUse => anyhow!("{address} is taken by another program; {setting} moves it"),
        _ => anyhow!("cannot listen on {address}: {error} (set by {setting})"),
    })
}

/// Serves the API, with and without the `/v1` prefix, and the health routes, until shutdown; then finishes what is under way.
/// A handler finds who asks with [`ConnectInfo`]`<SocketAddr>`.
pub async fn serve(
    listener: TcpListener,
    name: &'static str,
    api: Router,
    health: Health,
    settings: &HttpSettings,
    shutdown: CancellationToken,
) {
    metrics::init();
    let adding_up = tokio::spawn(metrics::add_up());
    let timeout = settings.http_timeout;
    let service =
        router(name, api, health, shutdown.clone()).layer(from_fn(move |request, next| watched(name, timeout, request, next)));
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(settings.http_header_timeout);
    let graceful = GracefulShutdown::new();
    let places = Arc::new(Semaphore::new(settings.http_connections));
    loop {
        let accepted = async {
            let place = places.clone().acquire_owned().await.expect("the semaphore is never closed");
            (listener.accept().await, place)
        };
        let (accepted, place) = tokio::select! {
            accepted = accepted => accepted,
            () = shutdown.cancelled() => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, most likely: waiting is all that helps.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let _ = stream.set_nodelay(true);
        let service = Extension(ConnectInfo(peer)).layer(service.clone());
        let connection = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "connection");
            }
            drop(place);
        });
    }
    drop(listener);
    if tokio::time::timeout(DRAIN, graceful.shutdown()).await.is_err() {
        tracing::warn!("requests still under way are cut off");
    }
    adding_up.abort();
}

fn router(name: &'static str, api: Router, health: Health, shutdown: CancellationToken) -> Router {
    let alive = move || async move { Json(json!({"status": "ok", "service": name, "version": env!("CARGO_PKG_VERSION")})) };
    let ready = move || async move {
        let mut readiness = health.readiness();
        if shutdown.is_cancelled() {
            readiness.ready = false;
            readiness.checks.insert("draining", "the service is stopping".to_owned());
        }
        let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        (status, Json(readiness))
    };
    Router::new()
        .merge(api.clone())
        .nest("/v1", api)
        .route("/health", get(alive))
        .route("/livez", get(alive))
        .route("/readyz", get(ready))
        .route("/metrics", get(|| async { metrics::render() }))
        .fallback(|| async { Problem::not_found("there is nothing here") })
        .method_not_allowed_fallback(|| async { Problem::method_not_allowed() })
}

/// What every request passes, in one layer, because each costs every request: a request id, a time limit until an answer begins (a live stream
/// may then take as long as it likes), a net under panics, and the count.
async fn watched(service: &'static str, timeout: Duration, mut request: Request<Body>, next: Next) -> Response {
    let begun = Instant::now();
    // A request without an id gets one, so that a client's report finds its log lines.
    let id = request.headers_mut().entry(REQUEST_ID).or_insert_with(new_request_id).clone();
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let answer = AssertUnwindSafe(next.run(request)).catch_unwind();
    let mut response = match tokio::time::timeout(timeout, answer).await {
        Ok(Ok(response)) => response,
        Ok(Err(panic)) => panicked(&*panic),
        Err(_) => Problem::timed_out().into_response(),
    };
    response.headers_mut().entry(REQUEST_ID).or_insert(id);
    let route = route.as_ref().map_or("none", MatchedPath::as_str);
    metrics::request(service, method, route, response.status(), begun.elapsed());
    response
}

fn new_request_id() -> HeaderValue {
    HeaderValue::from_str(&uuid::Uuid::now_v7().to_string()).expect("hexadecimal digits")
}

fn panicked(panic: &(dyn Any + Send)) -> Response {
    let message = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("a panic without a message");
    Problem::internal(&anyhow!("panicked: {message}")).into_response()
}
