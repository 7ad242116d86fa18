//! Nobody takes the others' room: places for connections, requests and streams, and clients that hold on to them.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{Method, StatusCode};
use axum::response::IntoResponse;
use futures_util::future::join_all;
use futures_util::{StreamExt, stream};
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::mpsc;

use crate::kit::{self, Gateway, Standin, echo, nowhere, request, send};

const UNFINISHED: &[u8] = b"POST /orders HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{";

/// Connections that have sent this and now wait.
async fn hold(address: SocketAddr, count: usize, text: &[u8]) -> Vec<TcpStream> {
    let mut held = Vec::with_capacity(count);
    for _ in 0..count {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(text).await.unwrap();
        held.push(stream);
    }
    held
}

/// A request on a connection of its own, from this address of this machine.
async fn ask_from(source: &str, address: SocketAddr, path: &str) -> String {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(format!("{source}:0").parse().unwrap()).unwrap();
    let mut stream = socket.connect(address).await.unwrap();
    let _ = stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").as_bytes()).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn unfinished_bodies_take_no_place_and_are_let_go() {
    let order = Standin::new(echo("order"));
    let flags = ["--in-flight=2", "--http-body-timeout=4"];
    let gateway = Gateway::start(&nowhere(), &nowhere(), &order.url(), &flags).await;
    let begun = Instant::now();
    let held = hold(gateway.address, 2_100, UNFINISHED).await;
    for _ in 0..20 {
        assert_eq!(gateway.post("/orders").await.status, StatusCode::CREATED);
    }
    let open = held.iter().filter(|stream| stream.try_read(&mut [0; 1]).is_err()).count();
    assert!(open > 0, "none was open any more when the others were served, {:?} later", begun.elapsed());
    for mut stream in held {
        let mut answer = Vec::new();
        tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut answer)).await.expect("let go").unwrap();
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.contains("TTP/1.1 408 ") && answer.contains("urn:waybill:problem:too-slow"), "{answer}");
    }
}

#[tokio::test]
async fn large_bodies_have_a_bounded_memory_and_small_ones_their_own() {
    let order = Standin::new(echo("order"));
    let gateway =
        Gateway::start(&nowhere(), &nowhere(), &order.url(), &["--http-body-memory=1", "--http-client-share=100"]).await;
    let mut large = b"POST /orders HTTP/1.1\r\nhost: x\r\ncontent-length: 262144\r\n\r\n".to_vec();
    large.resize(large.len() + 262_143, b' ');
    let mut held = hold(gateway.address, 4, &large).await;
    // The fifth finds no room once the four have arrived; before that it does.
    let body = " ".repeat(262_144);
    let begun = Instant::now();
    loop {
        let answer = send(request(Method::POST, gateway.url("/orders"), &body)).await;
        if answer.status == StatusCode::SERVICE_UNAVAILABLE {
            answer.assert_problem(StatusCode::SERVICE_UNAVAILABLE, "too many large bodies are on their way; try again shortly");
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(5), "nothing bounds them");
    }
    let small = send(request(Method::POST, gateway.url("/orders"), &" ".repeat(16_000))).await;
    assert_eq!(small.status, StatusCode::CREATED);
    // They are whole, and their memory is free again.
    for stream in &mut held {
        stream.write_all(b" ").await.unwrap();
        let mut head = [0; 12];
        stream.read_exact(&mut head).await.unwrap();
        assert_eq!(&head, b"HTTP/1.1 201");
    }
    assert_eq!(send(request(Method::POST, gateway.url("/orders"), &body)).await.status, StatusCode::CREATED);
}

#[tokio::test]
async fn health_is_answered_when_every_connection_is_taken() {
    let order = Standin::new(echo("order"));
    let flags = ["--http-connections=64", "--http-connections-per-client=64"];
    let gateway = Gateway::start(&nowhere(), &nowhere(), &order.url(), &flags).await;
    let held = hold(gateway.address, 70, b"GET /orders HTTP/1.1\r\n").await;
    for path in ["/livez", "/health", "/readyz", "/metrics", "/v1/orders"] {
        let answer = gateway.get(path).await;
        if path == "/v1/orders" {
            answer.assert_problem(StatusCode::SERVICE_UNAVAILABLE, "too many connections are open; try again shortly");
            assert_eq!(answer.headers["connection"], "close");
        } else {
            assert_eq!(answer.status, StatusCode::OK, "{path}");
        }
    }
    drop(held);
    let begun = Instant::now();
    while gateway.get("/orders").await.status != StatusCode::CREATED {
        assert!(begun.elapsed() < Duration::from_secs(5), "the places come back");
    }
}

