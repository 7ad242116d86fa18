//! What one caller may ask for, and what is on its way out.

use std::time::Duration;

use reqwest::Method;
use testkit::{Service, System, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_who_asks_too_often_is_told_when_to_come_again() {
    let limit = |settings: &mut testkit::Settings| {
        for callers in [&mut settings.user.parts.http.callers, &mut settings.gateway.http.callers] {
            (callers.rate_per_second, callers.rate_burst) = (Some(2), Some(8));
        }
    };
    let system = System::builder().settings(limit).start().await;
    // At the gateway what it passes on to a service that has no limit of its own.
    for (service, list) in [(Service::User, "/users"), (Service::Gateway, "/products")] {
        let client = system.client(service);
        let mut answered = 0;
        let refused = loop {
            let answer = client.get(list).await;
            match answer.status {
                200 => answered += 1,
                _ => break answer,
            }
            assert!(answered < 1_000, "it is never refused");
        };
        assert!(answered >= 8, "only {answered} were answered");
        refused.problem(429, "too-many-requests");
        assert_eq!(refused.header("retry-after"), "1");
        for _ in 0..30 {
            client.get("/livez").await.expect(200);
            client.get("/readyz").await.expect(200);
        }
        let mut nowhere = Vec::new();
        for _ in 0..30 {
            nowhere.push(client.get("/nowhere").await.status);
        }
        assert!(nowhere.contains(&429), "what is not there counts too: {nowhere:?}");
        // Another client, as the gateway would name it.
        let other = client.request(Method::GET, list).header("x-forwarded-for", "192.0.2.7");
        assert_eq!(testkit::answer(other).await.status, 200);
        eventually(Duration::from_secs(10), || async {
            let answer = client.get(list).await;
            if answer.status == 200 { Ok(()) } else { Err(answer) }
        })
        .await;
    }
    for _ in 0..30 {
        system.client(Service::Product).get("/products").await.expect(200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_has_so_many_live_streams_and_no_more() {
    let limit = |settings: &mut testkit::Settings| settings.order.parts.http.callers.streams_per_subject = Some(2);
    let system = System::builder().settings(limit).without(Service::Product).start().await;
    let (user, client) = (system.create_user(true).await, system.client(Service::Order));
    // Nobody reserves: it stays as it is.
    let order = system.submit(user, &[(events::ProductId(uuid::Uuid::now_v7()), 1)]).await;
    let follow = async || client.request(Method::GET, &format!("/orders/{order}/events")).send().await.unwrap();
    let (first, second) = (follow().await, follow().await);
    assert_eq!((first.status().as_u16(), second.status().as_u16()), (200, 200));
    let third = testkit::answer(client.request(Method::GET, &format!("/orders/{order}/events"))).await;
    third.problem(429, "too-many-requests");
    assert!(third.header("retry-after").parse::<u64>().is_ok());
    drop(first);
    eventually(Duration::from_secs(10), || async {
        let again = follow().await;
        if again.status() == 200 { Ok(()) } else { Err(again) }
    })
    .await;
    drop(second);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_route_is_on_its_way_out_today() {
    let system = System::new().await;
    let lists = [(Service::User, "/users"), (Service::Product, "/products"), (Service::Order, "/orders")];
    for (service, list) in lists {
        for client in system.clients(service) {
            let answer = client.get(list).await;
            answer.expect(200);
            assert!(answer.header("deprecation").is_empty() && answer.header("sunset").is_empty(), "{answer:#?}");
        }
    }
}
