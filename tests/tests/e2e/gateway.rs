//! The gateway on the real services: one service's trouble stays its own.

use std::time::Duration;

use serde_json::json;
use testkit::{Service, System, eventually, order_body};

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_down_costs_only_its_own_routes() {
    let system = System::new().await;
    let (user, product) = (system.create_user(true).await, system.create_product(10, 100).await);
    let client = system.client(Service::Gateway);
    let routes = [
        (Service::User, format!("/users/{user}")),
        (Service::Product, format!("/products/{product}")),
        (Service::Order, "/orders".to_owned()),
    ];
    for (down, _) in &routes {
        system.stop(*down).await;
        for (service, path) in &routes {
            for path in [path.clone(), format!("/v1{path}")] {
                let answer = client.get(&path).await;
                if service == down {
                    let problem = answer.problem(503, "unavailable");
                    assert!(problem["detail"].as_str().unwrap().contains(service.name()), "{problem:#}");
                    assert!(answer.header("retry-after").parse::<u32>().is_ok(), "{answer:#?}");
                } else {
                    answer.expect(200);
                }
            }
        }
        assert_eq!(client.get("/readyz").await.status, 200, "the gateway serves the others");
        system.start(*down).await;
        // A breaker may have opened: it lets one through a second.
        let path = &routes.iter().find(|(service, _)| service == down).unwrap().1;
        eventually(Duration::from_secs(5), || async {
            let answer = client.get(path).await;
            if answer.status == 200 { Ok(()) } else { Err(answer) }
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_through_the_gateway_is_the_services_own() {
    let system = System::new().await;
    let (user, product) = (system.create_user(true).await, system.create_product(10, 100).await);
    let order = system.submit(user, &[(product, 1)]).await;
    system.wait_final(order).await;
    let gateway = system.client(Service::Gateway);
    for (service, path) in [
        (Service::User, format!("/users/{user}")),
        (Service::User, "/users?limit=1".to_owned()),
        (Service::Product, format!("/products/{product}")),
        (Service::Order, format!("/orders/{order}")),
        (Service::Order, format!("/orders/{order}/history")),
        (Service::Order, "/orders?status=lost".to_owned()),
        (Service::Order, "/orders/7".to_owned()),
    ] {
        let (own, through) = (system.client(service).get(&path).await, gateway.get(&path).await);
        assert_eq!((own.status, &own.text), (through.status, &through.text));
        assert_eq!(own.header("content-type"), through.header("content-type"));
    }
    // It has no routes of its own but those of its health, and a map.
    assert_eq!(gateway.get("/").await.expect(200)["name"], "waybill");
    gateway.get("/v2/orders").await.problem(404, "not-found");
    let body = order_body(user, &[(product, 1)]);
    gateway.post("/order", &body).await.problem(404, "not-found");
    gateway.post("/health", &json!({})).await.problem(405, "method-not-allowed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_hangs_is_named_in_readyz_and_its_clients_wait_no_longer_than_the_gateway_says() {
    let answer_timeout = Duration::from_secs(3);
    let system = System::builder().settings(|settings| settings.gateway.upstream.answer_timeout = answer_timeout).start().await;
    system.spawn_binary(Service::Order).await;
    let (client, order) = (system.client(Service::Gateway), system.instance(Service::Order));
    let noted = |what: &'static str| {
        let client = &client;
        eventually(Duration::from_secs(20), move || async move {
            let ready = client.get("/readyz").await.expect(200);
            if ready["notes"]["order"] == what { Ok(ready) } else { Err(ready) }
        })
    };
    noted("answers").await;
    order.signal(rustix::process::Signal::STOP);
    let problem = client.get("/orders").await.problem(504, "timed-out");
    assert!(problem["detail"].as_str().unwrap().contains("the order service took too long to answer"), "{problem:#}");
    let ready = noted("does not answer").await;
    assert_eq!(
        (&ready["ready"], &ready["notes"]["user"], &ready["notes"]["product"]),
        (&json!(true), &json!("answers"), &json!("answers"))
    );
    client.get("/users").await.expect(200);
    // What the gateway knows by itself no client has to find out by waiting; one a second is let through to see.
    eventually(Duration::from_secs(30), || async {
        let answers = futures_util::future::join_all((0..3).map(|_| client.get("/orders"))).await;
        if answers.iter().filter(|answer| answer.status == 503).count() >= 2 { Ok(()) } else { Err(answers) }
    })
    .await;
    order.signal(rustix::process::Signal::CONT);
    noted("answers").await;
    eventually(Duration::from_secs(10), || async {
        let answer = client.get("/orders").await;
        if answer.status == 200 { Ok(()) } else { Err(answer) }
    })
    .await;
}
