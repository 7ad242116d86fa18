//! What every route has in common: sizes, content types, methods, ids, hostile input.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;
use testkit::{Answer, Client, Service, System, answer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use uuid::Uuid;

const SERVICES: [(Service, &str); 3] = [(Service::User, "/users"), (Service::Product, "/products"), (Service::Order, "/orders")];

const BODY_MAX: usize = 256 * 1024;

#[tokio::test(flavor = "multi_thread")]
async fn a_body_is_json_of_at_most_256_kib() {
    let system = System::new().await;
    for (service, path) in SERVICES {
        for client in system.clients(service) {
            let typed = |content: &str| client.request(Method::POST, path).header("content-type", content.to_owned()).body("{}");
            for content in ["text/plain", "application/x-www-form-urlencoded", "application/jsonp", "text/json", "", "nonsense"] {
                answer(typed(content)).await.problem(415, "unsupported-media-type");
            }
            answer(client.request(Method::POST, path).body("{}")).await.problem(415, "unsupported-media-type");
            for content in
                ["application/json", "application/json; charset=utf-8", "Application/JSON", "application/merge-patch+json"]
            {
                assert_eq!(answer(typed(content)).await.status, 422, "{content} is read, and lacks every field");
            }

            // At the limit it is read, beyond it is not, whether its length is told before or not.
            let padded = |length: usize| format!("{{{}}}", " ".repeat(length - 2));
            assert_eq!(client.post_raw(path, padded(BODY_MAX)).await.status, 422);
            for length in [BODY_MAX + 1, BODY_MAX + 200_000] {
                client.post_raw(path, padded(length)).await.problem(413, "too-large");
                let chunks = futures_util::stream::iter(
                    padded(length).into_bytes().chunks(64 * 1024).map(<[u8]>::to_vec).collect::<Vec<_>>(),
                );
                let chunks = futures_util::StreamExt::map(chunks, Ok::<_, std::io::Error>);
                client.post_raw(path, reqwest::Body::wrap_stream(chunks)).await.problem(413, "too-large");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_and_what_is_not_taken_is_a_problem() {
    let system = System::new().await;
    let id = Uuid::now_v7();
    for (service, path) in SERVICES {
        for client in system.clients(service) {
            for method in [Method::PUT, Method::DELETE, Method::PATCH] {
                let refused = answer(client.request(method, path)).await;
                refused.problem(405, "method-not-allowed");
                assert_eq!(refused.header("allow"), "GET,HEAD,POST");
            }
            let options = answer(client.request(Method::OPTIONS, path)).await;
            assert_eq!((options.status, options.header("allow"), options.text.as_str()), (204, "GET,HEAD,POST", ""));
            answer(client.request(Method::DELETE, &format!("{path}/{id}"))).await.problem(405, "method-not-allowed");
            for nowhere in ["/nowhere", &format!("{path}/"), &format!("{path}/{id}/nowhere"), &format!("{path}x")] {
                client.get(nowhere).await.problem(404, "not-found");
            }
            let head = answer(client.request(Method::HEAD, path)).await;
            assert_eq!((head.status, head.text.as_str()), (200, ""));
        }
    }
    for client in system.clients(Service::Order) {
        client.get(&format!("/orders/{id}/cancel")).await.problem(405, "method-not-allowed");
        client.post(&format!("/orders/{id}/history"), &json!({})).await.problem(405, "method-not-allowed");
    }
    for client in system.clients(Service::Product) {
        client.get("/products/reserve").await.problem(405, "method-not-allowed");
        client.get(&format!("/products/{id}/stock")).await.problem(405, "method-not-allowed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_bears_the_id_of_its_request() {
    let system = System::new().await;
    for (service, path) in SERVICES {
        for client in system.clients(service) {
            for path in [path, "/nowhere"] {
                let own = answer(client.request(Method::GET, path).header("x-request-id", "my-request-7")).await;
                assert_eq!(own.headers.get_all("x-request-id").iter().count(), 1);
                assert_eq!(own.header("x-request-id"), "my-request-7", "{client:?}");
                let hidden = answer(client.request(Method::GET, path).header("x-request-id", "\u{202e}7".as_bytes())).await;
                assert!(Uuid::try_parse(hidden.header("x-request-id")).is_ok(), "{hidden:?}");
                let (one, two) = (client.get(path).await, client.get(path).await);
                assert!(!one.header("x-request-id").is_empty());
                assert_ne!(one.header("x-request-id"), two.header("x-request-id"));
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_input_is_refused_and_serves_nobody_worse() {
    let system = System::new().await;
    let deep = |open: &str, close: &str| format!("{}1{}", open.repeat(20_000), close.repeat(20_000));
    let bodies: Vec<Vec<u8>> = vec![
        deep("[", "]").into(),
        deep("{\"a\":", "}").into(),
        format!("{{\"email\":{},\"name\":\"a\"}}", deep("[", "]")).into(),
        format!("{{\"items\":{},\"user_id\":\"a\"}}", deep("[", "]")).into(),
        format!("{{\"name\":{}}}", deep("{\"a\":", "}")).into(),
        b"{\"email\":\"\xff\xfe@example.com\",\"name\":\"a\"}".to_vec(),
        b"{\"name\":\"\xc3\x28\"}".to_vec(),
        b"{\"user_id\":\"\xed\xa0\x80\",\"items\":[]}".to_vec(),
        br#"{"name":"\ud800"}"#.to_vec(),
        br#"{"email":"\ud800@a","name":"a"}"#.to_vec(),
        b"{\"name\":\"a\x00b\"}".to_vec(),
        b"\x00".to_vec(),
        b"\xef\xbb\xbf{}".to_vec(),
        b"null".to_vec(),
        b"[]".to_vec(),
        b"\"\"".to_vec(),
        b"NaN".to_vec(),
        b"{\"email\":\"a@b\",\"email\":\"c@d\",\"name\":\"a\"}".to_vec(),
        b"{\"__proto__\":{},\"constructor\":1}".to_vec(),
    ];
    for (service, path) in SERVICES {
        for client in [system.client(service), system.client(Service::Gateway)] {
            for body in &bodies {
                let answer = client.post_raw(path, body.clone()).await;
                let shown = String::from_utf8_lossy(&body[..body.len().min(60)]).into_owned();
                assert!([400, 422].contains(&answer.status), "{shown}: {answer:#?}");
                assert_eq!(answer.header("content-type"), "application/problem+json", "{shown}");
            }
            assert_eq!(client.get(path).await.expect(200)["items"], json!([]));
        }
    }
    for client in [system.client(Service::Order), system.client(Service::Gateway)] {
        for path in ["/orders/%00", "/orders/%0d%0aset-cookie:x", "/orders/'--", "/orders/%2e%2e%2fusers"] {
            client.get(path).await.problem(400, "malformed");
        }
        let long = client.get(&format!("/orders/{}", "x".repeat(4000))).await;
        long.problem(400, "malformed");
    }
}

/// What a peer sends back until it closes; panics where it keeps the connection.
async fn until_closed(stream: &mut TcpStream, within: Duration) -> String {
    let mut all = Vec::new();
    let closed = tokio::time::timeout(within, stream.read_to_end(&mut all)).await;
    assert!(closed.is_ok(), "still open after {within:?}; so far it said {:?}", String::from_utf8_lossy(&all));
    String::from_utf8_lossy(&all).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_dawdles_over_its_head_is_let_go() {
    let short = Duration::from_millis(300);
    let system = System::builder()
        .settings(|settings| {
            for parts in settings.parts() {
                parts.http.http_header_timeout = short;
            }
            settings.gateway.http.http_header_timeout = short;
        })
        .start()
        .await;
    for service in Service::ALL {
        let port = system.instance(service).port;
        for head in ["", "GET /health HTTP/1.1\r\n", "GET /health HTTP/1.1\r\nhost: a\r\nx-slow: a"] {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            stream.write_all(head.as_bytes()).await.unwrap();
            let said = until_closed(&mut stream, Duration::from_secs(5)).await;
            assert!(!said.contains("200 OK"), "{said}");
        }
        assert_eq!(system.client(service).get("/health").await.status, 200, "others are served");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_http_is_refused() {
    let system = System::new().await;
    for service in Service::ALL {
        let port = system.instance(service).port;
        let many: String = (0..101).map(|n| format!("x-{n}: 1\r\n")).collect();
        for (status, kind, text) in [
            (400, "malformed", "nonsense\r\n\r\n".to_owned()),
            (400, "malformed", "GET /health HTTP/1.1\r\nhost: a\r\nbad header\r\n\r\n".to_owned()),
            (
                400,
                "malformed",
                "POST /orders HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello".to_owned(),
            ),
            (431, "head-too-large", format!("GET /health HTTP/1.1\r\nhost: a\r\nx-long: {}\r\n\r\n", "x".repeat(1 << 20))),
            (431, "head-too-large", format!("GET /health HTTP/1.1\r\nhost: a\r\n{many}\r\n")),
        ] {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            stream.write_all(text.as_bytes()).await.expect("it reads on");
            let said = until_closed(&mut stream, Duration::from_secs(5)).await;
            assert!(said.starts_with(&format!("HTTP/1.1 {status} ")), "{said}");
            let (head, body) = said.split_once("\r\n\r\n").unwrap();
            assert!(head.contains("nosniff") && head.contains("no-store"), "{head}");
            let problem: serde_json::Value = serde_json::from_str(body).unwrap();
            assert_eq!(problem["type"], format!("urn:waybill:problem:{kind}"));
        }
        alive(&system.client(service)).await;
    }
}

async fn alive(client: &Client) {
    let answer: Answer = client.get("/livez").await;
    assert_eq!(answer.status, 200);
}
