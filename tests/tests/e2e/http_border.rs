//! What holds for every request and every answer, at every service and through the gateway: queries, encodings, headers, half-closed clients.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;
use testkit::{Answer, Client, Service, System, answer, order_body};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use uuid::Uuid;

const LISTS: [(Service, &str); 3] = [(Service::User, "/users"), (Service::Product, "/products"), (Service::Order, "/orders")];

#[track_caller]
fn refused_by_name(answer: &Answer, name: &str) {
    let problem = answer.problem(400, "malformed");
    assert!(problem["detail"].as_str().unwrap().contains(&format!("`{name}`")), "{problem:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_parameter_that_is_not_known_is_refused_by_name_everywhere() {
    let system = System::new().await;
    let (user, product) = (system.create_user(true).await, system.create_product(10, 100).await);
    let order = system.submit(user, &[(product, 1)]).await;
    system.wait_final(order).await;
    for (service, list) in LISTS {
        for client in system.clients(service) {
            for name in ["user", "Limit", "limit[]", "offset", "%20limit"] {
                let named = if name == "%20limit" { " limit" } else { name };
                refused_by_name(&client.get(&format!("{list}?{name}=1")).await, named);
                refused_by_name(&client.get(&format!("{list}?limit=5&{name}")).await, named);
            }
            refused_by_name(&client.get(&format!("{list}?limit=1&limit=1")).await, "limit");
            refused_by_name(&client.get(&format!("{list}?limit=1&%6cimit=1")).await, "limit");
            client.get(&format!("{list}?&limit=1&")).await.expect(200);
            // What changes something takes none, even those of its neighbour.
            refused_by_name(&client.post(&format!("{list}?limit=1"), &json!({})).await, "limit");
        }
    }
    let shown = [
        (Service::User, format!("/users/{user}")),
        (Service::User, format!("/users/{user}/validate")),
        (Service::Product, format!("/products/{product}")),
        (Service::Order, format!("/orders/{order}")),
        (Service::Order, format!("/orders/{order}/events")),
    ];
    for (service, path) in shown {
        for client in system.clients(service) {
            refused_by_name(&client.get(&format!("{path}?x=1")).await, "x");
        }
    }
    for client in system.clients(Service::Order) {
        refused_by_name(&client.post(&format!("/orders/{order}/cancel?force=1"), &json!({})).await, "force");
        refused_by_name(&client.get(&format!("/orders/{order}/history?x=1")).await, "x");
    }
    for client in system.clients(Service::Product) {
        let stock = format!("/products/{product}/stock?delta=5");
        refused_by_name(&client.post(&stock, &json!({ "delta": 5 })).await, "delta");
        refused_by_name(&client.post("/products/reserve?dry_run", &json!({})).await, "dry_run");
    }
    let orders = system.client(Service::Order);
    refused_by_name(&orders.get("/sagas?state=pending").await, "state");
    refused_by_name(&orders.get(&format!("/sagas/{order}?x=1")).await, "x");
    for service in Service::ALL {
        for path in ["/livez", "/readyz", "/health", "/metrics"] {
            refused_by_name(&system.client(service).get(&format!("{path}?x=1")).await, "x");
        }
        system.client(service).get("/nowhere?x=1").await.problem(404, "not-found");
    }
    assert_eq!(system.stock(product).await, (9, 1), "nothing of all this was done");
    assert_eq!(system.audit().await.confirmed, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_in_an_encoding_nobody_reads_is_415() {
    let system = System::new().await;
    let id = Uuid::now_v7();
    let routes = LISTS.iter().map(|(service, path)| (*service, (*path).to_owned())).chain([
        (Service::Product, format!("/products/{id}/stock")),
        (Service::Product, "/products/reserve".to_owned()),
        (Service::Order, format!("/orders/{id}/cancel")),
    ]);
    for (service, path) in routes {
        for client in system.clients(service) {
            let encoded = |coding: &'static str| {
                let request = client.request(Method::POST, &path).header("content-type", "application/json");
                answer(request.header("content-encoding", coding).body("{}"))
            };
            for coding in ["gzip", "br", "deflate", "identity, gzip", "GZIP"] {
                let refused = encoded(coding).await;
                let problem = refused.problem(415, "unsupported-media-type");
                assert!(problem["detail"].as_str().unwrap().contains("Content-Encoding"), "{problem:#}");
                assert_eq!(refused.header("accept-encoding"), "identity");
            }
            assert_ne!(encoded("Identity").await.status, 415);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_says_that_it_is_not_to_be_guessed_at_or_kept() {
    let system = System::new().await;
    let user = system.create_user(true).await;
    let check = |answer: &Answer| {
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{answer:#?}");
        assert_eq!(answer.header("cache-control"), "no-store", "{answer:#?}");
    };
    for service in Service::ALL {
        for path in ["/livez", "/readyz", "/metrics", "/nowhere", "/v1/nowhere"] {
            check(&system.client(service).get(path).await);
        }
    }
    check(&system.client(Service::Gateway).get("/").await);
    for (service, list) in LISTS {
        for client in system.clients(service) {
            check(&client.get(list).await);
            check(&client.get(&format!("{list}?x=1")).await);
            check(&client.post(list, &json!({})).await);
            check(&client.post_raw(list, " ".repeat(300_000)).await);
            check(&answer(client.request(Method::DELETE, list)).await);
            check(&answer(client.request(Method::OPTIONS, list)).await);
            check(&answer(client.request(Method::HEAD, list)).await);
            check(&answer(client.request(Method::POST, list).body("{}")).await);
        }
    }
    let order = system.submit(user, &[(system.create_product(1, 100).await, 1)]).await;
    system.wait_final(order).await;
    for client in system.clients(Service::Order) {
        check(&client.get(&format!("/orders/{order}/events")).await);
    }
    system.stop(Service::User).await;
    check(&system.client(Service::Gateway).get("/users").await);
}

/// Sends this, closes the writing side, and reads to the end.
pub async fn half_closed(port: u16, request: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = String::new();
    let read = tokio::time::timeout(Duration::from_secs(20), stream.read_to_string(&mut answer)).await;
    read.expect("an end").expect("no reset");
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_has_closed_its_writing_side_gets_its_answer() {
    let system = System::new().await;
    let (user, product) = (system.create_user(true).await, system.create_product(10, 100).await);
    let body = order_body(user, &[(product, 1)]).to_string();
    for service in [Service::Order, Service::Gateway] {
        let port = system.instance(service).port;
        for prefix in ["", "/v1"] {
            let post = format!(
                "POST {prefix}/orders HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\nprefer: wait=20\r\n\
                 content-length: {}\r\n\r\n{body}",
                body.len()
            );
            let placed = half_closed(port, &post).await;
            assert!(placed.starts_with("HTTP/1.1 201 ") && placed.contains("confirmed"), "{placed}");
            let id = placed.split("location: /orders/").nth(1).unwrap().split("\r\n").next().unwrap();
            let shown = half_closed(port, &format!("GET {prefix}/orders/{id} HTTP/1.1\r\nhost: x\r\n\r\n")).await;
            assert!(shown.starts_with("HTTP/1.1 200 ") && shown.contains("confirmed"), "{shown}");
            let events = half_closed(port, &format!("GET {prefix}/orders/{id}/events HTTP/1.1\r\nhost: x\r\n\r\n")).await;
            assert!(events.starts_with("HTTP/1.1 200 ") && events.contains("event: entry"), "{events}");
            let short = half_closed(port, &post[..post.len() - 5]).await;
            assert!(short.starts_with("HTTP/1.1 400 ") && short.contains("ended early"), "{short}");
        }
    }
    assert_eq!(system.audit().await.confirmed, 4);
}

/// Posts a body of the wrong type again and again on raw sockets, half of them without waiting to have written it all, until told to stop.
async fn abuse(port: u16, path: &str, length: usize, stop: tokio_util::sync::CancellationToken) -> usize {
    let head = format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: text/plain\r\ncontent-length: {length}\r\n\r\n");
    let mut refused = 0;
    while !stop.is_cancelled() {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&vec![b'x'; length]).await.expect("a refusal lets its client finish");
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await.expect("an answer, not a reset");
        assert_eq!(&answer[..10], b"HTTP/1.1 4", "{}", String::from_utf8_lossy(&answer));
        refused += 1;
    }
    refused
}

async fn works(client: &Client, path: &str) {
    for _ in 0..60 {
        client.get(path).await.expect(200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn early_refusals_reset_nobody_and_close_no_door() {
    let system = System::new().await;
    let port = system.instance(Service::Gateway).port;
    let stop = tokio_util::sync::CancellationToken::new();
    let order = system.instance(Service::Order).port;
    let abuses: Vec<_> = [
        (port, "/orders", 60_000),
        (port, "/users/7", 100_000),
        (port, "/x", 90_000),
        (order, "/orders", 100_000),
        (order, "/orders", 250_000),
    ]
    .into_iter()
    .map(|(port, path, length)| tokio::spawn(abuse(port, path, length, stop.clone())))
    .collect();
    for (_, list) in LISTS {
        works(&system.client(Service::Gateway), list).await;
    }
    works(&system.client(Service::Order), "/orders").await;
    stop.cancel();
    for abuse in abuses {
        assert!(abuse.await.unwrap() > 10, "the abuse went on meanwhile");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_means_one_thing_at_every_service_and_through_the_gateway() {
    let system = System::new().await;
    let (user, product) = (system.create_user(true).await, system.create_product(10, 100).await);
    let body = order_body(user, &[(product, 1)]).to_string();
    let length = body.len();
    let chunked = format!("{length:x}\r\n{body}\r\n0\r\n\r\n");
    let json = "content-type: application/json\r\n";
    let plain = |head: &str| format!("POST /orders HTTP/1.1\r\n{head}content-length: {length}\r\n\r\n{body}");
    let refused = [
        (
            501,
            "transfer-encoding",
            format!("POST /orders HTTP/1.1\r\nhost: x\r\n{json}transfer-encoding: gzip, chunked\r\n\r\n{chunked}"),
        ),
        (400, "`Host` is missing", plain(json)),
        (400, "`Host` is given twice", plain(&format!("host: x\r\nhost: x\r\n{json}"))),
        (400, "`Content-Type` is given twice", plain(&format!("host: x\r\n{json}{json}"))),
        (415, "UTF-8", plain("host: x\r\ncontent-type: application/json; charset=utf-16\r\n")),
        (
            400,
            "`Idempotency-Key`",
            plain(&format!("host: x\r\n{json}idempotency-key: k\r\nconnection: close, Idempotency-Key\r\n")),
        ),
        (400, "`Content-Type`", plain(&format!("host: x\r\n{json}connection: content-type\r\n"))),
        (400, "`Prefer`", plain(&format!("host: x\r\n{json}prefer: wait=1\r\nconnection: close\r\nconnection: x, prefer\r\n"))),
    ];
    for service in [Service::Order, Service::Gateway] {
        let port = system.instance(service).port;
        for (status, words, request) in &refused {
            let answer = half_closed(port, request).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")) && answer.contains(words), "{request}\n{answer}");
            assert!(answer.contains("application/problem+json"), "{answer}");
        }
        let taken = [
            plain("host: x\r\ncontent-type: application/json; charset=\"UTF-8\"\r\n"),
            format!("POST /orders HTTP/1.1\r\nhost: x\r\n{json}transfer-encoding: Chunked\r\n\r\n{chunked}"),
            plain(&format!("host:\r\n{json}connection: keep-alive, x-mine\r\nx-mine: 1\r\n")),
        ];
        for request in taken {
            let answer = half_closed(port, &request).await;
            assert!(answer.starts_with("HTTP/1.1 202 "), "{request}\n{answer}");
        }
    }
    for service in Service::ALL {
        let options = half_closed(system.instance(service).port, "OPTIONS * HTTP/1.1\r\nhost: x\r\n\r\n").await;
        assert!(options.starts_with("HTTP/1.1 204 ") && options.contains("allow: GET, HEAD, POST"), "{options}");
    }
    assert_eq!(system.audit().await.orders, 6, "what was refused did nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_is_repeated_briefly_and_values_are_refused_in_our_words() {
    let system = System::new().await;
    let long = "x".repeat(20_000);
    for (service, list) in LISTS {
        for client in system.clients(service) {
            for request in [format!("{list}/{long}"), format!("{list}?{long}=1"), format!("{list}?cursor={long}")] {
                let problem = client.get(&request).await.problem(400, "malformed");
                assert!(problem["detail"].as_str().unwrap().chars().count() <= 200, "{problem:#}");
            }
            for value in ["x", "+5", "%2B5", "5.0", "", "0", "201", "99999999999999999999", "%ff"] {
                let problem = client.get(&format!("{list}?limit={value}")).await.problem(400, "malformed");
                assert_eq!(problem["detail"], "`limit` must be a number from 1 to 200", "{value}");
            }
            client.get(&format!("{list}?limit=5")).await.expect(200);
            let answer = client.post(list, &json!({ &long: long })).await;
            assert!(answer.status == 422 && answer.text.len() < 1_500, "{answer:?}");
        }
    }
    let orders = system.client(Service::Order);
    for (query, word) in [("older_than=x", "older_than"), ("stuck=maybe", "stuck"), ("limit=%2B5", "limit")] {
        let problem = orders.get(&format!("/sagas?{query}")).await.problem(400, "malformed");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.starts_with(&format!("`{word}` must be ")), "{detail}");
    }
    for blank in ["\u{2800}", "\u{fffc}", "a\u{2800}", "\u{1d159}"] {
        let user = json!({ "email": "a@example.com", "name": blank });
        assert_eq!(system.client(Service::User).post("/users", &user).await.invalid(), ["/name"], "{blank:?}");
    }
}
