//! Alive at once; ready when everything needed is there, and until the end begins.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use testkit::{Answer, Client, Service, System, eventually, order_body};
use uuid::Uuid;

use crate::shape::fields;

/// A database that is killed here must know afterwards what it knew before.
fn durable(stack: &mut stack::Options) {
    stack.postgres.durable = true;
}

/// The streams each service waits for.
fn checks(service: Service) -> Vec<&'static str> {
    match service {
        Service::User => vec!["broker", "database", "migrations", "USER_COMMANDS"],
        Service::Product => vec!["broker", "database", "migrations", "PRODUCT_COMMANDS"],
        Service::Order => vec!["broker", "database", "migrations", "plan", "PRODUCT_REPLIES", "USER_REPLIES"],
        Service::Gateway => vec![],
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_service_says_who_it_is_and_what_it_needs() {
    let system = System::new().await;
    for service in Service::ALL {
        let client = system.client(service);
        for path in ["/health", "/livez"] {
            let alive = client.get(path).await.expect(200);
            assert_eq!((&alive["status"], &alive["service"]), (&json!("ok"), &json!(service.name())));
        }
        let ready = client.get("/readyz").await.expect(200);
        assert_eq!(ready["ready"], true);
        fields(&ready["checks"], &checks(service));
        for (_, state) in ready["checks"].as_object().unwrap() {
            assert_eq!(state, "ok");
        }
    }
}

async fn not_ready(client: &Client, check: &str) -> Value {
    eventually(Duration::from_secs(15), || async {
        let answer = client.get("/readyz").await;
        let ready = answer.json();
        let failing = ready["checks"][check].as_str().is_some_and(|state| state != "ok");
        if answer.status == 503 && ready["ready"] == false && failing { Ok(ready) } else { Err(ready) }
    })
    .await
}

async fn ready(client: &Client) {
    eventually(Duration::from_secs(20), || async {
        let answer = client.get("/readyz").await;
        if answer.status == 200 { Ok(()) } else { Err(answer.text) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_is_alive_without_its_dependencies_and_ready_with_them() {
    let system = System::builder().impatient().never_giving_up().stack(durable).start().await;
    let (user, product) = (system.create_user(true).await, system.create_product(10, 100).await);
    for service in [Service::User, Service::Product, Service::Order] {
        system.stop(service).await;
    }
    system.stack.nats.kill().unwrap();
    system.stack.postgres.kill().unwrap();
    let clients = [Service::User, Service::Product, Service::Order].map(|service| system.client(service));
    for (service, client) in [Service::User, Service::Product, Service::Order].into_iter().zip(&clients) {
        system.instance(service).launch();
        eventually(Duration::from_secs(10), || async {
            Answer::try_of(client.request(Method::GET, "/livez")).await.map(|answer| assert_eq!(answer.status, 200))
        })
        .await;
        for check in checks(service) {
            not_ready(client, check).await;
        }
    }
    // Nothing can be written, and the client is told to come again.
    let refused = clients[2].post("/orders", &order_body(user, &[(product, 1)])).await;
    refused.problem(503, "unavailable");
    assert!(refused.header("retry-after").parse::<u32>().is_ok(), "{refused:#?}");
    let refused = system.client(Service::Gateway).get(&format!("/users/{user}")).await;
    refused.problem(503, "unavailable");

    system.stack.postgres.restart().await.unwrap();
    for client in &clients {
        eventually(Duration::from_secs(20), || async {
            let state = client.get("/readyz").await.json()["checks"].clone();
            if state["database"] == "ok" && state["migrations"] == "ok" { Ok(()) } else { Err(state) }
        })
        .await;
        not_ready(client, "broker").await;
    }
    // Without the broker orders are taken all the same: the database holds the facts.
    let order = system.submit(user, &[(product, 1)]).await;
    assert_eq!(system.order(order).await["status"], "pending");

    system.stack.nats.restart().await.unwrap();
    for client in &clients {
        ready(client).await;
    }
    let order = system.wait_final(order).await;
    assert_eq!(order["status"], "confirmed", "{:#}", order["reason"]);
    assert_eq!(system.audit().await.confirmed, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_loses_a_dependency_says_so_until_it_is_back() {
    let system = System::builder().impatient().stack(durable).start().await;
    let client = system.client(Service::Order);
    system.stack.nats.kill().unwrap();
    not_ready(&client, "broker").await;
    assert_eq!(client.get("/livez").await.status, 200);
    system.stack.nats.restart().await.unwrap();
    ready(&client).await;

    system.stack.postgres.kill().unwrap();
    not_ready(&client, "database").await;
    assert_eq!(client.get("/livez").await.status, 200);
    let answer = client.get(&format!("/orders/{}", Uuid::now_v7())).await;
    answer.problem(503, "unavailable");
    assert!(!answer.header("retry-after").is_empty());
    system.stack.postgres.restart().await.unwrap();
    ready(&client).await;
    client.get(&format!("/orders/{}", Uuid::now_v7())).await.problem(404, "not-found");
}