#[tokio::test]
async fn one_client_does_not_get_all_connections() {
    let order = Standin::new(echo("order"));
    let flags = ["--http-connections=40"];
    let gateway = Gateway::start(&nowhere(), &nowhere(), &order.url(), &flags).await;
    // Three quarters, the reserve, and more that are closed at once.
    let _held = hold(gateway.address, 30, b"GET /orders HTTP/1.1\r\n").await;
    let own = ask_from("127.0.0.1", gateway.address, "/orders").await;
    assert!(own.starts_with("HTTP/1.1 503 "), "{own}");
    let _reserve = hold(gateway.address, 64, b"GET /orders HTTP/1.1\r\n").await;
    let one_more = ask_from("127.0.0.1", gateway.address, "/livez").await;
    assert_eq!(one_more, "", "closed at once");
    for path in ["/orders", "/livez"] {
        let other = ask_from("127.0.0.2", gateway.address, path).await;
        assert!(other.starts_with("HTTP/1.1 20"), "{other}");
    }
}

#[tokio::test]
async fn a_client_that_never_reads_is_let_go_and_what_it_asked_for_too() {
    struct Gone(mpsc::UnboundedSender<()>);
    impl Drop for Gone {
        fn drop(&mut self) {
            let _ = self.0.send(());
        }
    }
    let (gone, mut departures) = mpsc::unbounded_channel();
    let order = Standin::new(Router::new().fallback(move || {
        let gone = Gone(gone.clone());
        async move {
            let endless = stream::repeat_with(|| Ok::<_, Infallible>(Bytes::from(vec![b' '; 64 * 1024])));
            Body::from_stream(endless.map(move |piece| {
                let _held = &gone;
                piece
            }))
        }
    }));
    let flags = ["--http-write-timeout=0.5", "--http-connections=80", "--http-connections-per-client=80"];
    let gateway = Gateway::start(&nowhere(), &nowhere(), &order.url(), &flags).await;
    let held = hold(gateway.address, 70, b"GET /orders/1/events HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert_eq!(gateway.get("/livez").await.status, StatusCode::OK);
    for _ in 0..70 {
        let gone = tokio::time::timeout(Duration::from_secs(20), departures.recv()).await;
        gone.expect("the service still works for nobody");
    }
    drop(held);
}

#[tokio::test]
async fn streams_have_places_of_their_own() {
    let order = Standin::new(Router::new().route("/orders", axum::routing::get(|| async { "page" })).fallback(|| async {
        let first = stream::once(async { Ok::<_, Infallible>("data: 1\n\n") });
        ([("content-type", "text/event-stream")], Body::from_stream(first.chain(stream::pending())))
    }));
    let flags = ["--http-streams=2", "--in-flight=1", "--http-client-share=100"];
    let gateway = Gateway::start(&nowhere(), &nowhere(), &order.url(), &flags).await;
    let open = async || kit::client().request(request(Method::GET, gateway.url("/orders/1/events"), "")).await.unwrap();
    let (mut one, two) = (open().await, open().await);
    assert_eq!((one.status(), two.status()), (StatusCode::OK, StatusCode::OK));
    assert_eq!(one.body_mut().frame().await.unwrap().unwrap().into_data().unwrap(), "data: 1\n\n");
    let refused = gateway.get("/orders/1/events").await;
    refused.assert_problem(StatusCode::SERVICE_UNAVAILABLE, "too many live streams are open; try again shortly");
    assert_eq!(gateway.get("/orders").await.text(), "page", "requests go on");
    drop(two);
    // It is found out when the next line is written to it, and there is none: so its connection is reset.
    drop(one);
}

/// Sends this from this address of this machine; the connection, and the status once it is known.
async fn begin(source: &str, address: SocketAddr, text: &[u8]) -> (TcpStream, String) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(format!("{source}:0").parse().unwrap()).unwrap();
    let mut stream = socket.connect(address).await.unwrap();
    stream.write_all(text).await.unwrap();
    let mut status = [0; 12];
    let read = tokio::time::timeout(Duration::from_secs(2), stream.read_exact(&mut status)).await;
    let status = read.map_or_else(|_| "waits", |_| std::str::from_utf8(&status[9..]).unwrap()).to_owned();
    (stream, status)
}

/// The same many times at once, and how many of them had this status.
async fn begin_many(count: usize, source: &str, address: SocketAddr, text: &[u8], status: &str) -> (Vec<TcpStream>, usize) {
    let begun = join_all((0..count).map(|_| begin(source, address, text))).await;
    let of_status = begun.iter().filter(|(_, had)| had == status).count();
    (begun.into_iter().map(|(stream, _)| stream).collect(), of_status)
}

