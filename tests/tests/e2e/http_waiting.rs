//! `Prefer: wait=N` (RFC 7240).

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use reqwest::Method;
use testkit::{Answer, Client, Service, System, answer, order_body};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpSocket;

async fn post(client: &Client, prefer: &str, body: &serde_json::Value) -> Answer {
    answer(client.request(Method::POST, "/orders").header("prefer", prefer).json(body)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_gets_the_final_order_as_soon_as_it_is_final() {
    let system = System::new().await;
    let (user, idle) = (system.create_user(true).await, system.create_user(false).await);
    let product = system.create_product(100, 100).await;
    for client in system.clients(Service::Order) {
        for (user, status) in [(user, "confirmed"), (idle, "rejected")] {
            for prefer in ["wait=20", "respond-async, wait=20", "wait=\"20\""] {
                let began = Instant::now();
                let answer = post(&client, prefer, &order_body(user, &[(product, 1)])).await;
                let order = answer.expect(201);
                assert_eq!(order["status"], status, "{client:?}");
                assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
                assert_eq!(answer.header("preference-applied"), "wait=20");
                assert_eq!(answer.header("vary").to_ascii_lowercase(), "prefer");
                assert_eq!(answer.header("location"), format!("/orders/{}", order["id"].as_str().unwrap()));
            }
        }
        // Without a wait, or with one that cannot be read: 202 at once, and no word of a preference.
        for prefer in ["respond-async", "wait=soon", "wait=-1"] {
            let answer = post(&client, prefer, &order_body(user, &[(product, 1)])).await;
            assert_eq!(answer.expect(202)["status"], "pending");
            assert_eq!(answer.header("preference-applied"), "");
        }
    }
    system.audit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_in_vain_gets_the_order_as_it_is_when_the_time_is_up() {
    let system = System::new().await;
    let (user, product) = (system.create_user(true).await, system.create_product(100, 100).await);
    system.stop(Service::Product).await;
    let body = order_body(user, &[(product, 1)]);
    for (seconds, client) in
        [(1, system.client(Service::Order)), (1, system.client(Service::Gateway)), (0, system.client(Service::Order))]
    {
        let began = Instant::now();
        let answer = post(&client, &format!("wait={seconds}"), &body).await;
        assert_eq!(answer.expect(202)["status"], "pending");
        let elapsed = began.elapsed();
        assert!(elapsed >= Duration::from_secs(seconds) && elapsed < Duration::from_secs(seconds + 5), "{elapsed:?}");
        assert_eq!(answer.header("preference-applied"), format!("wait={seconds}"));
        assert_eq!(answer.header("vary").to_ascii_lowercase(), "prefer");
    }
    system.start(Service::Product).await;
    assert_eq!(system.audit().await.confirmed, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_stops_lets_nobody_wait() {
    let system = System::new().await;
    let (user, product) = (system.create_user(true).await, system.create_product(100, 100).await);
    system.stop(Service::Product).await;
    let (client, body) = (system.client(Service::Order), order_body(user, &[(product, 1)]));
    let waiting = tokio::spawn(async move { post(&client, "wait=30", &body).await });
    testkit::eventually(Duration::from_secs(10), || async {
        let placed: i64 = sqlx::query_scalar("select count(*) from orders").fetch_one(&system.order_db).await.unwrap();
        if placed == 1 { Ok(()) } else { Err(placed) }
    })
    .await;
    let began = Instant::now();
    system.stop(Service::Order).await;
    assert_eq!(waiting.await.unwrap().expect(202)["status"], "pending");
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    system.start(Service::Order).await;
    system.start(Service::Product).await;
    assert_eq!(system.audit().await.confirmed, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_at_one_instance_learns_of_an_end_at_another() {
    let system = System::builder().without(Service::User).start().await;
    let second = system.start_second(Service::Order).await;
    let (user, product) = (events::UserId(uuid::Uuid::now_v7()), system.create_product(100, 100).await);
    let (client, body) = (system.client(Service::Order), order_body(user, &[(product, 1)]));
    let key = uuid::Uuid::now_v7().to_string();
    let request = |client: &Client| {
        let request = client.request(Method::POST, "/orders").header("prefer", "wait=30").header("idempotency-key", &key);
        tokio::spawn(answer(request.json(&body)))
    };
    let first = request(&client);
    let order = testkit::eventually(Duration::from_secs(10), || async {
        let found = sqlx::query_scalar::<_, uuid::Uuid>("select id from orders").fetch_optional(&system.order_db).await.unwrap();
        found.map(events::OrderId).ok_or("not placed")
    })
    .await;
    // The same again waits for the same order, also where it was not placed.
    let again = [request(&client), request(&second.client())];
    second.client().post(&format!("/orders/{order}/cancel"), &serde_json::json!({})).await.expect(202);
    for (waiting, replayed) in std::iter::once((first, "")).chain(again.into_iter().map(|again| (again, "true"))) {
        let waited = waiting.await.unwrap();
        let last = waited.expect(201);
        assert_eq!((&last["id"], &last["status"]), (&order.to_string().into(), &"cancelled".into()));
        assert_eq!(waited.header("idempotency-replayed"), replayed);
    }
    system.start(Service::User).await;
    assert_eq!(system.audit().await.cancelled, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_and_is_gone_leaves_its_place_and_who_only_finished_writing_keeps_it() {
    // Two connections, and nobody answers: both would be taken for half a minute.
    let narrow = |order: &mut order::Settings| order.parts.http.http_connections_per_client = Some(2);
    let system = System::builder().without(Service::User).order(narrow).start().await;
    let user = events::UserId(uuid::Uuid::now_v7());
    let body = order_body(user, &[(events::ProductId(uuid::Uuid::now_v7()), 1)]).to_string();
    let head = "POST /orders HTTP/1.1\r\nHost: waybill\r\nContent-Type: application/json\r\nPrefer: wait=";
    let connect = async |wait: u32| {
        // From an address of its own: this test's other requests, and the gateway, are other clients.
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
        let server = SocketAddr::from(([127, 0, 0, 1], system.instance(Service::Order).port));
        let mut socket = socket.connect(server).await.unwrap();
        let request = format!("{head}{wait}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        socket.write_all(request.as_bytes()).await.unwrap();
        socket
    };
    let placed = async |count: i64| {
        testkit::eventually(Duration::from_secs(10), || async {
            let placed: i64 = sqlx::query_scalar("select count(*) from orders").fetch_one(&system.order_db).await.unwrap();
            if placed == count { Ok(()) } else { Err(placed) }
        })
        .await;
    };
    let began = Instant::now();
    let (mut half, gone) = (connect(15).await, connect(30).await);
    half.shutdown().await.unwrap();
    placed(2).await;
    gone.set_zero_linger().unwrap();
    drop(gone);
    // There is room for one more now, and only for one.
    let mut third = testkit::eventually(Duration::from_secs(10), || async {
        let mut socket = connect(0).await;
        let mut answer = String::new();
        match socket.read_to_string(&mut answer).await {
            Ok(_) if answer.starts_with("HTTP/1.1 202") => Ok(answer),
            other => Err(format!("{other:?}: {answer}")),
        }
    })
    .await;
    assert!(began.elapsed() < Duration::from_secs(14), "the first still waits: {:?}", began.elapsed());
    third.clear();
    half.read_to_string(&mut third).await.unwrap();
    assert!(third.starts_with("HTTP/1.1 202") && third.contains("preference-applied: wait=15"), "{third}");
}

#[tokio::test(flavor = "multi_thread")]
async fn those_who_wait_and_those_who_follow_leave_room_to_others_at_the_services_too() {
    let narrow = |settings: &mut testkit::Settings| {
        settings.gateway.upstream.waiting = 20;
        settings.gateway.upstream.in_flight = 20;
        settings.order.parts.http.http_streams = 64;
        settings.gateway.http.http_streams = 64;
    };
    let system = System::builder().without(Service::Product).never_giving_up().settings(narrow).start().await;
    let (user, product) = (system.create_user(true).await, events::ProductId(uuid::Uuid::now_v7()));
    let order = system.submit(user, &[(product, 1)]).await;
    system.wait_entries(order, 2).await;
    let client = |source: [u8; 4]| {
        let client = reqwest::Client::builder().local_address(std::net::IpAddr::from(source)).timeout(Duration::from_secs(45));
        client.no_proxy().build().unwrap()
    };
    let (one, other, third) = (client([127, 0, 0, 1]), client([127, 0, 0, 2]), client([127, 0, 0, 3]));
    let url = |service: Service, path: &str| format!("http://127.0.0.1:{}{path}", system.instance(service).port);
    let body = order_body(user, &[(product, 1)]);

    let wait = |client: &reqwest::Client| {
        let request = client.post(url(Service::Gateway, "/orders")).header("prefer", "wait=20").json(&body);
        tokio::spawn(answer(request))
    };
    let mut waiting: Vec<_> = (0..40).map(|_| wait(&one)).collect();
    testkit::eventually(Duration::from_secs(10), || async {
        let at_once = waiting.iter().filter(|waiting| waiting.is_finished()).count();
        if at_once >= 20 { Ok(()) } else { Err(at_once) }
    })
    .await;
    let waits = wait(&other);
    // Nobody's wait takes the place of a read or of an order.
    for client in [&one, &other] {
        assert_eq!(answer(client.get(url(Service::Gateway, &format!("/orders/{order}")))).await.status, 200);
        assert_eq!(answer(client.post(url(Service::Gateway, "/orders")).json(&body)).await.status, 202);
    }
    assert!(!waits.is_finished(), "the other address still finds room to wait");
    waiting.retain(|waiting| waiting.is_finished());
    for at_once in waiting {
        let at_once = at_once.await.unwrap();
        if at_once.status == 202 {
            assert_eq!(at_once.header("preference-applied"), "");
        } else {
            // More than the client's places at once, these too.
            at_once.problem(503, "unavailable");
        }
    }

    // Streams: at the gateway, and at the service behind it, for which the gateway tells who asks.
    let events = format!("/orders/{order}/events");
    for (service, one) in [(Service::Order, &third), (Service::Gateway, &one)] {
        let mut streams = Vec::new();
        for _ in 0..80 {
            streams.push(one.get(url(service, &events)).send().await.unwrap());
        }
        let open = streams.iter().filter(|stream| stream.status() == 200).count();
        assert!((5..=48).contains(&open), "{open} of 80 at {service:?}");
        for through in [Service::Gateway, Service::Order] {
            assert_eq!(
                other.get(url(through, &events)).send().await.unwrap().status(),
                200,
                "{through:?} while {service:?} is full"
            );
        }
    }
}
