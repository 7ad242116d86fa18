//! `Idempotency-Key`: a request sent twice is one request.

use reqwest::Method;
use serde_json::{Value, json};
use testkit::{Answer, Client, Service, System, answer, order_body};
use uuid::Uuid;

async fn post(client: &Client, path: &str, key: &str, body: &Value) -> Answer {
    answer(client.request(Method::POST, path).header("idempotency-key", key).json(body)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_order_with_the_same_key_is_the_same_order() {
    let system = System::new().await;
    let (user, product) = (system.create_user(true).await, system.create_product(100, 100).await);
    let (body, other) = (order_body(user, &[(product, 1)]), order_body(user, &[(product, 2)]));
    for (index, client) in system.clients(Service::Order).iter().enumerate() {
        let key = format!("key-{index}");
        let first = post(client, "/orders", &key, &body).await;
        assert_eq!(first.header("idempotency-replayed"), "");
        let id = first.expect(202)["id"].clone();
        // Bare or as a structured string: one key. The other clients lead to the same order.
        for (client, key) in [(client.clone(), key.clone()), (system.client(Service::Order), format!("\"{key}\""))] {
            let again = post(&client, "/orders", &key, &body).await;
            assert_eq!(again.expect(202)["id"], id);
            assert_eq!(again.header("idempotency-replayed"), "true");
            assert_eq!(again.header("location"), first.header("location"));
        }
        let reused = post(client, "/orders", &key, &other).await.problem(422, "idempotency-key-reused");
        assert!(!reused["errors"].as_array().unwrap().is_empty());
        let somebody = order_body(events::UserId(Uuid::now_v7()), &[(product, 1)]);
        post(client, "/orders", &key, &somebody).await.problem(422, "idempotency-key-reused");
        // Who comes again later finds the order as it is by then.
        let request = client.request(Method::POST, "/orders").header("idempotency-key", &key).header("prefer", "wait=20");
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
    for client in system.clients(Service::Order) {
        for key in ["", "\"\"", "\" \"", &"\"".repeat(9), &"x".repeat(201), &format!("\"{}\"", "\\\"".repeat(101))] {
            post(&client, "/orders", key, &body).await.problem(400, "malformed");
        }
    }
    post(&system.client(Service::Order), "/orders", &"x".repeat(200), &body).await.expect(202);
    assert_eq!(system.audit().await.orders, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_at_once_with_one_key_are_one_order_even_at_two_instances() {
    let system = System::new().await;
    let (user, product) = (system.create_user(true).await, system.create_product(100, 100).await);
    let second = system.start_second(Service::Order).await;
    let body = order_body(user, &[(product, 1)]);
    let posts = (0..50).map(|number| {
        let client = [system.client(Service::Order), system.client(Service::Gateway), second.client()][number % 3].clone();
        let body = body.clone();
        async move { post(&client, "/orders", "only-one", &body).await }
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
        let first = post(&system.client(service), path, &key, &body).await;
        let created = first.expect(201);
        assert_eq!(first.header("idempotency-replayed"), "");
        for client in system.clients(service) {
            for key in [key.clone(), format!("\"{key}\"")] {
                let again = post(&client, path, &key, &body).await;
                assert_eq!(again.expect(201), created);
                assert_eq!(again.header("idempotency-replayed"), "true");
                assert_eq!(again.header("location"), first.header("location"));
            }
            for (field, value) in &others {
                let mut other = body.clone();
                other[field] = value.clone();
                let answer = post(&client, path, &key, &other).await;
                assert_eq!(answer.status, 422, "another {field}: {answer:#?}");
                answer.problem(422, "idempotency-key-reused");
            }
            post(&client, path, "", &body).await.problem(400, "malformed");
        }
        assert_eq!(system.client(service).get(path).await.expect(200)["items"].as_array().unwrap().len(), 1);
    }
    // Thirty at once, with a key nobody used.
    let body = json!({ "email": "all@example.com", "name": "All" });
    let posts = (0..30).map(|_| {
        let (client, body) = (system.client(Service::User), body.clone());
        async move { post(&client, "/users", "all-at-once", &body).await.expect(201)["id"].to_string() }
    });
    let mut ids = futures_util::future::join_all(posts).await;
    ids.dedup();
    assert_eq!(ids.len(), 1, "{ids:?}");
}

async fn levels(system: &System, product: events::ProductId) -> (i64, i64) {
    system.stock(product).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_counts_a_delivery_once_and_answers_it_the_same_again() {
    let system = System::new().await;
    for (index, client) in system.clients(Service::Product).iter().enumerate() {
        let (product, other) = (system.create_product(5, 100).await, system.create_product(5, 100).await);
        let (key, path) = (format!("stock-{index}"), format!("/products/{product}/stock"));
        let first = post(client, &path, &key, &json!({ "delta": 7 })).await;
        assert_eq!((first.expect(200)["stock"].clone(), first.header("idempotency-replayed")), (json!(12), ""));
        // What happens meanwhile does not change the answer.
        client.post(&path, &json!({ "delta": 1 })).await.expect(200);
        for (client, key) in [(client.clone(), key.clone()), (system.client(Service::Gateway), format!("\"{key}\""))] {
            let again = post(&client, &path, &key, &json!({ "delta": 7 })).await;
            assert_eq!((again.expect(200), again.header("idempotency-replayed")), (first.json(), "true"));
        }
        post(client, &path, &key, &json!({ "delta": 8 })).await.problem(422, "idempotency-key-reused");
        let elsewhere = format!("/products/{other}/stock");
        post(client, &elsewhere, &key, &json!({ "delta": 7 })).await.problem(422, "idempotency-key-reused");
        assert_eq!((levels(&system, product).await, levels(&system, other).await), ((13, 0), (5, 0)));
        // A refusal did nothing, so it used up no key.
        let late = format!("late-{index}");
        post(client, &path, &late, &json!({ "delta": -14 })).await.problem(409, "stock-out-of-range");
        client.post(&path, &json!({ "delta": 1 })).await.expect(200);
        assert_eq!(post(client, &path, &late, &json!({ "delta": -14 })).await.expect(200)["stock"], 0);
        for wrong in ["", "\"\"", &"x".repeat(201)] {
            post(client, &path, wrong, &json!({ "delta": 1 })).await.problem(400, "malformed");
        }
        let twice = client.request(Method::POST, &path).header("idempotency-key", "a").header("idempotency-key", "b");
        answer(twice.json(&json!({ "delta": 1 }))).await.problem(400, "malformed");
        assert_eq!(levels(&system, product).await, (0, 0));
    }
    system.audit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_hold_and_give_back_stock_once() {
    let system = System::new().await;
    for (index, client) in system.clients(Service::Product).iter().enumerate() {
        let product = system.create_product(10, 100).await;
        let (key, body) = (format!("reserve-{index}"), json!({ "product_id": product, "quantity": 3 }));
        let held = post(client, "/products/reserve", &key, &body).await;
        let id = held.expect(200)["reservation_id"].as_str().unwrap().to_owned();
        assert_eq!(held.header("idempotency-replayed"), "");
        let again = post(client, "/products/reserve", &key, &body).await;
        assert_eq!((again.expect(200), again.header("idempotency-replayed")), (held.json(), "true"));
        let more = json!({ "product_id": product, "quantity": 4 });
        post(client, "/products/reserve", &key, &more).await.problem(422, "idempotency-key-reused");
        post(client, "/products/reserve", "", &body).await.problem(400, "malformed");
        assert_eq!(levels(&system, product).await, (7, 3));

        let second = client.post("/products/reserve", &body).await.expect(200)["reservation_id"].as_str().unwrap().to_owned();
        let path = format!("/products/reservations/{id}/release");
        let released = post(client, &path, &key, &json!({})).await;
        assert_eq!((released.expect(200), released.header("idempotency-replayed")), (json!({ "status": "released" }), ""));
        let again = post(client, &path, &key, &json!({})).await;
        assert_eq!((again.expect(200), again.header("idempotency-replayed")), (released.json(), "true"));
        let other = format!("/products/reservations/{second}/release");
        post(client, &other, &key, &json!({})).await.problem(422, "idempotency-key-reused");
        post(client, &other, &"x".repeat(201), &json!({})).await.problem(400, "malformed");
        assert_eq!(levels(&system, product).await, (7, 3), "the second is still held");
        let again = post(client, "/products/reserve", &key, &body).await;
        assert_eq!((again.expect(200), again.header("idempotency-replayed")), (held.json(), "true"));
        assert_eq!(levels(&system, product).await, (7, 3), "an answer repeated holds nothing");
    }
    // Thirty at once, with a key nobody used.
    let product = system.create_product(0, 100).await;
    let posts = (0..30).map(|_| {
        let client = system.client(Service::Gateway);
        async move { post(&client, &format!("/products/{product}/stock"), "at-once", &json!({ "delta": 5 })).await.expect(200) }
    });
    let answers = futures_util::future::join_all(posts).await;
    assert!(answers.iter().all(|answer| answer == &answers[0]), "{answers:?}");
    assert_eq!(levels(&system, product).await, (5, 0));
    system.audit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_are_kept_apart_live_for_their_time_and_not_for_ever() {
    let system = System::new().await;
    let (user, product) = (system.create_user(true).await, system.create_product(100, 100).await);
    let stock = format!("/products/{product}/stock");
    let (products, orders) = (system.client(Service::Product), system.client(Service::Order));
    let mut cancels = Vec::new();
    for key in ["young", "old"] {
        let order = system.submit(user, &[(product, 1)]).await;
        system.wait_final(order).await;
        let cancel = format!("/orders/{order}/cancel");
        post(&products, &stock, key, &json!({ "delta": 1 })).await.expect(200);
        post(&products, "/products/reserve", key, &json!({ "product_id": product, "quantity": 1 })).await.expect(200);
        post(&orders, &cancel, key, &json!({})).await.expect(202);
        cancels.push(cancel);
    }
    // More than are deleted in one statement.
    for (db, table, columns) in [
        (&system.product_db, "keyed_requests", "kind, request, answer, idempotency_key) select 'stock', '{}', '{}'"),
        (&system.order_db, "cancellations", "order_id, idempotency_key) select gen_random_uuid()"),
    ] {
        let many = format!("insert into {table} ({columns}, 'old-' || n from generate_series(1, 1200) n");
        let age = |key: &str, days: u32| {
            format!("update {table} set created_at = now() - interval '{days} days 1 minute' where idempotency_key like '{key}%'")
        };
        // The default is seven days.
        for sql in [many, age("old", 7), age("young", 6)] {
            sqlx::query(sqlx::AssertSqlSafe(sql)).execute(db).await.unwrap();
        }
    }
    for service in [Service::Product, Service::Order] {
        system.stop(service).await;
        system.start(service).await;
    }
    for (db, table, young) in [(&system.product_db, "keyed_requests", 2), (&system.order_db, "cancellations", 1)] {
        testkit::eventually(std::time::Duration::from_secs(15), || async {
            let sql = format!("select count(*), count(*) filter (where idempotency_key = 'young') from {table}");
            let found: (i64, i64) = sqlx::query_as(sqlx::AssertSqlSafe(sql)).fetch_one(db).await.unwrap();
            if found == (young, young) { Ok(()) } else { Err(found) }
        })
        .await;
    }
    let again = post(&products, &stock, "young", &json!({ "delta": 1 })).await;
    assert_eq!((again.expect(200)["stock"].clone(), again.header("idempotency-replayed")), (json!(100), "true"));
    let forgotten = post(&products, &stock, "old", &json!({ "delta": 1 })).await;
    forgotten.expect(200);
    assert_eq!(forgotten.header("idempotency-replayed"), "");
    let again = post(&orders, &cancels[0], "young", &json!({})).await;
    again.expect(202);
    assert_eq!(again.header("idempotency-replayed"), "true");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_key_for_cancels_of_different_orders_at_once_cancels_one_and_refuses_the_others() {
    let system = System::builder().without(Service::User).start().await;
    let second = system.start_second(Service::Order).await;
    let (user, product) = (events::UserId(Uuid::now_v7()), system.create_product(100, 100).await);
    for round in 0..8 {
        let orders = system.submit_many(4, user, &[(product, 1)]).await;
        let cancels = orders.iter().enumerate().map(|(number, order)| {
            let client = [system.client(Service::Order), second.client()][number % 2].clone();
            let (path, key) = (format!("/orders/{order}/cancel"), format!("round-{round}"));
            async move { post(&client, &path, &key, &json!({})).await }
        });
        let answers = futures_util::future::join_all(cancels).await;
        let mut statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
        statuses.sort_unstable();
        assert_eq!(statuses, [202, 422, 422, 422], "{answers:?}");
        for (order, answer) in orders.iter().zip(&answers) {
            let view = system.client(Service::Order).get(&format!("/orders/{order}")).await.expect(200);
            assert_eq!(view["status"] == "pending", answer.status == 422, "{view}");
        }
    }
}
