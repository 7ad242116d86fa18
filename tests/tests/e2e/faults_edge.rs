//! Clients that hang up, and clients that never come to the point.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use events::OrderId;
use futures_util::future::join_all;
use serde_json::json;
use testkit::{Service, System, eventually, order_body};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Sends this much of a request, stays for a moment, and hangs up without reading the answer.
async fn hang_up(port: u16, request: &str, stay: Duration) {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).await.expect("connected");
    socket.write_all(request.as_bytes()).await.expect("sent");
    tokio::time::sleep(stay).await;
}

fn post(path: &str, key: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nHost: waybill\r\nContent-Type: application/json\r\nIdempotency-Key: {key}\r\nContent-Length: {length}\r\n\r\n{body}"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_hangs_up_leaves_all_or_nothing_and_harms_nobody() {
    const EACH: usize = 60;
    let system = System::builder().impatient().start().await;
    let (user, product) = (system.create_user(true).await, system.create_product(10_000, 100).await);
    let (port, body) = (system.instance(Service::Order).port, order_body(user, &[(product, 1)]).to_string());
    let keys = |kind: &str| (0..EACH).map(|n| format!("{kind}-{n}")).collect::<Vec<String>>();
    let (half, whole) = (keys("half"), keys("whole"));
    // Moments from at once to after the commit.
    let stay = |n: usize| Duration::from_micros(n as u64 * 200);
    join_all(half.iter().enumerate().map(|(n, key)| {
        let request = post("/orders", key, &body);
        async move { hang_up(port, &request[..request.len() - 20], stay(n)).await }
    }))
    .await;
    join_all(whole.iter().enumerate().map(|(n, key)| {
        let request = post("/orders", key, &body);
        async move { hang_up(port, &request, stay(n)).await }
    }))
    .await;

    // The pool is not poisoned: whoever is told that an order was taken finds it.
    let taken: BTreeSet<OrderId> = system.submit_many(50, user, &[(product, 1)]).await.into_iter().collect();
    assert_eq!(taken.len(), 50);
    for order in &taken {
        assert_eq!(system.wait_final(*order).await["status"], "confirmed");
    }
    let kept: BTreeSet<String> = sqlx::query_scalar("select idempotency_key from orders where idempotency_key is not null")
        .fetch_all(&system.order_db)
        .await
        .unwrap()
        .into_iter()
        .collect();
    assert!(kept.iter().all(|key| key.starts_with("whole-")), "half a request is no order: {kept:?}");
    assert!(!kept.is_empty(), "no request was whole when its client hung up");

    // Whoever asks again with the key gets the order there is, or a new one.
    for key in half.iter().chain(&whole) {
        let answer = system.try_submit(user, &[(product, 1)], key).await.expect("an answer");
        answer.expect(202);
        assert_eq!(answer.header("idempotency-replayed") == "true", kept.contains(key), "{key}");
    }
    let audit = system.audit().await;
    assert_eq!((audit.orders, audit.confirmed), (50 + 2 * EACH, 50 + 2 * EACH), "one order for each key");

    // The same for cancellations, and for reads.
    join_all(taken.iter().enumerate().map(|(n, order)| {
        let cancel = post(&format!("/orders/{order}/cancel"), &format!("cancel-{n}"), "{}");
        async move {
            let read = hang_up(port, "GET /orders HTTP/1.1\r\nHost: waybill\r\n\r\n", stay(n));
            tokio::join!(hang_up(port, &cancel, stay(n)), read);
        }
    }))
    .await;
    let client = system.client(Service::Order);
    eventually(Duration::from_secs(10), || async {
        let page = client.get("/orders?status=cancelled&limit=100").await.expect(200);
        if page["items"].as_array().is_some_and(|items| !items.is_empty()) { Ok(()) } else { Err(page) }
    })
    .await;
    let orders = system.submit_many(20, user, &[(product, 1)]).await;
    for order in orders {
        assert_eq!(system.wait_final(order).await["status"], "confirmed");
    }
    let audit = system.audit().await;
    assert!(audit.cancelled > 0, "{audit:?}");
    assert_eq!(system.stock(product).await.1, audit.confirmed as i64);
}

/// As many sockets as this machine lets us have, up to two thousand. Each takes two files: both ends are ours.
fn sockets_at_once() -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).expect("as many open files as we may have");
    let files = maximum.map_or(usize::MAX, |files| files as usize);
    (files.saturating_sub(500) / 2).min(2_000)
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_clients_by_the_thousand_are_let_go_and_the_others_served() {
    let slow = sockets_at_once();
    assert!(slow >= 200, "too few open files for this test: ulimit -n");
    let timeout = Duration::from_secs(3);
    let system = System::builder().order(|order| order.parts.http.http_header_timeout = timeout).start().await;
    let (user, product) = (system.create_user(true).await, system.create_product(1_000, 100).await);
    let port = system.instance(Service::Order).port;
    let began = Instant::now();
    let mut sockets = Vec::with_capacity(slow);
    for _ in 0..slow {
        let mut socket = TcpStream::connect(("127.0.0.1", port)).await.expect("connected");
        socket.write_all(b"POST /orders HTTP/1.1\r\nHost: waybill\r\n").await.expect("sent");
        sockets.push(socket);
    }
    let opened = began.elapsed();
    let served = Instant::now();
    let orders = system.submit_many(50, user, &[(product, 1)]).await;
    let served = served.elapsed();
    let open = sockets.iter().filter(|socket| socket.try_read(&mut [0; 1]).is_err()).count();
    assert!(open > slow / 2, "only {open} of {slow} were open when the others were served, after {opened:?} and {served:?}");
    let ends = join_all(sockets.into_iter().map(|mut socket| async move {
        // Another word in time does not help: the head as a whole is late. (It may be over before this one.)
        let _ = socket.write_all(b"X-Slow: very\r\n").await;
        let mut rest = Vec::new();
        tokio::time::timeout(Duration::from_secs(10), socket.read_to_end(&mut rest)).await
    }))
    .await;
    assert_eq!(ends.iter().filter(|end| end.is_ok()).count(), slow, "every slow client was let go");
    assert!(began.elapsed() >= timeout, "not before its time");

    for order in orders {
        assert_eq!(system.wait_final(order).await["status"], "confirmed");
    }
    let place = system.client(Service::Order).post("/orders", &order_body(user, &[(product, 1)])).await;
    assert_eq!(place.expect(202)["status"], json!("pending"));
    assert_eq!(system.audit().await.confirmed, 51);
}
