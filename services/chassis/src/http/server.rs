//! The server: our own accept loop, because `axum::serve` sets no timer and slow clients would hold sockets for ever
//! (tokio-rs/axum#2741).

use std::net::SocketAddr;
use std::sync::{Arc, Once};
use std::time::Duration;

use anyhow::anyhow;
use axum::extract::ConnectInfo;
use axum::middleware::from_fn_with_state;
use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::disable_transparent_huge_pages;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tower::Layer;

use crate::health::Health;
use crate::http::admission::{Admission, Place};
use crate::http::api::Document;
use crate::http::connection::Connection;
use crate::http::cross_origin::cors;
use crate::http::head::{HEAD_READ, HEADERS_READ};
use crate::http::watched::{Watch, watched};
use crate::http::{Api, Problem, standard};
use crate::identity::Identity;
use crate::metrics::Metrics;
use crate::settings::HttpSettings;

/// How long requests under way may take once the service is asked to stop.
const DRAIN: Duration = Duration::from_secs(10);

/// What hyper may keep of what comes and goes on one connection, in bytes.
const BUFFER: usize = 128 * 1024;

/// The live streams that huge pages may cost as much memory as the allocator likes: some 20 MiB at most.
const STREAMS_WITH_HUGE_PAGES: usize = 4096;

/// How long a connection of the reserve may take over its one request.
const RESERVE_TIME: Duration = Duration::from_secs(2);

/// Binds an address; says which setting moves it where it is taken.
pub async fn listen(address: &str, setting: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| match error.kind() {
        std::io::ErrorKind::AddrInUse => anyhow!("{address} is taken by another program; {setting} moves it"),
        _ => anyhow!("cannot listen on {address}: {error} (set by {setting})"),
    })
}

