//! One service as the gateway sees it: its connections, its breaker, and what a client is told when it does not answer.

use std::error::Error as _;
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::http::uri::{Authority, PathAndQuery, Scheme};
use axum::http::{HeaderValue, Method, Request, Response, Uri, header};
use chassis::http::{Client as From, Problem, prefer_wait};
use chassis::settings::HttpSettings;
use chassis::{FairLimit, Permit};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::{TokioExecutor, TokioTimer};

use crate::breaker::Breaker;
use crate::settings::{BaseUrl, UpstreamSettings};

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
    pooled: Client<HttpConnector, Full<Bytes>>,
    /// Never reuses a connection: for the second try of a request whose pooled connection turned out to be dead.
    fresh: Client<HttpConnector, Full<Bytes>>,
    places: FairLimit,
    /// For requests that ask to be kept waiting: they last, and must leave the others their places.
    waiting: FairLimit,
    breaker: Breaker,
    answer_timeout: Duration,
}

impl Upstream {
    /// Connects to nothing yet.
    pub fn new(name: &'static str, url: &BaseUrl, settings: &UpstreamSettings, http: &HttpSettings) -> Self {
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
            places: FairLimit::new(settings.in_flight, http),
            waiting: FairLimit::new(settings.waiting, http),
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

    /// The service's name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Whether the service answers at all, asked for itself: no client waits for it, and the breaker is not concerned.
    pub async fn is_alive(&self, within: Duration) -> bool {
        let mut request = Request::new(Full::new(Bytes::new()));
        *request.uri_mut() = self.uri(&Uri::from_static("/livez"));
        request.headers_mut().insert(header::HOST, self.host());
        matches!(tokio::time::timeout(within, self.fresh.request(request)).await, Ok(Ok(answer)) if answer.status().is_success())
    }

    /// Sends a request and waits until the answer begins. Dropped, it drops the request, whose connection then closes.
    pub async fn send(&self, from: From, mut request: Request<Full<Bytes>>) -> Result<Response<Incoming>, Problem> {
        let Some(_place) = self.place(from, &mut request) else {
            return Err(Problem::unavailable(format!("too many requests wait for the {} service; try again shortly", self.name)));
        };
        if !self.breaker.admits(Instant::now()) {
            return Err(self.down());
        }
        let repeatable = Repeatable::of(&request);
        let again = matches!(repeatable, Repeatable::Read | Repeatable::ByKey).then(|| request.clone());
        let sent = async {
            match (self.pooled.request(request).await, again) {
                (Err(error), Some(again)) if !never_sent(&error) => {
                    self.fresh.request(again).await.map_err(|error| (error, true))
                }
                (result, _) => result.map_err(|error| (error, false)),
            }
        };
        match tokio::time::timeout(self.answer_timeout, sent).await {
            Ok(Ok(response)) => {
                self.breaker.succeeded();
                Ok(response)
            }
            Ok(Err((error, sent_before))) => {
                tracing::debug!(upstream = self.name, error = ?error, "no answer");
                let unsent = never_sent(&error);
                // A connection that breaks says nothing about the service: it may have answered, refused, or be stopping well.
                if error.is_connect() {
                    self.breaker.failed(Instant::now());
                }
                Err(if repeatable == Repeatable::Read || (unsent && !sent_before) {
                    self.down()
                } else {
                    self.broke_off(repeatable)
                })
            }
            Err(_) => {
                self.breaker.failed(Instant::now());
                Err(self.timed_out(repeatable))
            }
        }
    }

    /// A place for a request. One that asks to be kept waiting where there is no room for that is carried out and answered at once.
    fn place(&self, from: From, request: &mut Request<Full<Bytes>>) -> Option<Permit> {
        if request.method() == Method::POST && prefer_wait(request.headers()).is_some() {
            if let Some(place) = self.waiting.acquire(from, 1) {
                return Some(place);
            }
            request.headers_mut().remove("prefer");
        }
        self.places.acquire(from, 1)
    }

    fn down(&self) -> Problem {
        Problem::unavailable(format!("the {} service does not answer; try again shortly", self.name))
    }

    fn broke_off(&self, repeatable: Repeatable) -> Problem {
        Problem::broken_off(format!("the {} service broke off; {}", self.name, repeatable.advice()))
    }

    fn timed_out(&self, repeatable: Repeatable) -> Problem {
        let detail = format!("the {} service took too long to answer; {}", self.name, repeatable.advice());
        Problem { detail, ..Problem::timed_out() }
    }
}

/// Whether a request may be carried out twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Repeatable {
    /// It changes nothing.
    Read,
    /// It bears an Idempotency-Key, which every POST that changes something honours.
    ByKey,
    /// It sets what it sets, however often; but it is not this gateway's to say that nobody else set something since.
    ByNature,
    /// It may count twice.
    No,
}

impl Repeatable {
    fn of<B>(request: &Request<B>) -> Self {
        match *request.method() {
            Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE => Self::Read,
            Method::POST if request.headers().contains_key("idempotency-key") => Self::ByKey,
            Method::PATCH | Method::PUT | Method::DELETE => Self::ByNature,
            _ => Self::No,
        }
    }

    /// What a client is told that may or may not have been heard.
    fn advice(self) -> &'static str {
        match self {
            Self::Read => "reading again is safe",
            Self::ByKey => "the request may have been carried out or not; repeating it with the same Idempotency-Key is safe",
            Self::ByNature => "the request may have been carried out or not; repeating it is safe",
            Self::No => "the request may have been carried out or not",
        }
    }
}

/// Whether the service cannot have seen anything of the request: no connection, or one that was closed before it was used.
fn never_sent(error: &Error) -> bool {
    let canceled =
        || error.source().and_then(|source| source.downcast_ref::<hyper::Error>()).is_some_and(hyper::Error::is_canceled);
    error.is_connect() || canceled()
}
