//! Answers that are lost after the work is done: nothing is done twice, and nobody is told to try again what may have been done.

use std::time::Duration;

use clap::Parser;
use reqwest::Method;
use serde_json::json;
use testkit::{Answer, Client, Proxy, Service, System, answer, eventually, order_body};
use tokio_util::sync::CancellationToken;

/// A gateway whose lines to the product and the order service can be cut.
struct Cuttable {
    client: Client,
    product: Proxy,
    order: Proxy,
    stop: CancellationToken,
}

impl Drop for Cuttable {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn cuttable(system: &System) -> Cuttable {
    let product = Proxy::before(system.instance(Service::Product).port).await.unwrap();
    let order = Proxy::before(system.instance(Service::Order).port).await.unwrap();
    let url = |port: u16| format!("http://127.0.0.1:{port}");
    let user = url(system.instance(Service::User).port);
    let (products, orders) = (url(product.port), url(order.port));
    let settings = gateway::Settings::parse_from([
        "gateway",
        "--user-url",
        &user,
        "--product-url",
        &products,
        "--order-url",
        &orders,
        "--answer-timeout=3",
        // Its look would take the cut that is meant for a request.
        "--watch-every=3600",
    ]);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = system.client_at(listener.local_addr().unwrap().port());
    let stop = CancellationToken::new();
    tokio::spawn(gateway::serve(listener, settings, stop.clone()));
    Cuttable { client, product, order, stop }
}

async fn post(client: &Client, path: &str, key: Option<&str>, body: &serde_json::Value) -> Answer {
    let mut request = client.request(Method::POST, path).json(body);
    if let Some(key) = key {
        request = request.header("idempotency-key", key);
    }
    answer(request).await
}

#[track_caller]
fn perhaps(answer: &Answer) -> String {
    let problem = answer.problem(502, "broken-off");
    assert_eq!(answer.header("retry-after"), "", "obeyed, it would do the work twice");
    let detail = problem["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains("may have been carried out"), "{detail}");
    detail
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_whose_answer_is_lost_is_counted_once() {
    let system = System::new().await;
    let (user, product) = (system.create_user(true).await, system.create_product(0, 100).await);
    let gateway = cuttable(&system).await;
    let (stock, delta) = (format!("/products/{product}/stock"), json!({ "delta": 7 }));

    // With a key the gateway asks again by itself.
    gateway.product.cut_at_next_reply();
    let again = post(&gateway.client, &stock, Some("delivery-1"), &delta).await;
    assert_eq!((again.expect(200)["stock"].clone(), again.header("idempotency-replayed")), (json!(7), "true"));
    assert_eq!(gateway.product.cuts(), 1);
    // Without one the client is told what may be.
    gateway.product.cut_at_next_reply();
    assert!(!perhaps(&post(&gateway.client, &stock, None, &delta).await).contains("safe"));
    assert_eq!((gateway.product.cuts(), system.stock(product).await), (2, (14, 0)), "it was carried out");
    // Repeated by the client, days later as it were, to the service itself.
    let repeated = post(&system.client(Service::Product), &stock, Some("delivery-1"), &delta).await;
    assert_eq!((repeated.expect(200)["stock"].clone(), repeated.header("idempotency-replayed")), (json!(7), "true"));

    let hold = json!({ "product_id": product, "quantity": 2 });
    gateway.product.cut_at_next_reply();
    let held = post(&gateway.client, "/products/reserve", Some("hold-1"), &hold).await;
    let id = held.expect(200)["reservation_id"].as_str().unwrap().to_owned();
    assert_eq!((held.header("idempotency-replayed"), system.stock(product).await), ("true", (12, 2)));
    let release = format!("/products/reservations/{id}/release");
    gateway.product.cut_at_next_reply();
    let released = post(&gateway.client, &release, Some("release-1"), &json!({})).await;
    assert_eq!((released.expect(200), released.header("idempotency-replayed")), (json!({ "status": "released" }), "true"));
    assert_eq!((gateway.product.cuts(), system.stock(product).await), (4, (14, 0)));

    let body = order_body(user, &[(product, 1)]);
    gateway.order.cut_at_next_reply();
    let placed = post(&gateway.client, "/orders", Some("order-1"), &body).await;
    assert_eq!(placed.header("idempotency-replayed"), "true");
    let id: events::OrderId = placed.expect(202)["id"].as_str().unwrap().parse().unwrap();
    system.wait_final(id).await;
    let cancel = format!("/orders/{id}/cancel");
    gateway.order.cut_at_next_reply();
    let cancelled = post(&gateway.client, &cancel, Some("cancel-1"), &json!({})).await;
    cancelled.expect(202);
    assert_eq!(cancelled.header("idempotency-replayed"), "true");
    eventually(Duration::from_secs(20), || async {
        let order = system.client(Service::Order).get(&format!("/orders/{id}")).await.expect(200);
        if order["status"] == "cancelled" { Ok(()) } else { Err(order) }
    })
    .await;
    // Final by now; the same request is answered as it was.
    let again = post(&gateway.client, &cancel, Some("cancel-1"), &json!({})).await;
    assert_eq!((again.expect(202)["status"].clone(), again.header("idempotency-replayed")), (json!("cancelled"), "true"));
    post(&gateway.client, &cancel, Some("cancel-2"), &json!({})).await.problem(409, "too-late-to-cancel");
    post(&gateway.client, &cancel, None, &json!({})).await.problem(409, "too-late-to-cancel");
    let other = system.submit(user, &[(product, 1)]).await;
    let elsewhere = post(&gateway.client, &format!("/orders/{other}/cancel"), Some("cancel-1"), &json!({})).await;
    elsewhere.problem(422, "idempotency-key-reused");
    post(&gateway.client, &cancel, Some(&"x".repeat(201)), &json!({})).await.problem(400, "malformed");
    assert_eq!(gateway.order.cuts(), 2);

    let operator = format!("/sagas/{id}/retry");
    let refused = post(&system.client(Service::Order), &operator, Some("k"), &json!({ "by": "me", "reason": "x" })).await;
    assert!(refused.problem(400, "malformed")["detail"].as_str().unwrap().contains("`Idempotency-Key`"));
    let audit = system.audit().await;
    assert_eq!((audit.orders, audit.cancelled, audit.confirmed), (2, 1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_whose_answer_is_lost_is_said_to_be_perhaps_done() {
    let system = System::builder().linked().start().await;
    let (user, product) = (system.create_user(true).await, system.create_product(0, 100).await);
    let (orders, products) = (system.client(Service::Order), system.client(Service::Product));
    let body = order_body(user, &[(product, 1)]);
    let count = async |which: &'static str| -> i64 { sqlx::query_scalar(which).fetch_one(&system.order_db).await.unwrap() };
    let (mut rounds, mut unsure, mut committed) = (0, 0, 0);
    // The line may be cut under somebody else's reply: on until it was the commit's.
    while committed == 0 || rounds < 3 {
        rounds += 1;
        assert!(rounds <= 60, "of {unsure} in doubt none was committed");
        // The cut may fall on a connection that has placed before: one that has not says that the statement is prepared, and is cut there.
        system.submit(user, &[(product, 1)]).await;
        // Nothing else is written when the line is cut.
        eventually(Duration::from_secs(20), || async {
            match count("select count(*) from orders where not settled").await {
                0 => Ok(()),
                open => Err(open),
            }
        })
        .await;
        let before = count("select count(*) from orders").await;
        system.links(Service::Order).database.cut_at_next_reply();
        let answer = post(&orders, "/orders", None, &body).await;
        let new = count("select count(*) from orders").await - before;
        match answer.status {
            502 => assert!(perhaps(&answer).contains("same Idempotency-Key"), "{answer:#?}"),
            // Cut before anything was written.
            503 => assert_eq!(new, 0, "what was said not to have happened had: {:#}", answer.problem(503, "unavailable")),
            _ => assert_eq!((answer.status, new), (202, 1), "cut on another connection"),
        }
        unsure += usize::from(answer.status == 502);
        committed += usize::from(answer.status == 502 && new == 1);
    }
    let (mut rounds, mut refused) = (0, 0);
    while refused == 0 || rounds < 6 {
        rounds += 1;
        assert!(rounds <= 60, "no cut met a change of stock");
        let before = system.stock(product).await.0;
        system.links(Service::Product).database.cut_at_next_reply();
        let answer = post(&products, &format!("/products/{product}/stock"), None, &json!({ "delta": 1 })).await;
        let after = eventually(Duration::from_secs(10), || async {
            let shown = products.get(&format!("/products/{product}")).await;
            if shown.status == 200 { Ok(shown.json()["stock"].as_i64().unwrap()) } else { Err(shown) }
        })
        .await;
        match answer.status {
            503 => assert_eq!(after, before, "{answer:#?}"),
            502 => drop(perhaps(&answer)),
            _ => assert_eq!(answer.expect(200)["stock"], after),
        }
        refused += usize::from(answer.status != 200);
    }
    system.audit().await;
}
