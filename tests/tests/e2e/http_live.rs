//! `GET /orders/{id}/events` and `/metrics`.

use std::time::Duration;

use futures_util::StreamExt;
use reqwest::Method;
use serde_json::Value;
use testkit::{Answer, Client, Service, System, answer};
use tokio::task::JoinHandle;

/// The entries of a stream of server-sent events that has ended, each with its id.
fn entries(answer: &Answer) -> Vec<(String, Value)> {
    assert_eq!(answer.status, 200, "{answer:#?}");
    assert!(answer.header("content-type").starts_with("text/event-stream"), "{answer:#?}");
    let field =
        |event: &str, name: &str| event.lines().find_map(|line| line.strip_prefix(name).map(|rest| rest.trim().to_owned()));
    assert_eq!(answer.header("cache-control"), "no-store", "{answer:#?}");
    assert_eq!(answer.header("x-accel-buffering"), "no", "{answer:#?}");
    assert!(answer.text.starts_with("retry:") || answer.text.contains("\nretry:"), "when to come again: {answer:#?}");
    let events = answer.text.split("\n\n").filter(|event| event.contains("data:"));
    events
        .map(|event| (field(event, "id:").expect("an id"), serde_json::from_str(&field(event, "data:").unwrap()).expect("JSON")))
        .collect()
}

