//! `Idempotency-Key`: a request sent twice is one request.

use reqwest::Method;
use serde_json::{Value, json};
use tests::{Answer, Door, Service, System, answer, order_body};
use uuid::Uuid;

async fn post(door: &Door, path: &str, key: &str, body: &Value) -> Answer {
    answer(door.request(Method::POST, path).header("idempotency-key", key).json(body)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_order_with_the_same_key_is_the_same_order() {
    let system = System::new().await;
    let (user, product) = (system.create_user(true).await, system.create_product(100, 100).await);
    let (body, other) = (order_body(user, &[(product, 1)]), order_body(user, &[(product, 2)]));
    for (index, door) in system.doors(Service::Order).iter().enumerate() {
        let key = format!("key-{index}");
        let first = post(door, "/orders", &key, &body).await;
        assert_eq!(first.header("idempotency-replayed"), "");
        let id = first.expect(202)["id"].clone();
        // Bare or as a structured string: one key. The other doors lead to the same order.
        for (door, key) in [(door.clone(), key.clone()), (system.door(Service::Order), format!("\"{key}\""))] {
            let again = post(&door, "/orders", &key, &body).await;
            assert_eq!(again.expect(202)["id"], id);
            assert_eq!(again.header("idempotency-replayed"), "true");
            assert_eq!(again.header("location"), first.header("location"));
        }
        let reused = post(door, "/orders", &key, &other).await.problem(422, "idempotency-key-reused");
        assert!(!reused["errors"].as_array().unwrap().is_empty());
        let somebody = order_body(events::UserId(Uuid::now_v7()), &[(product, 1)]);
        post(door, "/orders", &key, &somebody).await.problem(422, "idempotency-key-reused");
        // Who comes again later finds the order as it is by then.
        let request = door.request(Method::POST, "/orders").header("idempotency-key", &key).header("prefer", "wait=20");
        let waited = answer(request.json(&body)).await;
        assert_eq!((&waited.expect(201)["id"], &waited.json()["status"]), (&id, &json!("confirmed")));
        assert_eq!(waited.header("idempotency-replayed"), "true");
    }
    assert_eq!(system.audit().await.orders, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_none_is_malformed() {
    let system = System::new().await;
    let body = order_body(events::UserId(Uuid::now_v7()), &[(events::ProductId(Uuid::now_v7()), 1)]);
    for door in system.doors(Service::Order) {
        for key in ["", "\"\"", &"x".repeat(201)] {
            post(&door, "/orders", key, &body).await.problem(400, "malformed");
        }
    }
    post(&system.door(Service::Order), "/orders", &"x".repeat(200), &body).await.expect(202);
    assert_eq!(system.audit().await.orders, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_at_once_with_one_key_are_one_order_even_at_two_instances() {
    let system = System::new().await;
    let (user, product) = (system.create_user(true).await, system.create_product(100, 100).await);
    let second = system.start_second(Service::Order).await;
    let body = order_body(user, &[(product, 1)]);
    let posts = (0..50).map(|number| {
        let door = [system.door(Service::Order), system.door(Service::Gateway), second.door()][number % 3].clone();
        let body = body.clone();
        async move { post(&door, "/orders", "only-one", &body).await }
    });
    let answers = futures_util::future::join_all(posts).await;
    let mut ids: Vec<String> = answers.iter().map(|answer| answer.expect(202)["id"].to_string()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 1, "{ids:?}");
    let replayed = answers.iter().filter(|answer| answer.header("idempotency-replayed") == "true").count();
    assert_eq!(replayed, 49, "one placed it, the others saw it again");
    let audit = system.audit().await;
    assert_eq!((audit.orders, audit.confirmed), (1, 1));
    assert_eq!(system.product(product).await["reserved"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_make_users_and_products_once() {
    let system = System::new().await;
    let user = json!({ "email": "ada@example.com", "name": "Ada" });
    let price = json!({ "amount": 100, "currency": "USD" });
    let product = json!({ "name": "Bell", "description": "Rings", "price": price, "stock": 5 });
    let cases = [
        (Service::User, "/users", user, vec![("email", json!("grace@example.com")), ("name", json!("Grace"))]),
        (
            Service::Product,
            "/products",
            product,
            vec![
                ("name", json!("Horn")),
                ("description", json!("Honks")),
                ("stock", json!(6)),
                ("price", json!({ "amount": 1, "currency": "USD" })),
            ],
        ),
    ];
    for (service, path, body, others) in cases {
        let key = format!("key-of{path}");
        let first = post(&system.door(service), path, &key, &body).await;
        let created = first.expect(201);
        assert_eq!(first.header("idempotency-replayed"), "");
        for door in system.doors(service) {
            for key in [key.clone(), format!("\"{key}\"")] {
                let again = post(&door, path, &key, &body).await;
                assert_eq!(again.expect(201), created);
                assert_eq!(again.header("idempotency-replayed"), "true");
                assert_eq!(again.header("location"), first.header("location"));
            }
            for (field, value) in &others {
                let mut other = body.clone();
                other[field] = value.clone();
                let answer = post(&door, path, &key, &other).await;
                assert_eq!(answer.status, 422, "another {field}: {answer:#?}");
                answer.problem(422, "idempotency-key-reused");
            }
            post(&door, path, "", &body).await.problem(400, "malformed");
        }
        assert_eq!(system.door(service).get(path).await.expect(200)["items"].as_array().unwrap().len(), 1);
    }
    // Thirty at once, with a key nobody used.
    let body = json!({ "email": "all@example.com", "name": "All" });
    let posts = (0..30).map(|_| {
        let (door, body) = (system.door(Service::User), body.clone());
        async move { post(&door, "/users", "all-at-once", &body).await.expect(201)["id"].to_string() }
    });
    let mut ids = futures_util::future::join_all(posts).await;
    ids.dedup();
    assert_eq!(ids.len(), 1, "{ids:?}");
}