/// Serves the API, with and without the `/v1` prefix, and the health routes, until shutdown; then finishes what is under way.
/// A handler finds where a request comes from with [`ConnectInfo`]`<SocketAddr>`, and who sends it with [`Caller`](crate::http::Caller).
pub async fn serve(
    listener: TcpListener,
    metrics: Metrics,
    api: Api,
    health: Health,
    settings: &HttpSettings,
    identity: Identity,
    shutdown: CancellationToken,
) {
    raise_files();
    spare_memory(settings.http_streams);
    let adding_up = tokio::spawn(metrics.clone().add_up());
    let knowing = tokio::spawn(identity.clone().watch(health.clone(), shutdown.clone()));
    let watch = Arc::new(Watch::new(metrics.clone(), health.clone(), &api, settings, identity));
    let Api { routes, document, .. } = api;
    // Outside, so that a page may read refusals too.
    let cors = cors(&settings.cors_origins);
    let whole = |routes: Router| {
        let routes = routes.layer(from_fn_with_state(watch.clone(), watched));
        if let Some(cors) = cors.clone() { routes.layer(cors) } else { routes }
    };
    let serving = Serving {
        ordinary: (whole(with_standard(&metrics, routes, document, &health, &shutdown)), http(settings.http_header_timeout)),
        reserve: (whole(health_alone(&metrics, &health, &shutdown)), http(settings.http_header_timeout.min(RESERVE_TIME))),
        write_timeout: settings.http_write_timeout,
        graceful: GracefulShutdown::new(),
    };
    let admission = Admission::new(settings);
    loop {
        let accepted = async {
            admission.room().await;
            listener.accept().await
        };
        let accepted = tokio::select! {
            accepted = accepted => accepted,
            () = shutdown.cancelled() => break,
        };
        match accepted {
            // One too many of its client is closed at once: waiting for a place would let it hold up all others.
            Ok((stream, peer)) => {
                if let Some(place) = admission.admit(peer.ip()) {
                    serving.serve(stream, peer, place);
                } else {
                    metrics.connection_refused();
                }
            }
            Err(error) => {
                // Out of file descriptors, most likely: waiting is all that helps.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    drop(listener);
    if tokio::time::timeout(DRAIN, serving.graceful.shutdown()).await.is_err() {
        tracing::warn!("requests still under way are cut off");
    }
    adding_up.abort();
    knowing.abort();
}

/// How connections are served: the ordinary ones, and those of the reserve.
struct Serving {
    ordinary: (Router, http1::Builder),
    reserve: (Router, http1::Builder),
    write_timeout: Duration,
    graceful: GracefulShutdown,
}

impl Serving {
    fn serve(&self, stream: TcpStream, peer: SocketAddr, place: Place) {
        let _ = stream.set_nodelay(true);
        let (routes, http) = if place.is_reserve() { &self.reserve } else { &self.ordinary };
        let write_timeout = if place.is_reserve() { self.write_timeout.min(RESERVE_TIME) } else { self.write_timeout };
        let mut http = http.clone();
        http.keep_alive(!place.is_reserve());
        let (stream, ended) = Connection::new(stream, write_timeout);
        let service = Extension(ConnectInfo(peer)).layer(routes.clone());
        // In a box of its own: a future that is moved into another is kept in it twice, and thousands of streams last.
        let connection = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
        let connection = Box::pin(self.graceful.watch(connection));
        tokio::spawn(async move {
            // The reserve turns over, whatever its clients do.
            let limit = if place.is_reserve() { RESERVE_TIME } else { Duration::MAX };
            let served = tokio::time::timeout(limit, connection).await;
            if let Ok(Err(error)) = &served {
                tracing::debug!(%error, "connection");
            }
            // One that never sent a whole head was answered nothing.
            if !matches!(&served, Ok(Err(error)) if error.is_timeout()) {
                ended.linger().await;
            }
            drop(place);
        });
    }
}

fn http(header_timeout: Duration) -> http1::Builder {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(header_timeout)
        .max_header_size(HEAD_READ)
        .max_headers(HEADERS_READ)
        .max_buf_size(BUFFER);
    // A client may close its writing side once its request is out, and is answered.
    http.half_close(true);
    http
}

/// As many open files as the process may have: many systems begin with 1,024, which are fewer than the connections that are served.
fn raise_files() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let maximum = getrlimit(Resource::Nofile).maximum;
        if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum.or(Some(1 << 20)), maximum }) {
            tracing::warn!(%error, "the limit of open files stays as it is");
        }
    });
}

/// Memory comes in small pages where very many streams may be open: of the buffers that hyper makes for each most pages are never touched,
/// and a huge page comes whole. For others huge pages are worth some percent of CPU. The flag is the whole process's.
fn spare_memory(streams: usize) {
    if streams > STREAMS_WITH_HUGE_PAGES
        && let Err(error) = disable_transparent_huge_pages(true)
    {
        tracing::warn!(%error, "memory comes in huge pages, and streams take more of it");
    }
}

fn with_standard(metrics: &Metrics, api: Router, document: Document, health: &Health, shutdown: &CancellationToken) -> Router {
    let name = metrics.service();
    let (standard, _) =
        standard::health(metrics, health, shutdown).merge(standard::document(move || document.json(name))).into_parts();
    Router::new()
        .merge(api.clone())
        .nest("/v1", api)
        .merge(standard)
        .fallback(move || async move {
            // Whoever asks the wrong service is told which one answers.
            let whose = if name == "gateway" { String::new() } else { format!(": this is the {name} service") };
            Problem::not_found(format!("there is nothing here{whose}"))
        })
        .method_not_allowed_fallback(|| async { Problem::method_not_allowed() })
}

/// What a connection of the reserve is answered.
fn health_alone(metrics: &Metrics, health: &Health, shutdown: &CancellationToken) -> Router {
    let (health, _) = standard::health(metrics, health, shutdown).into_parts();
    health
        .fallback(|| async { Problem::unavailable("too many connections are open; try again shortly") })
        .method_not_allowed_fallback(|| async { Problem::method_not_allowed() })
}
