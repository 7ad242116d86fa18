//! Bodies that take their time, clients that leave, and the end of the gateway.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Method;
use axum::routing::{any, get};
use futures_util::stream;
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc};

use crate::kit::{self, Gateway, Standin, nowhere, request, send};

#[tokio::test]
async fn events_arrive_as_they_are_sent_and_outlive_the_answer_timeout() {
    let go = Arc::new(Notify::new());
    let wait = go.clone();
    let order = Standin::new(Router::new().fallback(move || async move {
        let events = stream::unfold(0, move |n| {
            let wait = wait.clone();
            async move {
                if n > 0 {
                    wait.notified().await;
                }
                (n < 3).then(|| (Ok::<_, Infallible>(format!("data: {n}\n\n")), n + 1))
            }
        });
        ([("content-type", "text/event-stream")], Body::from_stream(events))
    }));
    let gateway = Gateway::start(&nowhere(), &nowhere(), &order.url(), &["--answer-timeout=0.2", "--http-timeout=0.2"]).await;
    let mut response = kit::client().request(request(Method::GET, gateway.url("/orders/1/events"), "")).await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    for n in 0..3 {
        let event = response.body_mut().frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(event, format!("data: {n}\n\n"));
        if n == 0 {
            tokio::time::sleep(Duration::from_millis(1500)).await;
        }
        go.notify_one();
    }
    assert!(response.body_mut().frame().await.is_none(), "the end is passed on as an end");
}

#[tokio::test]
async fn a_client_that_leaves_ends_its_request_at_the_service_too() {
    struct Gone(mpsc::UnboundedSender<&'static str>, &'static str);
    impl Drop for Gone {
        fn drop(&mut self) {
            let _ = self.0.send(self.1);
        }
    }
    let (started, mut starts) = mpsc::unbounded_channel();
    let (gone, mut departures) = mpsc::unbounded_channel();
    let (started_too, gone_too) = (started.clone(), gone.clone());
    let order = Standin::new(
        Router::new()
            .route(
                "/orders/waiting",
                any(|| async move {
                    let _gone = Gone(gone, "waiting");
                    started.send(()).unwrap();
                    std::future::pending::<()>().await;
                }),
            )
            .route(
                "/orders/watching",
                get(|| async move {
                    let gone = Gone(gone_too, "watching");
                    started_too.send(()).unwrap();
                    // As live events do: now and then a line, to see whether anybody is there.
                    let lines = stream::unfold(gone, |gone| async move {
                        tokio::time::sleep(Duration::from_millis(50)).await;
                        Some((Ok::<_, Infallible>("data: 1\n\n"), gone))
                    });
                    Body::from_stream(lines)
                }),
            ),
    );
    let gateway = Gateway::start(&nowhere(), &nowhere(), &order.url(), &[]).await;
    for (head, path) in [("POST /orders/waiting", "waiting"), ("GET /orders/watching", "watching")] {
        let mut client = TcpStream::connect(gateway.address).await.unwrap();
        client.write_all(format!("{head} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).await.unwrap();
        starts.recv().await.unwrap();
        if path == "watching" {
            let mut answer = [0; 12];
            client.read_exact(&mut answer).await.unwrap();
            assert_eq!(&answer, b"HTTP/1.1 200");
        }
        // A client that only closes may have closed its writing side alone, and is found out when something is written to it.
        if path == "waiting" {
            client.set_zero_linger().unwrap();
        }
        drop(client);
        let gone = tokio::time::timeout(Duration::from_secs(5), departures.recv()).await;
        assert_eq!(gone.expect("the service still works for nobody"), Some(path));
    }
}

#[tokio::test]
async fn a_request_under_way_is_finished_before_the_gateway_ends() {
    let (go, started) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (wait, start) = (go.clone(), started.clone());
    let order = Standin::new(Router::new().fallback(move || async move {
        start.notify_one();
        wait.notified().await;
        "finished"
    }));
    let gateway = Gateway::start(&nowhere(), &nowhere(), &order.url(), &[]).await;
    let answer = tokio::spawn(send(request(Method::POST, gateway.url("/orders"), "{}")));
    started.notified().await;
    gateway.shutdown.cancel();
    while TcpStream::connect(gateway.address).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(!gateway.running.is_finished());
    go.notify_one();
    assert_eq!(answer.await.unwrap().text(), "finished");
    tokio::time::timeout(Duration::from_secs(5), gateway.running).await.expect("it ends").unwrap().unwrap();
}

#[tokio::test]
async fn a_client_that_has_closed_its_writing_side_is_answered() {
    let order = Standin::new(Router::new().fallback(|| async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        "late"
    }));
    let gateway = Gateway::start(&nowhere(), &nowhere(), &order.url(), &[]).await;
    for (method, body) in [("GET", ""), ("POST", "{}")] {
        let mut client = TcpStream::connect(gateway.address).await.unwrap();
        let request = format!("{method} /orders HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        client.write_all(request.as_bytes()).await.unwrap();
        client.shutdown().await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("late"), "{answer}");
    }
}
