//! Services that are down, hang or break off, and clients that try to make one look so.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{Method, Request, StatusCode};
use futures_util::{StreamExt, stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::kit::{Gateway, Standin, echo, never, nowhere, request, send};

#[tokio::test]
async fn a_service_that_is_down_costs_only_its_own_routes_and_is_used_again_when_it_returns() {
    let (user, mut order) = (Standin::new(echo("user")), Standin::new(echo("order")));
    let settings = ["--failures=3", "--probe-interval=0.2"];
    let gateway = Gateway::start(&user.url(), &nowhere(), &order.url(), &settings).await;
    assert_eq!(gateway.get("/orders").await.status, StatusCode::CREATED);
    order.kill();
    for n in 0..20 {
        let answer = gateway.post("/orders").await;
        // A connection of before may break under the first one.
        if n > 0 || answer.status != StatusCode::BAD_GATEWAY {
            answer.assert_problem(StatusCode::SERVICE_UNAVAILABLE, "the order service does not answer; try again shortly");
            assert_eq!(answer.headers["retry-after"], "1");
        }
        assert_eq!(gateway.get("/users").await.status, StatusCode::CREATED);
    }
    assert_eq!(gateway.get("/readyz").await.status, StatusCode::OK, "it can serve what is left");
    order.revive(echo("order"));
    let returned = Instant::now();
    while gateway.get("/orders").await.status != StatusCode::CREATED {
        assert!(returned.elapsed() < Duration::from_secs(2), "the service is back and unused");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_service_that_hangs_is_504_until_the_breaker_opens_then_503_at_once() {
    let (user, order) = (Standin::new(echo("user")), Standin::new(never()));
    let settings = ["--failures=2", "--probe-interval=30", "--answer-timeout=0.4"];
    let gateway = Gateway::start(&user.url(), &nowhere(), &order.url(), &settings).await;
    for _ in 0..2 {
        let answer = gateway.get("/orders").await;
        answer.assert_problem(StatusCode::GATEWAY_TIMEOUT, "the order service took too long to answer; reading again is safe");
    }
    let started = Instant::now();
    for _ in 0..20 {
        assert_eq!(gateway.get("/orders").await.status, StatusCode::SERVICE_UNAVAILABLE);
    }
    assert!(started.elapsed() < Duration::from_millis(400), "twenty refusals took {:?}", started.elapsed());
    assert_eq!(gateway.get("/users").await.status, StatusCode::CREATED);
}

#[tokio::test]
async fn what_a_service_answers_is_its_own_affair() {
    let order = Standin::new(Router::new().fallback(|| async {
        (StatusCode::SERVICE_UNAVAILABLE, [("retry-after", "7"), ("content-type", "application/problem+json")], "{\"busy\":1}")
    }));
    let gateway = Gateway::start(&nowhere(), &nowhere(), &order.url(), &["--failures=1", "--probe-interval=30"]).await;
    for _ in 0..3 {
        let answer = gateway.get("/orders").await;
        assert_eq!((answer.status, answer.text()), (StatusCode::SERVICE_UNAVAILABLE, "{\"busy\":1}"));
        assert_eq!(answer.headers["retry-after"], "7");
    }
}

#[tokio::test]
async fn a_client_cannot_open_the_breaker_for_the_others() {
    let order = Standin::new(echo("order"));
    let settings = ["--failures=1", "--probe-interval=30", "--http-body-timeout=2"];
    let gateway = Gateway::start(&nowhere(), &nowhere(), &order.url(), &settings).await;

    let slow = Body::from_stream(stream::pending::<Result<Bytes, Infallible>>());
    let answer = send(Request::post(gateway.url("/orders")).body(slow).unwrap()).await;
    answer.assert_problem(StatusCode::REQUEST_TIMEOUT, "the body did not come in time; nothing was done");

    let endless = stream::repeat_with(|| Ok::<_, Infallible>(Bytes::from(vec![b' '; 16 * 1024]))).take(20);
    let answer = send(Request::post(gateway.url("/orders")).body(Body::from_stream(endless)).unwrap()).await;
    assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);

    let mut broken = TcpStream::connect(gateway.address).await.unwrap();
    broken
        .write_all(b"POST /orders HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\nnot a length\r\n")
        .await
        .unwrap();
    broken.read_to_end(&mut Vec::new()).await.unwrap();

    assert_eq!(gateway.get("/orders").await.status, StatusCode::CREATED);
}

#[tokio::test]
async fn a_connection_that_died_in_the_pool_is_nobodys_problem() {
    // Answers one request on each connection, then closes it under the second one without a word.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut buffer = [0; 4096];
                let _ = stream.read(&mut buffer).await;
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
                let _ = stream.read(&mut buffer).await;
            });
        }
    });
    let gateway = Gateway::start(&nowhere(), &nowhere(), &url, &["--failures=1", "--probe-interval=0.05"]).await;
    // Every second one meets a dead connection; after five, one is left in the pool.
    for _ in 0..5 {
        assert_eq!(gateway.get("/orders").await.status, StatusCode::OK, "reads are sent again");
    }
    // What bears a key is sent again too: it is carried out once.
    let keyed = || Request::post(gateway.url("/orders")).header("idempotency-key", "k").body(Body::from("{}")).unwrap();
    for _ in 0..2 {
        assert_eq!(send(keyed()).await.status, StatusCode::OK);
    }
    // What may have been carried out without one never is; the client is told.
    let mut broken = 0;
    for _ in 0..4 {
        let answer = gateway.post("/orders").await;
        if answer.status != StatusCode::OK {
            let detail = "the order service broke off; the request may have been carried out or not";
            answer.assert_problem(StatusCode::BAD_GATEWAY, detail);
            broken += 1;
        }
    }
    assert_eq!(broken, 2, "every second one");
}

