//! An HTTP client as lean as a driver must be: it shares the machine with what it measures. One connection at a time, no pool, no
//! redirects, and of an answer only what is needed.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue, LOCATION, RETRY_AFTER};
use hyper::{Method, Request, StatusCode, Uri, http::request};
use hyper_util::rt::TokioIo;
use saga_commands::token::Token;
use tokio::net::TcpStream;
use uuid::Uuid;

/// How long one answer may take, and one connection.
const PATIENCE: Duration = Duration::from_secs(30);

/// The longest pause a client makes because the server asks for one.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Where orders are posted.
#[derive(Debug)]
pub struct Endpoint {
    /// Host and port.
    address: String,
    host: HeaderValue,
    orders: Uri,
    /// What stands before every path; usually nothing.
    prefix: String,
    /// Says who asks, if anybody wants to know.
    authorization: Option<HeaderValue>,
}

impl Endpoint {
    /// The endpoint at `http://host:port`.
    pub fn new(url: &reqwest::Url) -> anyhow::Result<Self> {
        anyhow::ensure!(url.scheme() == "http", "{url} is not of the form http://host:port");
        let host = url.host_str().with_context(|| format!("{url} names no host"))?;
        let address = format!("{host}:{}", url.port_or_known_default().unwrap_or(80));
        let prefix = url.path().trim_end_matches('/').to_owned();
        let authorization = Token::for_address(url)?.map(|token| token.header()).transpose()?;
        Ok(Self { host: address.parse()?, orders: format!("{prefix}/orders").parse()?, prefix, address, authorization })
    }
}

/// Why an order was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Nobody listens, or nobody takes the connection in time.
    Connect,
    /// No answer in time.
    TimedOut,
    /// The connection ended before the answer.
    ConnectionLost,
    /// The server says no, and when to ask again if it says that too.
    Status(StatusCode, Option<Duration>),
    /// The answer does not say which order it made.
    NoOrder,
}

impl Trouble {
    /// The kind it is counted under.
    pub fn kind(&self) -> String {
        match self {
            Self::Connect => "connect".to_owned(),
            Self::TimedOut => "timeout".to_owned(),
            Self::ConnectionLost => "connection lost".to_owned(),
            Self::Status(status, _) => status.as_u16().to_string(),
            Self::NoOrder => "answer without an order".to_owned(),
        }
    }

    /// How long a client waits before it asks again.
    pub fn pause(&self) -> Duration {
        match self {
            Self::Status(_, Some(asked)) => (*asked).min(LONGEST_PAUSE),
            Self::Status(_, None) | Self::NoOrder | Self::TimedOut => Duration::ZERO,
            Self::Connect | Self::ConnectionLost => Duration::from_millis(100),
        }
    }
}

/// A connection that is made when it is first needed, and again when it is lost.
#[derive(Debug)]
pub struct Connection {
    endpoint: Arc<Endpoint>,
    sender: Option<SendRequest<Full<Bytes>>>,
}

impl Connection {
    /// Does not connect yet.
    pub fn new(endpoint: Arc<Endpoint>) -> Self {
        Self { endpoint, sender: None }
    }

    /// Whether the server has closed it meanwhile.
    pub fn is_stale(&self) -> bool {
        self.sender.as_ref().is_none_or(SendRequest::is_closed)
    }

    /// Posts an order; its id comes back.
    pub async fn place(&mut self, order: Bytes) -> Result<Uuid, Trouble> {
        let request = self
            .request(self.endpoint.orders.clone())
            .method(Method::POST)
            .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
            .body(Full::new(order))
            .expect("made of parts that are right");
        let answer = self.ask(request).await?;
        match answer.status {
            StatusCode::ACCEPTED | StatusCode::CREATED | StatusCode::OK => answer.order.ok_or(Trouble::NoOrder),
            status => Err(Trouble::Status(status, answer.retry_after)),
        }
    }

    /// The status of an order, as the server knows it.
    pub async fn status(&mut self, order: Uuid) -> Result<String, Trouble> {
        let uri = format!("{}/orders/{order}", self.endpoint.prefix).parse().expect("an id in a path");
        let request = self.request(uri).body(Full::default()).expect("made of parts that are right");
        let answer = self.ask(request).await?;
        if answer.status != StatusCode::OK {
            return Err(Trouble::Status(answer.status, answer.retry_after));
        }
        let order: serde_json::Value = serde_json::from_slice(&answer.body).map_err(|_| Trouble::NoOrder)?;
        Ok(order["status"].as_str().unwrap_or_default().to_owned())
    }

    fn request(&self, uri: Uri) -> request::Builder {
        let request = Request::builder().uri(uri).header(HOST, self.endpoint.host.clone());
        match &self.endpoint.authorization {
            Some(authorization) => request.header(AUTHORIZATION, authorization.clone()),
            None => request,
        }
    }

    async fn ask(&mut self, request: Request<Full<Bytes>>) -> Result<Answer, Trouble> {
        let answer = tokio::time::timeout(PATIENCE, async {
            if self.is_stale() {
                self.sender = Some(connect(&self.endpoint).await?);
            }
            let sender = self.sender.as_mut().expect("connected just now");
            // A connection the server closed this very moment took nothing: one more try on a new one.
            if sender.ready().await.is_err() {
                *sender = connect(&self.endpoint).await?;
            }
            let response = sender.send_request(request).await.map_err(|_| Trouble::ConnectionLost)?;
            let (head, body) = response.into_parts();
            let body = body.collect().await.map_err(|_| Trouble::ConnectionLost)?.to_bytes();
            let text = |name| head.headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
            Ok(Answer {
                status: head.status,
                order: text(LOCATION).and_then(|place| place.rsplit('/').next()?.parse().ok()),
                retry_after: text(RETRY_AFTER).and_then(|seconds| seconds.parse().ok()).map(Duration::from_secs),
                body,
            })
        });
        let answer = answer.await.unwrap_or(Err(Trouble::TimedOut));
        if answer.is_err() {
            self.sender = None;
        }
        answer
    }
}

struct Answer {
    status: StatusCode,
    order: Option<Uuid>,
    retry_after: Option<Duration>,
    body: Bytes,
}

async fn connect(endpoint: &Endpoint) -> Result<SendRequest<Full<Bytes>>, Trouble> {
    let stream = TcpStream::connect(&endpoint.address).await.map_err(|_| Trouble::Connect)?;
    let _ = stream.set_nodelay(true);
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|_| Trouble::Connect)?;
    tokio::spawn(connection);
    Ok(sender)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_door_is_an_address_and_what_stands_before_the_path() {
        let endpoint = |url: &str| Endpoint::new(&url.parse().unwrap());
        let plain = endpoint("http://127.0.0.1:8083").unwrap();
        assert_eq!((plain.address.as_str(), plain.orders.path()), ("127.0.0.1:8083", "/orders"));
        let behind = endpoint("http://shop.internal/api/").unwrap();
        assert_eq!((behind.address.as_str(), behind.orders.path()), ("shop.internal:80", "/api/orders"));
        assert!(endpoint("https://shop.internal").is_err());
    }

    #[test]
    fn a_busy_server_is_given_the_time_it_asks_for_and_no_more_than_a_second() {
        let busy = |asked| Trouble::Status(StatusCode::SERVICE_UNAVAILABLE, asked);
        assert_eq!(busy(Some(Duration::from_secs(60))).pause(), LONGEST_PAUSE);
        assert_eq!((busy(None).pause(), busy(None).kind().as_str()), (Duration::ZERO, "503"));
    }
}
