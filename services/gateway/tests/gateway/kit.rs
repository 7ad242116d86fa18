//! Servers that stand for services and can be killed, a gateway on a free port, and a client.

use std::net::{SocketAddr, TcpListener};

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, Method, StatusCode};
use axum::{Json, Router};
use clap::Parser;
use http_body_util::BodyExt;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Map, Value, json};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// A server in a runtime of its own, so that ending the runtime cuts every connection, as the end of a process does.
pub struct Standin {
    address: SocketAddr,
    runtime: Option<Runtime>,
}

impl Standin {
    pub fn new(router: Router) -> Self {
        let mut standin = Self { address: "127.0.0.1:0".parse().unwrap(), runtime: None };
        standin.revive(router);
        standin
    }

    /// Starts it again where it was.
    pub fn revive(&mut self, router: Router) {
        // Asked by the gateway for itself; no test counts it.
        let router = router.route("/livez", axum::routing::get(|| async {}));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let _context = runtime.enter();
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(self.address).unwrap();
        let listener = socket.listen(1024).unwrap();
        self.address = listener.local_addr().unwrap();
        runtime.spawn(async move { axum::serve(listener, router).await });
        self.runtime = Some(runtime);
    }

    pub fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
        // The runtime ends in the background; its listener is closed once a connection is refused.
        while std::net::TcpStream::connect(self.address).is_ok() {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Standin {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Answers 201 with what it was asked.
pub fn echo(service: &'static str) -> Router {
    Router::new().fallback(move |request: Request| async move {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let headers: Map<String, Value> =
            parts.headers.iter().map(|(name, value)| (name.to_string(), json!(value.to_str().unwrap()))).collect();
        let seen = json!({
            "service": service,
            "method": parts.method.as_str(),
            "uri": parts.uri.to_string(),
            "headers": headers,
            "body": String::from_utf8(body.to_vec()).unwrap(),
        });
        (StatusCode::CREATED, [("location", "/somewhere")], Json(seen))
    })
}

/// Takes requests and never answers.
pub fn never() -> Router {
    Router::new().fallback(std::future::pending::<()>)
}

/// An address where nobody listens.
pub fn nowhere() -> String {
    format!("http://{}", TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap())
}

/// A gateway on a free port.
pub struct Gateway {
    pub address: SocketAddr,
    pub shutdown: CancellationToken,
    pub running: JoinHandle<anyhow::Result<()>>,
}

impl Gateway {
    pub async fn start(user: &str, product: &str, order: &str, flags: &[&str]) -> Self {
        let urls = ["waybill-gateway", "--user-url", user, "--product-url", product, "--order-url", order];
        let settings = gateway::Settings::parse_from(urls.iter().chain(flags));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let running = tokio::spawn(gateway::serve(listener, settings, shutdown.clone()));
        Self { address, shutdown, running }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub async fn get(&self, path: &str) -> Answer {
        send(request(Method::GET, self.url(path), "")).await
    }

    pub async fn post(&self, path: &str) -> Answer {
        send(request(Method::POST, self.url(path), "{}")).await
    }
}

pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    #[track_caller]
    pub fn assert_problem(&self, status: StatusCode, detail: &str) {
        assert_eq!(self.status, status, "{}", self.text());
        assert_eq!(self.headers["content-type"], "application/problem+json");
        assert_eq!(
            (self.json()["status"].as_u64(), self.json()["detail"].as_str()),
            (Some(status.as_u16().into()), Some(detail))
        );
        let wants_retry = status == StatusCode::SERVICE_UNAVAILABLE;
        assert_eq!(self.headers.contains_key("retry-after"), wants_retry);
    }
}

pub fn request(method: Method, url: String, body: &str) -> Request {
    Request::builder().method(method).uri(url).body(Body::from(body.to_owned())).unwrap()
}

/// A client without reused connections, so that what a test sees is the gateway's doing.
pub fn client() -> Client<HttpConnector, Body> {
    Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build_http()
}

pub async fn send(request: Request) -> Answer {
    let (parts, body) = client().request(request).await.unwrap().into_parts();
    Answer { status: parts.status, headers: parts.headers, body: body.collect().await.unwrap().to_bytes() }
}
