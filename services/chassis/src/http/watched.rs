//! What every request passes, in one layer, because each costs every request.
//!
//! Before the handler: the head means one thing, the host and origin are checked, the caller may use the route, its limits are not
//! reached, the route takes the query, and the body is there. Around it: an id, a limit to the time until an answer begins (what then
//! lasts, ends with its caller's token), a net under panics, a place for each stream, the headers of every answer, and the metrics.

use std::any::Any;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use axum::extract::{ConnectInfo, MatchedPath, Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt as _;

use crate::client::{Client, Networks};
use crate::fair_limit::FairLimit;
use crate::health::Health;
use crate::http::access::Door;
use crate::http::caller_limits::{CallerLimits, Key};
use crate::http::cross_origin::CrossOrigin;
use crate::http::deprecation::Deprecations;
use crate::http::head;
use crate::http::queries::{self, Queries};
use crate::http::receive::Receiver;
use crate::http::request_id::{REQUEST_ID, RequestId};
use crate::http::request_span::RequestSpan;
use crate::http::{Api, Caller, Problem, stream};
use crate::identity::Identity;
use crate::metrics::Metrics;
use crate::otlp::Traces;
use crate::settings::HttpSettings;

/// What the layer needs.
pub(super) struct Watch {
    metrics: Metrics,
    health: Health,
    queries: Queries,
    door: Door,
    timeout: Duration,
    receiver: Receiver,
    cross_origin: CrossOrigin,
    streams: FairLimit,
    callers: CallerLimits,
    deprecations: Deprecations,
    trusted: Networks,
    traces: Option<Traces>,
}

impl Watch {
    pub(super) fn new(metrics: Metrics, health: Health, api: &Api, settings: &HttpSettings, identity: Identity) -> Self {
        Self {
            metrics,
            health,
            queries: api.queries.clone(),
            door: Door::new(identity, api.rules.clone(), api.opens.clone()),
            timeout: settings.http_timeout,
            receiver: Receiver::new(settings),
            cross_origin: CrossOrigin::new(settings),
            streams: FairLimit::new(settings.http_streams, settings),
            callers: CallerLimits::new(settings.callers),
            deprecations: Deprecations::new(api.deprecated),
            trusted: settings.http_trusted_proxies.clone(),
            traces: api.traces.clone(),
        }
    }

    async fn answer(&self, request: Request, next: Next) -> Response {
        let client = self.client(&request);
        // First, so that the connection can go on after a refusal.
        let (mut request, _memory) = match self.receiver.receive(request, client).await {
            Ok(received) => received,
            Err(refusal) => return refusal,
        };
        if let Err(problem) = head::check(&request) {
            // Whoever frames requests in two ways is not asked for the next one.
            return ([(header::CONNECTION, "close")], problem).into_response();
        }
        if let Err(problem) = self.cross_origin.check(&request) {
            return problem.into_response();
        }
        if head::asks_for_the_server(&request) {
            return head::server_options().into_response();
        }
        let route = request.extensions().get::<MatchedPath>();
        let caller = match self.door.admit(route, request.method(), request.headers()).await {
            Ok(caller) => caller,
            // Who is refused again and again is limited by the address.
            Err(refusal) => {
                let checked = self.callers.check(|| Key::Address(client.address()));
                return checked.map_or_else(|too_many| too_many.into_response(), |()| refusal);
            }
        };
        if !is_health(request.uri().path())
            && let Err(refusal) = self.callers.check(|| Key::of(&caller, client))
        {
            return refusal.into_response();
        }
        let method = request.method().clone();
        if let Err(problem) = queries::check(&self.queries, request.extensions().get(), &method, request.uri()) {
            return problem.into_response();
        }
        request.extensions_mut().insert(client);
        request.extensions_mut().insert(caller.clone());
        let answer = AssertUnwindSafe(next.run(request)).catch_unwind();
        match tokio::time::timeout(self.timeout, answer).await {
            Ok(Ok(response)) if method == Method::OPTIONS => options(response),
            Ok(Ok(response)) => self.seated(response, &caller, client),
            Ok(Err(panic)) => panicked(&*panic),
            Err(_) if method.is_safe() => Problem::timed_out().into_response(),
            Err(_) => {
                let detail = "the request took too long; it may have been carried out or not".to_owned();
                Problem { detail, ..Problem::timed_out() }.into_response()
            }
        }
    }

    fn client(&self, request: &Request) -> Client {
        let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().expect("every connection has a peer").0;
        Client::of(peer, request.headers(), &self.trusted)
    }

    /// An answer whose length nobody knows at its beginning is a stream, and takes a place of its own kind: streams last, and must leave
    /// connections to requests.
    fn seated(&self, response: Response, caller: &Caller, client: Client) -> Response {
        if !stream::lasts(&response) {
            return response;
        }
        let of_caller = match self.callers.stream(|| Key::of(caller, client)) {
            Ok(of_caller) => of_caller,
            Err(refusal) => return refusal.into_response(),
        };
        match self.streams.acquire(client, 1) {
            Some(place) => stream::seated(response, caller.ends(), (place, of_caller)),
            None => Problem::unavailable("too many live streams are open; try again shortly").into_response(),
        }
    }
}

/// The layer.
pub(super) async fn watched(State(watch): State<Arc<Watch>>, mut request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let id = RequestId::of(request.headers_mut());
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let span = RequestSpan::begin(watch.traces.as_ref(), request.headers());
    let mut response = id.clone().answers(watch.answer(request, next)).await;
    let headers = response.headers_mut();
    headers.entry(REQUEST_ID).or_insert(id.into());
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    watch.deprecations.mark(&method, route.as_ref(), headers);
    let route = route.as_ref().map_or("none", MatchedPath::as_str);
    if !is_health(route) {
        watch.health.count(response.status().is_server_error());
    }
    if let Some(span) = span {
        span.end(&method, route, response.status());
    }
    watch.metrics.request(&method, route, response.status(), begun.elapsed());
    response
}

/// Whether it is a question about the service itself: probes ask it, over and over.
fn is_health(path: &str) -> bool {
    matches!(path, "/livez" | "/readyz" | "/health" | "/metrics")
}

/// Nobody handles OPTIONS, so what a resource takes is known from the refusal. (Its `Allow` is added outside this layer, if it is not there.)
fn options(mut response: Response) -> Response {
    if response.status() != StatusCode::METHOD_NOT_ALLOWED {
        return response;
    }
    let mut options = StatusCode::NO_CONTENT.into_response();
    options.headers_mut().extend(response.headers_mut().remove(header::ALLOW).map(|allow| (header::ALLOW, allow)));
    options
}

fn panicked(panic: &(dyn Any + Send)) -> Response {
    let message = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("a panic without a message");
    Problem::internal(&anyhow!("panicked: {message}")).into_response()
}
