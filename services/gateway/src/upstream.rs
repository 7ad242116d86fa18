//! One service as the gateway sees it: its instances, the connections to them, and what a client is told when none answers.

use std::error::Error as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::http::uri::Authority;
use axum::http::{Method, Request, Response, Uri, header};
use chassis::http::{Client as From, Problem, prefer_wait};
use chassis::settings::HttpSettings;
use chassis::{FairLimit, Permit};
use futures_util::future::join_all;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::{TokioExecutor, TokioTimer};

use crate::instances::{Instance, Instances};
use crate::settings::UpstreamSettings;

/// How long an unused connection is kept. Services close theirs after 10 seconds; the side that sends next must be the first to let
/// go, or now and then a request meets a connection that is just being closed.
const IDLE: Duration = Duration::from_secs(5);

/// Probes on a silent connection: live events may be silent for long, and a peer that lost its power never says so.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// A service behind the gateway.
pub struct Upstream {
    name: &'static str,
    instances: Instances,
    pooled: Client<HttpConnector, Full<Bytes>>,
    /// Never reuses a connection: for the second try of a request whose pooled connection turned out to be dead.
    fresh: Client<HttpConnector, Full<Bytes>>,
    places: FairLimit,
    /// For requests that ask to be kept waiting: they last, and must leave the others their places.
    waiting: FairLimit,
    answer_timeout: Duration,
}

impl Upstream {
    /// Connects to nothing yet, and knows no instance.
    pub fn new(name: &'static str, settings: &UpstreamSettings, http: &HttpSettings) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(settings.connect_timeout));
        connector.set_keepalive(Some(KEEPALIVE));
        let mut client = Client::builder(TokioExecutor::new());
        client.pool_timer(TokioTimer::new()).pool_idle_timeout(IDLE);
        Self {
            name,
            instances: Instances::new(name, settings),
            pooled: client.build(connector.clone()),
            fresh: client.pool_max_idle_per_host(0).build(connector),
            places: FairLimit::new(settings.in_flight, http),
            waiting: FairLimit::new(settings.waiting, http),
            answer_timeout: settings.answer_timeout,
        }
    }

    /// These are its instances from now on, each with whether it is ready.
    pub fn set_instances(&self, instances: impl IntoIterator<Item = (Authority, bool)>) {
        self.instances.set(instances);
    }

    /// The service's name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Whether one of its instances answers at all, asked for itself: no client waits for it. An instance that stays silent is spared by and by.
    pub async fn is_alive(&self, within: Duration) -> bool {
        let known = self.instances.known();
        let asked = known.iter().map(|instance| async move {
            let request = addressed(Request::new(Full::new(Bytes::new())), &Uri::from_static("/livez"), instance);
            let answer = tokio::time::timeout(within, self.fresh.request(request)).await;
            let answered = matches!(answer, Ok(Ok(answer)) if answer.status().is_success());
            instance.breaker.looked(answered);
            answered
        });
        join_all(asked).await.contains(&true)
    }

    /// Sends a request to one of the instances and waits until the answer begins. Dropped, it drops the request, whose connection then closes.
    /// An instance that cannot be connected to has seen nothing of it, and the next one is asked.
    pub async fn send(&self, from: From, mut request: Request<Full<Bytes>>) -> Result<Response<Incoming>, Problem> {
        let Some(_place) = self.place(from, &mut request) else {
            return Err(Problem::unavailable(format!("too many requests wait for the {} service; try again shortly", self.name)));
        };
        let deadline = tokio::time::Instant::now() + self.answer_timeout;
        let mut tried: Vec<Arc<Instance>> = Vec::new();
        while let Some(instance) = self.instances.next(&tried, Instant::now()) {
            let others = self.instances.known().len() > tried.len() + 1;
            let again = others.then(|| request.clone());
            match (self.send_to(&instance, request, deadline).await, again) {
                (Err(Unanswered::Unreached), Some(again)) => {
                    request = again;
                    tried.push(instance);
                }
                (Ok(response), _) => return Ok(response),
                (Err(Unanswered::Unreached), None) => break,
                (Err(Unanswered::Told(problem)), _) => return Err(problem),
            }
        }
        Err(self.down())
    }

    async fn send_to(
        &self,
        instance: &Instance,
        request: Request<Full<Bytes>>,
        deadline: tokio::time::Instant,
    ) -> Result<Response<Incoming>, Unanswered> {
        let original = request.uri().clone();
        let request = addressed(request, &original, instance);
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
        match tokio::time::timeout_at(deadline, sent).await {
            Ok(Ok(response)) => {
                instance.breaker.succeeded();
                Ok(response)
            }
            Ok(Err((error, sent_before))) => {
                tracing::debug!(upstream = self.name, error = ?error, "no answer");
                let unsent = never_sent(&error);
                // A connection that breaks says nothing about the service: it may have answered, refused, or be stopping well.
                if error.is_connect() {
                    instance.breaker.failed(Instant::now());
                }
                if repeatable == Repeatable::Read || (unsent && !sent_before) {
                    return Err(Unanswered::Unreached);
                }
                Err(Unanswered::Told(self.broke_off(repeatable)))
            }
            Err(_) => {
                instance.breaker.failed(Instant::now());
                Err(Unanswered::Told(self.timed_out(repeatable)))
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

/// Why an instance gave no answer.
enum Unanswered {
    /// It may be asked of another one: it has not been heard, or to be heard twice changes nothing.
    Unreached,
    /// This is what the client is told.
    Told(Problem),
}

/// The request as it is sent to this instance.
fn addressed(mut request: Request<Full<Bytes>>, original: &Uri, instance: &Instance) -> Request<Full<Bytes>> {
    *request.uri_mut() = instance.uri(original);
    request.headers_mut().insert(header::HOST, instance.host());
    request
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