/// Reads a head and a little of the body, answers every second one, and closes on a client that still writes: a reset. What has no body is
/// answered well.
async fn rude() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let mut answers = [true, false].into_iter().cycle();
        while let Ok((mut stream, _)) = listener.accept().await {
            let answers = answers.next().unwrap();
            tokio::spawn(async move {
                let mut buffer = [0; 1024];
                while let Ok(read @ 1..) = stream.read(&mut buffer).await {
                    if buffer[..read].starts_with(b"POST") {
                        stream.set_zero_linger().unwrap();
                        if answers {
                            let _ = stream.write_all(b"HTTP/1.1 415 No\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await;
                        }
                        return;
                    }
                    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
                }
            });
        }
    });
    url
}

#[tokio::test]
async fn a_service_that_breaks_off_uploads_is_not_down() {
    let gateway = Gateway::start(&nowhere(), &nowhere(), &rude().await, &["--failures=2", "--probe-interval=30"]).await;
    let body = " ".repeat(100_000);
    let mut broken = 0;
    for _ in 0..20 {
        let answer = send(request(Method::POST, gateway.url("/orders"), &body)).await;
        assert!([StatusCode::UNSUPPORTED_MEDIA_TYPE, StatusCode::BAD_GATEWAY].contains(&answer.status), "{}", answer.status);
        broken += usize::from(answer.status == StatusCode::BAD_GATEWAY);
        assert_eq!(gateway.get("/orders").await.status, StatusCode::OK, "others are served");
    }
    assert!(broken > 5, "only {broken} were reset");
}

/// Takes a request, and closes without a word.
async fn breaking() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move { stream.read(&mut [0; 4096]).await });
        }
    });
    url
}

#[tokio::test]
async fn an_answer_that_is_lost_says_what_may_have_happened_and_what_is_safe() {
    let (order, user) = (breaking().await, Standin::new(never()));
    let settings = ["--failures=1", "--probe-interval=30", "--answer-timeout=2"];
    let maybe = "the request may have been carried out or not";
    let safe = "repeating it with the same Idempotency-Key is safe";
    for (key, advice) in [(None, maybe.to_owned()), (Some("k"), format!("{maybe}; {safe}"))] {
        let gateway = Gateway::start(&user.url(), &nowhere(), &order, &settings).await;
        let post = |path: &str| {
            let mut request = request(Method::POST, gateway.url(path), "{}");
            request
                .headers_mut()
                .extend(key.map(|key| (axum::http::HeaderName::from_static("idempotency-key"), key.parse().unwrap())));
            send(request)
        };
        for _ in 0..3 {
            post("/orders").await.assert_problem(StatusCode::BAD_GATEWAY, &format!("the order service broke off; {advice}"));
        }
        let detail = format!("the user service took too long to answer; {advice}");
        post("/users").await.assert_problem(StatusCode::GATEWAY_TIMEOUT, &detail);
        // Nothing of these can have happened.
        for path in ["/users", "/products"] {
            assert_eq!(post(path).await.status, StatusCode::SERVICE_UNAVAILABLE);
        }
    }
    let gateway = Gateway::start(&user.url(), &nowhere(), &order, &settings).await;
    let answer = send(request(Method::PATCH, gateway.url("/orders"), "{}")).await;
    answer.assert_problem(StatusCode::BAD_GATEWAY, &format!("the order service broke off; {maybe}; repeating it is safe"));
}

#[tokio::test]
async fn a_restart_of_a_service_shows_in_no_read() {
    let mut order = Standin::new(echo("order"));
    let gateway = Gateway::start(&nowhere(), &nowhere(), &order.url(), &[]).await;
    for _ in 0..5 {
        let together = (0..20).map(|_| gateway.get("/orders"));
        for answer in futures_util::future::join_all(together).await {
            assert_eq!(answer.status, StatusCode::CREATED);
        }
        order.kill();
        order.revive(echo("order"));
    }
}

#[tokio::test]
async fn one_service_holds_only_so_many_requests() {
    let (user, order) = (Standin::new(echo("user")), Standin::new(never()));
    let gateway = Gateway::start(&user.url(), &nowhere(), &order.url(), &["--in-flight=2"]).await;
    let held: Vec<_> = (0..2).map(|_| tokio::spawn(send(request(Method::GET, gateway.url("/orders"), "")))).collect();
    let started = Instant::now();
    loop {
        let asked = tokio::time::timeout(Duration::from_millis(200), gateway.get("/orders")).await;
        if let Ok(answer) = asked {
            answer.assert_problem(
                StatusCode::SERVICE_UNAVAILABLE,
                "too many requests wait for the order service; try again shortly",
            );
            break;
        }
        assert!(started.elapsed() < Duration::from_secs(5), "nothing bounds them");
    }
    assert_eq!(gateway.get("/users").await.status, StatusCode::CREATED);
    held.iter().for_each(|held| held.abort());
}
