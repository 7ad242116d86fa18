//! What passes, and what does not.

use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use axum::{Json, Router};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use crate::kit::{Gateway, Standin, echo, nowhere, request, send};

const KIB_257: usize = 257 * 1024;

#[tokio::test]
async fn forwards_everything_a_request_says_under_both_prefixes() {
    let (user, product, order) = (Standin::new(echo("user")), Standin::new(echo("product")), Standin::new(echo("order")));
    let gateway = Gateway::start(&user.url(), &product.url(), &order.url(), &[]).await;
    for prefix in ["", "/v1"] {
        for (path, service) in [("/users", "user"), ("/products/1/stock?delta=2&x=%20", "product"), ("/orders/7/cancel", "order")]
        {
            for method in [Method::GET, Method::POST, Method::PATCH] {
                let body = if method == Method::GET { "" } else { "{\"a\":1}" };
                let asked = Request::builder()
                    .method(method.clone())
                    .uri(gateway.url(&format!("{prefix}{path}")))
                    .header("content-type", "application/json")
                    .header("idempotency-key", "k")
                    .header("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
                    .header("tracestate", "congo=t61rcWkgMzE")
                    .header("x-forwarded-for", "10.1.1.1")
                    .body(Body::from(body))
                    .unwrap();
                let answer = send(asked).await;
                assert_eq!(answer.status, StatusCode::CREATED);
                assert_eq!(answer.headers["location"], "/somewhere");
                let seen = answer.json();
                assert_eq!(seen["service"], service);
                assert_eq!(seen["method"], method.as_str());
                assert_eq!(seen["uri"], format!("{prefix}{path}"));
                assert_eq!(seen["body"], body);
                assert_eq!(seen["headers"]["idempotency-key"], "k");
                assert_eq!(seen["headers"]["traceparent"], "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
                assert_eq!(seen["headers"]["tracestate"], "congo=t61rcWkgMzE");
                assert_eq!(seen["headers"]["x-forwarded-for"], "10.1.1.1, 127.0.0.1");
                assert_eq!(seen["headers"]["x-forwarded-host"], gateway.address.to_string());
                assert_eq!(seen["headers"]["forwarded"], "for=127.0.0.1;proto=http");
            }
        }
    }
}

#[tokio::test]
async fn headers_of_one_connection_do_not_cross() {
    let order = Standin::new(Router::new().fallback(|request: axum::extract::Request| async move {
        let leaked = ["connection", "keep-alive", "te", "proxy-authorization", "x-private", "upgrade"];
        let leaked: Vec<_> = leaked.into_iter().filter(|name| request.headers().contains_key(*name)).collect();
        ([("keep-alive", "timeout=9"), ("proxy-authenticate", "Basic"), ("x-kept", "1")], Json(json!(leaked)))
    }));
    let gateway = Gateway::start(&nowhere(), &nowhere(), &order.url(), &[]).await;
    let asked = Request::get(gateway.url("/orders"))
        .header("connection", "x-private, upgrade")
        .header("keep-alive", "timeout=5")
        .header("te", "trailers")
        .header("upgrade", "h2c")
        .header("proxy-authorization", "Basic eDp5")
        .header("x-private", "1");
    let answer = send(asked.body(Body::empty()).unwrap()).await;
    assert_eq!(answer.json(), json!([]));
    assert_eq!(answer.headers["x-kept"], "1");
    assert!(!answer.headers.contains_key("keep-alive") && !answer.headers.contains_key("proxy-authenticate"));
}

#[tokio::test]
async fn the_request_id_is_passed_on_and_returned() {
    let order = Standin::new(echo("order"));
    let gateway = Gateway::start(&nowhere(), &nowhere(), &order.url(), &[]).await;
    let given = Request::get(gateway.url("/orders")).header("x-request-id", "mine").body(Body::empty()).unwrap();
    let answer = send(given).await;
    assert_eq!(answer.headers["x-request-id"], "mine");
    assert_eq!(answer.json()["headers"]["x-request-id"], "mine");
    let answer = gateway.get("/orders").await;
    assert_eq!(answer.headers.get_all("x-request-id").iter().count(), 1);
    assert_eq!(answer.json()["headers"]["x-request-id"], answer.headers["x-request-id"].to_str().unwrap());
}

#[tokio::test]
async fn a_body_that_says_it_is_too_large_is_refused_unsent() {
    let (arrived, mut arrivals) = mpsc::unbounded_channel();
    let order = Standin::new(Router::new().fallback(move || async move { arrived.send(()).unwrap() }));
    let gateway = Gateway::start(&nowhere(), &nowhere(), &order.url(), &[]).await;
    let answer = send(request(Method::POST, gateway.url("/orders"), &" ".repeat(KIB_257))).await;
    answer.assert_problem(StatusCode::PAYLOAD_TOO_LARGE, "the body may be 262144 bytes long");

    let mut huge = TcpStream::connect(gateway.address).await.unwrap();
    huge.write_all(b"POST /orders HTTP/1.1\r\nhost: x\r\ncontent-length: 9000000000\r\n\r\n").await.unwrap();
    let mut head = [0; 12];
    huge.read_exact(&mut head).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 413");
    assert!(arrivals.try_recv().is_err(), "the service saw nothing of it");
}

#[tokio::test]
async fn what_belongs_to_no_service_is_a_404_and_health_needs_no_service() {
    let gateway = Gateway::start(&nowhere(), &nowhere(), &nowhere(), &[]).await;
    for path in ["/nothing", "/userss", "/v2/users", "/internal/orders"] {
        gateway.get(path).await.assert_problem(StatusCode::NOT_FOUND, "there is nothing here");
    }
    for path in ["/health", "/livez", "/readyz"] {
        assert_eq!(gateway.get(path).await.status, StatusCode::OK, "{path}");
    }
}

#[tokio::test]
async fn the_root_says_what_is_where() {
    let gateway = Gateway::start(&nowhere(), &nowhere(), &nowhere(), &[]).await;
    for path in ["/", "/v1"] {
        let root = gateway.get(path).await;
        assert_eq!(root.status, StatusCode::OK);
        let root = root.json();
        assert!(root["routes"]["order"].as_array().unwrap().contains(&json!("POST /orders")), "{root:#}");
        assert_eq!(root["routes"].as_object().unwrap().len(), 4);
    }
    let asked = gateway.get("/?x=1").await;
    asked.assert_problem(StatusCode::BAD_REQUEST, "`x` is not a query parameter here; this takes none");
}

#[tokio::test]
async fn a_head_that_passes_here_passes_at_the_service_and_what_is_added_does_not_count() {
    // A gateway behind a gateway has the limits that a service has; its 503 says that it took the head.
    let second = Gateway::start(&nowhere(), &nowhere(), &nowhere(), &[]).await;
    let first = Gateway::start(&nowhere(), &nowhere(), &format!("http://{}", second.address), &[]).await;
    let ask = async |headers: usize, length: usize| {
        let mut head = String::from("GET /orders HTTP/1.1\r\nhost: x\r\nconnection: close\r\n");
        (2..headers).for_each(|n| head.push_str(&format!("x-{n}: {}\r\n", "1".repeat(if n == 2 { length } else { 1 }))));
        let mut stream = TcpStream::connect(first.address).await.unwrap();
        stream.write_all(format!("{head}\r\n").as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        String::from_utf8_lossy(&answer)[9..12].to_owned()
    };
    for (headers, length, status) in [(100, 1, "503"), (101, 1, "431"), (5, 32_000, "503"), (5, 32 * 1024, "431")] {
        assert_eq!(ask(headers, length).await, status, "{headers} headers, one of {length} bytes");
    }
}
