//! What one caller may ask for, and what is on its way out.

use std::time::Duration;

use events::ProductId;
use reqwest::Method;
use serde_json::json;
use testkit::{Answer, Client, Issuer, Service, System, answer, eventually, order_body};
use uuid::Uuid;

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
        assert_eq!(answer(other).await.status, 200);
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
    let order = system.submit(user, &[(ProductId(Uuid::now_v7()), 1)]).await;
    let follow = async || client.request(Method::GET, &format!("/orders/{order}/events")).send().await.unwrap();
    let (first, second) = (follow().await, follow().await);
    assert_eq!((first.status().as_u16(), second.status().as_u16()), (200, 200));
    let third = answer(client.request(Method::GET, &format!("/orders/{order}/events"))).await;
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
async fn a_subject_is_one_caller_wherever_it_asks_from_and_a_stranger_counts_by_his_address() {
    let issuer = Issuer::new();
    let limit = |settings: &mut testkit::Settings| {
        let callers = &mut settings.user.parts.http.callers;
        (callers.rate_per_second, callers.rate_burst) = (Some(1), Some(10));
    };
    let system = System::builder().settings(limit).believing(&issuer).start().await;
    let client = system.client(Service::User);
    let [one, other] = [Uuid::now_v7(), Uuid::now_v7()].map(|subject| client.bearing(issuer.token(subject, &["operator"])));
    let mut asked = 0;
    loop {
        // Each time from elsewhere, as a gateway would say.
        let request = one.request(Method::GET, "/users").header("x-forwarded-for", format!("192.0.2.{asked}"));
        let answer = answer(request).await;
        if answer.status == 429 {
            break;
        }
        answer.expect(200);
        asked += 1;
        assert!(asked < 200, "it is never refused");
    }
    other.get("/users").await.expect(200);
    let stranger = client.anonymous();
    let mut refused = Vec::new();
    for _ in 0..40 {
        refused.push(stranger.get("/users").await.status);
    }
    assert!(refused[0] == 401 && refused.contains(&429), "{refused:?}");
}

async fn place(client: &Client, user: events::UserId, product: ProductId, key: &str) -> Answer {
    let request = client.request(Method::POST, "/orders").header("idempotency-key", key);
    answer(request.json(&order_body(user, &[(product, 1)]))).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_has_so_many_orders_under_way_and_no_more() {
    let system =
        System::builder().order(|order| order.pending.pending_per_subject = Some(2)).without(Service::Gateway).start().await;
    let (user, other) = (system.create_user(true).await, system.create_user(true).await);
    let product = system.create_product(10, 100).await;
    system.stop(Service::Product).await;
    let client = system.client(Service::Order);
    for key in ["one", "two"] {
        place(&client, user, product, key).await.expect(202);
    }
    let refused = place(&client, user, product, "three").await;
    refused.problem(429, "too-many-requests");
    assert!(refused.header("retry-after").parse::<u64>().is_ok(), "{refused:#?}");
    // What was placed is answered again, and nobody else is concerned.
    let again = place(&client, user, product, "two").await;
    again.expect(202);
    assert_eq!(again.header("idempotency-replayed"), "true");
    place(&client, other, product, "other").await.expect(202);
    system.start(Service::Product).await;
    eventually(Duration::from_secs(30), || async {
        let answer = place(&client, user, product, "three").await;
        if answer.status == 202 { Ok(()) } else { Err(answer) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subject_holds_so_much_without_an_order_and_no_more() {
    let issuer = Issuer::new();
    let limit = |settings: &mut testkit::Settings| settings.product.reservations.reservations_per_subject = Some(2);
    let system = System::builder().settings(limit).believing(&issuer).start().await;
    let product = system.create_product(100, 100).await;
    let client = system.client(Service::Product);
    let [one, other] = [Uuid::now_v7(), Uuid::now_v7()].map(|subject| client.bearing(issuer.token(subject, &["customer"])));
    let reserve = async |client: &Client, key: &str| {
        let request = client.request(Method::POST, "/products/reserve").header("idempotency-key", key);
        answer(request.json(&json!({ "product_id": product, "quantity": 1 }))).await
    };
    let first = reserve(&one, "a").await.expect(200);
    reserve(&one, "b").await.expect(200);
    reserve(&one, "c").await.problem(429, "too-many-requests");
    assert_eq!(reserve(&one, "a").await.expect(200), first, "what was answered is answered again");
    reserve(&other, "a").await.expect(200);
    let release = format!("/products/reservations/{}/release", first["reservation_id"].as_str().unwrap());
    one.post(&release, &json!({})).await.expect(200);
    reserve(&one, "c").await.expect(200);
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