async fn live(client: &Client, order: events::OrderId, last: Option<&str>) -> Answer {
    let mut request = client.request(Method::GET, &format!("/orders/{order}/events")).header("accept", "text/event-stream");
    if let Some(last) = last {
        request = request.header("last-event-id", last);
    }
    answer(request).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_is_followed_live_to_its_end_and_taken_up_again() {
    let system = System::new().await;
    let (user, product) = (system.create_user(true).await, system.create_product(50, 100).await);
    for client in system.clients(Service::Order) {
        system.stop(Service::Product).await;
        let order = system.submit(user, &[(product, 1)]).await;
        system.wait_entries(order, 2).await;
        let response = client.request(Method::GET, &format!("/orders/{order}/events")).send().await.unwrap();
        let mut body = response.bytes_stream();
        let first = tokio::time::timeout(Duration::from_secs(10), body.next()).await.expect("what there is comes at once");
        assert!(String::from_utf8_lossy(&first.unwrap().unwrap()).contains("data:"));
        // It goes on while the order does, and ends with it.
        let rest = tokio::spawn(async move {
            body.map(|chunk| String::from_utf8(chunk.unwrap().to_vec()).unwrap()).collect::<String>().await
        });
        system.start(Service::Product).await;
        let rest = tokio::time::timeout(Duration::from_secs(20), rest).await.expect("it ends with the order").unwrap();
        assert!(rest.contains("\"sequence\":3"), "{rest}");

        let history = system.history(order).await;
        let all = entries(&live(&client, order, None).await);
        assert_eq!(all.iter().map(|(_, entry)| entry.clone()).collect::<Vec<_>>(), history);
        assert_eq!(all.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>(), ["1", "2", "3"]);
        assert_eq!(entries(&live(&client, order, Some("2")).await), all[2..]);
        for none in ["", " ", "0"] {
            assert_eq!(entries(&live(&client, order, Some(none)).await), all, "{none:?}");
        }
        // Nothing more will come: an EventSource stops only when it is told so.
        let over = live(&client, order, Some("3")).await;
        assert_eq!((over.status, over.text.as_str()), (204, ""), "{over:#?}");
        for garbage in ["x", "4", "-1", "+1", "1.0", "1 2", "99999999999", "\u{e9}"] {
            live(&client, order, Some(garbage)).await.problem(400, "malformed");
        }
        live(&client, events::OrderId(uuid::Uuid::now_v7()), None).await.problem(404, "not-found");
    }
    system.audit().await;
}

/// Opens the stream of an order and reads it until it ends.
fn follow(client: &Client, order: events::OrderId) -> JoinHandle<String> {
    let request = client.request(Method::GET, &format!("/orders/{order}/events"));
    tokio::spawn(async move {
        let response = request.send().await.expect("an answer");
        assert_eq!(response.status(), 200);
        response.text().await.expect("a stream that ends well")
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_instance_does_is_seen_by_streams_here() {
    let system = System::builder().without(Service::Product).start().await;
    let user = system.create_user(true).await;
    let second = system.start_second(Service::Order).await;
    let order = system.submit(user, &[(events::ProductId(uuid::Uuid::now_v7()), 1)]).await;
    system.wait_entries(order, 2).await;
    let streams = [follow(&system.client(Service::Order), order), follow(&second.client(), order)];
    // Each hears of the cancellation, and one of them from the other's instance; then of the end, wherever that is decided.
    second.client().post(&format!("/orders/{order}/cancel"), &serde_json::json!({})).await.expect(202);
    system.start(Service::Product).await;
    assert_eq!(system.wait_final(order).await["status"], "cancelled");
    for stream in streams {
        let text = tokio::time::timeout(Duration::from_secs(20), stream).await.expect("it ends with the order").unwrap();
        let ids: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("id:")).map(str::trim).collect();
        let sequences: Vec<String> = (1..=ids.len()).map(|sequence| sequence.to_string()).collect();
        assert_eq!(ids, sequences, "each entry once, in order");
        assert!(ids.len() >= 4, "{text}");
    }
    system.audit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_of_orders_that_rest_ask_the_database_together() {
    const WINDOW: Duration = Duration::from_secs(3);
    let system = System::builder().never_giving_up().start().await;
    let (user, product) = (system.create_user(true).await, system.create_product(50, 100).await);
    system.stop(Service::Product).await;
    let orders = system.submit_many(5, user, &[(product, 1)]).await;
    for order in &orders {
        system.wait_entries(*order, 2).await;
    }
    let client = system.client(Service::Order);
    let open = futures_util::future::join_all((0..150).map(|number| {
        let request = client.request(Method::GET, &format!("/orders/{}/events", orders[number % orders.len()]));
        async move { request.send().await.expect("a stream").bytes_stream() }
    }));
    let mut streams = open.await;
    for stream in &mut streams {
        assert!(stream.next().await.is_some(), "what there is comes at once");
    }
    let transactions = async || -> i64 {
        let counted = "select xact_commit from pg_stat_database where datname = current_database()";
        sqlx::query_scalar(counted).fetch_one(&system.order_db).await.unwrap()
    };
    let before = transactions().await;
    tokio::time::sleep(WINDOW).await;
    let asked = transactions().await - before;
    // One by one every 250 ms they would ask 150 * 4 * 3 = 1,800 times, and as often again for the entries.
    assert!(asked < 1_000, "{asked} transactions while nothing moved");
    system.start(Service::Product).await;
    for stream in streams {
        let rest = stream.map(|chunk| String::from_utf8(chunk.unwrap().to_vec()).unwrap()).collect::<String>();
        let rest = tokio::time::timeout(Duration::from_secs(20), rest).await.expect("it ends with the order");
        assert!(rest.contains("\"sequence\":3"), "{rest}");
    }
    system.audit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_service_counts_for_prometheus() {
    let system = System::new().await;
    let (user, product) = (system.create_user(true).await, system.create_product(50, 100).await);
    system.wait_final(system.submit(user, &[(product, 1)]).await).await;
    for service in Service::ALL {
        let metrics = system.client(service).get("/metrics").await;
        assert_eq!(metrics.status, 200, "{service:?}");
        assert!(metrics.header("content-type").starts_with("text/plain"), "{metrics:#?}");
        assert!(metrics.text.lines().any(|line| line.starts_with("# TYPE waybill_")), "{}", metrics.text);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_for_very_many_streams_takes_its_memory_in_small_pages() {
    let huge_pages = || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        status.lines().find_map(|line| line.strip_prefix("THP_enabled:").map(|said| said.trim() == "1"))
    };
    let many = |settings: &mut testkit::Settings| {
        settings.order.parts.http.http_connections = 48_000;
        settings.order.parts.http.http_streams = 12_000;
    };
    let before = huge_pages();
    let _system = System::builder().settings(many).start().await;
    // A kernel that does not tell has none to take.
    assert_eq!(huge_pages(), before.map(|_| false));
}
