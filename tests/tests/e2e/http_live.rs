//! `GET /orders/{id}/events` and `/metrics`.

use std::time::Duration;

use futures_util::StreamExt;
use reqwest::Method;
use serde_json::Value;
use tests::{Answer, Door, Service, System, answer};

/// The entries of a stream of server-sent events that has ended, each with its id.
fn entries(answer: &Answer) -> Vec<(String, Value)> {
    assert_eq!(answer.status, 200, "{answer:#?}");
    assert!(answer.header("content-type").starts_with("text/event-stream"), "{answer:#?}");
    let field =
        |event: &str, name: &str| event.lines().find_map(|line| line.strip_prefix(name).map(|rest| rest.trim().to_owned()));
    let events = answer.text.split("\n\n").filter(|event| event.contains("data:"));
    events
        .map(|event| (field(event, "id:").expect("an id"), serde_json::from_str(&field(event, "data:").unwrap()).expect("JSON")))
        .collect()
}

async fn live(door: &Door, order: events::OrderId, last: Option<&str>) -> Answer {
    let mut request = door.request(Method::GET, &format!("/orders/{order}/events")).header("accept", "text/event-stream");
    if let Some(last) = last {
        request = request.header("last-event-id", last);
    }
    answer(request).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_is_followed_live_to_its_end_and_taken_up_again() {
    let system = System::new().await;
    let (user, product) = (system.create_user(true).await, system.create_product(50, 100).await);
    for door in system.doors(Service::Order) {
        system.stop(Service::Product).await;
        let order = system.submit(user, &[(product, 1)]).await;
        system.wait_entries(order, 2).await;
        let response = door.request(Method::GET, &format!("/orders/{order}/events")).send().await.unwrap();
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
        let all = entries(&live(&door, order, None).await);
        assert_eq!(all.iter().map(|(_, entry)| entry.clone()).collect::<Vec<_>>(), history);
        assert_eq!(all.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>(), ["1", "2", "3"]);
        assert_eq!(entries(&live(&door, order, Some("2")).await), all[2..]);
        assert_eq!(entries(&live(&door, order, Some("3")).await), []);
        live(&door, order, Some("x")).await.problem(400, "malformed");
        live(&door, events::OrderId(uuid::Uuid::now_v7()), None).await.problem(404, "not-found");
    }
    system.audit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_service_counts_for_prometheus() {
    let system = System::new().await;
    let (user, product) = (system.create_user(true).await, system.create_product(50, 100).await);
    system.wait_final(system.submit(user, &[(product, 1)]).await).await;
    for service in Service::ALL {
        let metrics = system.door(service).get("/metrics").await;
        assert_eq!(metrics.status, 200, "{service:?}");
        assert!(metrics.header("content-type").starts_with("text/plain"), "{metrics:#?}");
        assert!(metrics.text.lines().any(|line| line.starts_with("# TYPE waybill_")), "{}", metrics.text);
    }
}
