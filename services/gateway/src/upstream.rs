//! One service as the gateway sees it: its connections, its breaker, and what a client is told when it does not answer.

use std::error::Error as _;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::uri::{Authority, PathAndQuery, Scheme};
use axum::http::{HeaderValue, Request, Response, Uri};
use chassis::http::{BODY_MAX, Problem};
use hyper::body::{Body as _, Incoming};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::sync::Semaphore;

use crate::breaker::Breaker;
use crate::settings::{BaseUrl, UpstreamSettings};
use crate::upload::{End, Upload};

/// How long an unused connection is kept. Services close theirs after 10 seconds; the side that sends next must be the first to let
/// go, or now and then a request meets a connection that is just being closed.
const IDLE: Duration = Duration::from_secs(5);

/// Probes on a silent connection: live events may be silent for long, and a peer that lost its power never says so.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// A service behind the gateway.
pub struct Upstream {
    name: &'static str,
    authority: Authority,
    host: HeaderValue,
    pooled: Client<HttpConnector, Upload>,
    /// Never reuses a connection: for the second try of a request whose pooled connection turned out to be dead.
    fresh: Client<HttpConnector, Upload>,
    places: Semaphore,
    breaker: Breaker,
    answer_timeout: Duration,
}

impl Upstream {
    /// Connects to nothing yet.
    pub fn new(name: &'static str, url: &BaseUrl, settings: &UpstreamSettings) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(settings.connect_timeout));
        connector.set_keepalive(Some(KEEPALIVE));
        let mut client = Client::builder(TokioExecutor::new());
        client.pool_timer(TokioTimer::new()).pool_idle_timeout(IDLE);
        Self {
            name,
            authority: url.authority().clone(),
            host: url.authority().as_str().parse().expect("an authority is a header value"),
            pooled: client.build(connector.clone()),
            fresh: client.pool_max_idle_per_host(0).build(connector),
            places: Semaphore::new(settings.in_flight.min(Semaphore::MAX_PERMITS)),
            breaker: Breaker::new(name, settings.failures, settings.probe_interval),
            answer_timeout: settings.answer_timeout,
        }
    }

    /// The same path and query, at this service.
    pub fn uri(&self, original: &Uri) -> Uri {
        let path = original.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
        let uri = Uri::builder().scheme(Scheme::HTTP).authority(self.authority.clone()).path_and_query(path);
        uri.build().expect("made of valid parts")
    }

    /// The `Host` of requests to this service.
    pub fn host(&self) -> HeaderValue {
        self.host.clone()
    }

    /// Sends a request and waits until the answer begins. Dropped, it drops the request, whose connection then closes.
    pub async fn send(&self, request: Request<Upload>) -> Result<Response<Incoming>, Problem> {
        let Ok(_place) = self.places.try_acquire() else {
            return Err(Problem::unavailable(format!("too many requests wait for the {} service; try again shortly", self.name)));
        };
        if !self.breaker.admits(Instant::now()) {
            return Err(self.down());
        }
        let end = request.body().end();
        // What the client may do after a broken connection, and what this gateway may do by itself: the body is gone by then.
        let repeatable = request.method().is_idempotent() || request.headers().contains_key("idempotency-key");
        let again = (request.method().is_idempotent() && request.body().is_end_stream()).then(|| copy(&request));

        let sent = async {
            match (self.pooled.request(request).await, again) {
                (Err(error), Some(again)) if !never_sent(&error) => self.fresh.request(again).await,
                (result, _) => result,
            }
        };
        let result = tokio::time::timeout(self.answer_timeout, sent).await;
        let end = end.get().copied();
        match (result, end) {
            (Ok(Ok(response)), _) => {
                self.breaker.succeeded();
                Ok(response)
            }
            (_, Some(End::TooLarge)) => Err(Problem::too_large(BODY_MAX)),
            (_, Some(End::Broken)) => Err(Problem::malformed("the body ended early")),
            (Ok(Err(error)), _) => {
                tracing::debug!(upstream = self.name, error = ?error, "no answer");
                let unsent = never_sent(&error);
                if unsent || end.is_some() {
                    self.breaker.failed(Instant::now());
                }
                Err(if unsent || repeatable { self.down() } else { self.broke_off() })
            }
            (Err(_), _) => {
                // A client that takes that long to send its body says nothing about the service.
                if end.is_some() {
                    self.breaker.failed(Instant::now());
                }
                Err(self.timed_out())
            }
        }
    }

    fn down(&self) -> Problem {
        Problem::unavailable(format!("the {} service does not answer; try again shortly", self.name))
    }

    fn broke_off(&self) -> Problem {
        Problem::broken_off(format!("the {} service broke off; the request may have been carried out or not", self.name))
    }

    fn timed_out(&self) -> Problem {
        Problem { detail: format!("the {} service took too long to answer", self.name), ..Problem::timed_out() }
    }
}

/// A second copy of a request without a body.
fn copy(request: &Request<Upload>) -> Request<Upload> {
    let mut copy = Request::new(Upload::new(Body::empty()));
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    copy
}

/// Whether the service cannot have seen anything of the request: no connection, or one that was closed before it was used.
fn never_sent(error: &Error) -> bool {
    let canceled =
        || error.source().and_then(|source| source.downcast_ref::<hyper::Error>()).is_some_and(hyper::Error::is_canceled);
    error.is_connect() || canceled()
}