#[tokio::test]
async fn silent_connections_of_several_addresses_leave_one_to_the_next() {
    let order = Standin::new(echo("order"));
    let gateway = Gateway::start(&nowhere(), &nowhere(), &order.url(), &["--http-connections=40"]).await;
    let silent = ["127.0.0.1", "127.0.0.2"].map(|source| begin_many(120, source, gateway.address, b"GET /orders", "waits"));
    let silent = join_all(silent).await;
    assert!(silent.iter().all(|(_, open)| *open > 0), "both hold some");
    for source in ["127.0.0.3", "127.0.0.4"] {
        let answer = ask_from(source, gateway.address, "/orders").await;
        assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
    }
}

#[tokio::test]
async fn one_address_does_not_get_all_streams_waits_places_or_memory() {
    let order = Standin::new(Router::new().fallback(|request: axum::extract::Request| async move {
        let path = request.uri().path().to_owned();
        if request.headers().contains_key("prefer") || path == "/orders/never" {
            return std::future::pending().await;
        }
        if path == "/orders/1/events" {
            let first = stream::once(async { Ok::<_, Infallible>("data: 1\n\n") });
            return Body::from_stream(first.chain(stream::pending())).into_response();
        }
        StatusCode::ACCEPTED.into_response()
    }));
    let flags = ["--http-streams=40", "--waiting=40", "--in-flight=40", "--http-body-memory=1"];
    let gateway = Gateway::start(&nowhere(), &nowhere(), &order.url(), &flags).await;
    let (one, other) = ("127.0.0.1", "127.0.0.2");
    // A loopback address may be a proxy too: its own requests are one of its clients. So the share of the share.
    let (all, share) = (60, 22);

    let follow = b"GET /orders/1/events HTTP/1.1\r\nhost: x\r\n\r\n";
    let (_streams, followed) = begin_many(all, one, gateway.address, follow, "200").await;
    assert_eq!(followed, share);
    let (_stream, status) = begin(other, gateway.address, follow).await;
    assert_eq!(status, "200");
    // Whoever invents addresses shares with himself.
    let mut invented = Vec::new();
    for number in 0..all {
        let forged = format!("GET /orders/1/events HTTP/1.1\r\nhost: x\r\nx-forwarded-for: 10.0.0.{number}\r\n\r\n");
        invented.push(begin("127.0.0.3", gateway.address, forged.as_bytes()).await);
    }
    let followed = invented.iter().filter(|(_, status)| status == "200").count();
    assert!(followed <= (40 - share - 1) * 3 / 4, "{followed}");
    assert_eq!(begin("127.0.0.4", gateway.address, follow).await.1, "200");

    let wait = b"POST /orders HTTP/1.1\r\nhost: x\r\nprefer: wait=30\r\ncontent-length: 0\r\n\r\n";
    let (_waiting, at_once) = begin_many(30, one, gateway.address, wait, "202").await;
    assert_eq!(at_once, 30 - share, "who finds no room to wait is answered at once");
    assert_eq!(begin(other, gateway.address, wait).await.1, "waits");
    assert_eq!(
        begin(one, gateway.address, b"GET /orders HTTP/1.1\r\nhost: x\r\n\r\n").await.1,
        "202",
        "and takes no place of others"
    );

    let never = b"GET /orders/never HTTP/1.1\r\nhost: x\r\n\r\n";
    let (_held, refused) = begin_many(all, one, gateway.address, never, "503").await;
    assert_eq!(refused, all - share);
    assert_eq!(begin(other, gateway.address, b"GET /orders HTTP/1.1\r\nhost: x\r\n\r\n").await.1, "202");

    let post = |length: usize, sent: usize| {
        let mut post = format!("POST /orders HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n").into_bytes();
        post.resize(post.len() + sent, b' ');
        post
    };
    let (mut stalled, refused) = begin_many(4, one, gateway.address, &post(262_144, 262_000), "503").await;
    assert_eq!(refused, 2);
    assert_eq!(begin(other, gateway.address, &post(30_000, 30_000)).await.1, "202");
    // However fast a body came, it may not stall.
    let begun = Instant::now();
    let ends = stalled.iter_mut().map(|stream| async {
        let mut end = Vec::new();
        let _ = tokio::time::timeout(Duration::from_secs(12), stream.read_to_end(&mut end)).await;
        String::from_utf8_lossy(&end).contains("urn:waybill:problem:too-slow")
    });
    let slow = join_all(ends).await.into_iter().filter(|slow| *slow).count();
    assert_eq!(slow, 2, "after {:?}", begun.elapsed());
}
