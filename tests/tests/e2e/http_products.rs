//! The contract of /products.

use std::time::Duration;

use chrono::{DateTime, Utc};
use reqwest::Method;
use serde_json::{Value, json};
use testkit::{Service, System, answer, eventually, id};
use uuid::Uuid;

use crate::shape::{fields, long, recent, v7};

const FIELDS: [&str; 7] = ["id", "name", "description", "price", "stock", "reserved", "created_at"];

fn product(stock: i64) -> Value {
    json!({ "name": "Bicycle", "description": "Two wheels\nand a bell", "price": { "amount": 1999, "currency": "USD" }, "stock": stock })
}

/// The product with one field, at a JSON pointer, changed.
fn with(pointer: &str, value: Value) -> Value {
    let mut product = product(5);
    *product.pointer_mut(pointer).expect("a field of it") = value;
    product
}

#[tokio::test(flavor = "multi_thread")]
async fn a_product_is_created_shown_and_stocked_at_every_address() {
    let system = System::new().await;
    for client in system.clients(Service::Product) {
        let answer = client.post("/products", &product(5)).await;
        let created = answer.expect(201);
        fields(&created, &FIELDS);
        fields(&created["price"], &["amount", "currency"]);
        let path = format!("/products/{}", v7(&created["id"]));
        assert_eq!(answer.header("location"), path, "{client:?}");
        assert_eq!((&created["stock"], &created["reserved"]), (&json!(5), &json!(0)));
        assert_eq!(created["price"], json!({ "amount": 1999, "currency": "USD" }));
        assert_eq!(created["description"], "Two wheels\nand a bell");
        recent(&created["created_at"]);
        assert_eq!(client.get(&path).await.expect(200), created);

        let stock = format!("{path}/stock");
        assert_eq!(client.post(&stock, &json!({ "delta": 7 })).await.expect(200)["stock"], 12);
        let emptied = client.post(&stock, &json!({ "delta": -12 })).await.expect(200);
        fields(&emptied, &FIELDS);
        assert_eq!(emptied["stock"], 0);
        client.post(&stock, &json!({ "delta": -1 })).await.problem(409, "stock-out-of-range");
        client.post(&stock, &json!({ "delta": 1_000_000_000 })).await.expect(200);
        client.post(&stock, &json!({ "delta": 1 })).await.problem(409, "stock-out-of-range");
        assert_eq!(client.get(&path).await.expect(200)["stock"], 1_000_000_000, "a refusal changes nothing");
    }
    system.audit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_product_is_refused_where_it_is_wrong() {
    let system = System::new().await;
    let own = system.client(Service::Product);
    let cases: Vec<(Value, &[&str])> = vec![
        (with("/name", json!("")), &["/name"]),
        (with("/name", json!(long("x", 201))), &["/name"]),
        (with("/name", json!("a\u{0}")), &["/name"]),
        (with("/description", json!(long("x", 2001))), &["/description"]),
        (with("/description", json!("a\u{0}")), &["/description"]),
        (with("/stock", json!(-1)), &["/stock"]),
        (with("/stock", json!(1_000_000_001)), &["/stock"]),
        (with("/stock", json!(1.5)), &["/stock"]),
        (with("/stock", json!("5")), &["/stock"]),
        (with("/price/amount", json!(-1)), &["/price/amount"]),
        (with("/price/amount", json!(19.99)), &["/price/amount"]),
        (with("/price/amount", json!(100_000_000_001_i64)), &["/price/amount"]),
        (with("/price/amount", json!(u64::MAX)), &["/price/amount"]),
        (with("/price/currency", json!("usd")), &["/price/currency"]),
        (with("/price/currency", json!("ZZZ")), &["/price/currency"]),
        (with("/price/currency", json!("")), &["/price/currency"]),
        (with("/price", json!(1999)), &["/price"]),
        (with("/price", json!([1999, "USD"])), &["/price"]),
        (
            json!({ "name": "", "description": "\u{7}", "price": { "amount": -1, "currency": "?" }, "stock": -1 }),
            &["/description", "/name", "/price/amount", "/price/currency", "/stock"],
        ),
    ];
    for (body, pointers) in &cases {
        assert_eq!(own.post("/products", body).await.invalid(), *pointers, "{body}");
    }
    let everything = &cases.last().unwrap();
    for client in system.clients(Service::Product) {
        assert_eq!(client.post("/products", &everything.0).await.invalid(), everything.1, "{client:?}");
        let mut unknown = product(1);
        unknown["colour"] = json!("red");
        client.post("/products", &unknown).await.problem(422, "invalid");
        client.post("/products", &json!([])).await.problem(422, "invalid");
        client.post_raw("/products", "{").await.problem(400, "malformed");
    }
    assert_eq!(own.get("/products").await.expect(200)["items"], json!([]), "nothing came of any of these");
    // The bounds themselves are within.
    for body in [
        json!({ "name": long("é", 200), "description": long("é", 2000), "price": { "amount": 0, "currency": "JPY" }, "stock": 0 }),
        json!({ "name": "x", "price": { "amount": 100_000_000_000_i64, "currency": "EUR" }, "stock": 1_000_000_000 }),
    ] {
        own.post("/products", &body).await.expect(201);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_change_of_stock_is_refused() {
    let system = System::new().await;
    let there = system.create_product(5, 100).await;
    for client in system.clients(Service::Product) {
        let stock = format!("/products/{there}/stock");
        for delta in [json!(0), json!(1.5), json!("1"), json!(null), json!(1_000_000_001), json!(i64::MIN), json!(u64::MAX)] {
            assert_eq!(client.post(&stock, &json!({ "delta": delta })).await.invalid(), ["/delta"], "{delta}");
        }
        client.post(&stock, &json!({ "delta": 1, "why": "" })).await.problem(422, "invalid");
        client.post_raw(&stock, "{").await.problem(400, "malformed");
        assert_eq!(client.post_raw(&stock, "7").await.invalid(), [""]);
        let nothing = Uuid::now_v7();
        client.post(&format!("/products/{nothing}/stock"), &json!({ "delta": 1 })).await.problem(404, "not-found");
        client.get(&format!("/products/{nothing}")).await.problem(404, "not-found");
        for wrong in ["7", "%00", "%FF"] {
            client.get(&format!("/products/{wrong}")).await.problem(400, "malformed");
            client.post(&format!("/products/{wrong}/stock"), &json!({ "delta": 1 })).await.problem(400, "malformed");
        }
    }
    assert_eq!(system.product(there).await["stock"], 5);
    system.audit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stock_is_reserved_and_released_directly() {
    let system = System::new().await;
    for client in system.clients(Service::Product) {
        let product = system.create_product(5, 100).await;
        let levels = async || {
            let product = system.product(product).await;
            (product["stock"].as_i64().unwrap(), product["reserved"].as_i64().unwrap())
        };
        let body = json!({ "product_id": product, "quantity": 3 });
        let reserved = client.post("/products/reserve", &body).await.expect(200);
        fields(&reserved, &["status", "reservation_id", "expires_at"]);
        assert_eq!(reserved["status"], "reserved");
        v7(&reserved["reservation_id"]);
        assert_eq!(levels().await, (2, 3));
        client.post("/products/reserve", &body).await.problem(409, "insufficient-stock");
        assert_eq!(levels().await, (2, 3), "a refusal holds nothing");

        let release = format!("/products/reservations/{}/release", reserved["reservation_id"].as_str().unwrap());
        for _ in 0..2 {
            assert_eq!(client.post(&release, &json!({})).await.expect(200), json!({ "status": "released" }));
            assert_eq!(levels().await, (5, 0), "released once, however often it is asked");
        }

        let nothing = Uuid::now_v7();
        let ask = |id: Value, quantity: Value| json!({ "product_id": id, "quantity": quantity });
        client.post("/products/reserve", &ask(json!(nothing), json!(1))).await.problem(404, "not-found");
        client.post(&format!("/products/reservations/{nothing}/release"), &json!({})).await.problem(404, "not-found");
        client.post("/products/reservations/7/release", &json!({})).await.problem(400, "malformed");
        for quantity in [json!(0), json!(-1), json!(100_001), json!(1.5), json!(u64::MAX), json!("1")] {
            let answer = client.post("/products/reserve", &ask(json!(product), quantity.clone())).await;
            assert_eq!(answer.invalid(), ["/quantity"], "{quantity}");
        }
        assert_eq!(client.post("/products/reserve", &ask(json!("x"), json!(0))).await.invalid(), ["/product_id", "/quantity"]);
        assert_eq!(levels().await, (5, 0));
    }
    system.audit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_held_without_an_order_is_given_back_once_it_has_expired() {
    let short = |settings: &mut testkit::Settings| {
        settings.product.reservations.reservations_expire_after = Duration::from_secs(3);
    };
    let system = System::builder().settings(short).start().await;
    let (user, there) = (system.create_user(true).await, system.create_product(10, 100).await);
    let order = system.submit(user, &[(there, 1)]).await;
    system.wait_final(order).await;
    let client = system.client(Service::Product);
    let reserve = async || {
        let request = client.request(Method::POST, "/products/reserve").header("idempotency-key", "basket-7");
        answer(request.json(&json!({ "product_id": there, "quantity": 3 }))).await
    };
    let reserved = reserve().await.expect(200);
    let expires_at: DateTime<Utc> = reserved["expires_at"].as_str().unwrap().parse().unwrap();
    let left = expires_at - Utc::now();
    assert!((0..=3_500).contains(&left.num_milliseconds()), "{left}");
    assert_eq!(system.stock(there).await, (6, 4));
    // As a build left it that knew no end: it counts from its creation.
    let older = "with held as (update products set stock = stock - 2, reserved = reserved + 2 where id = $1 returning id) \
         insert into reservations (id, direct, status, items, created_at) \
         select gen_random_uuid(), true, 'reserved', json_build_array(json_build_object('product_id', id, 'quantity', 2, \
             'unit_price', json_build_object('amount', 100, 'currency', 'USD'))), now() - interval '1 hour' from held";
    sqlx::query(older).bind(there.0).execute(&system.product_db).await.unwrap();
    eventually(Duration::from_secs(20), || async {
        let stock = system.stock(there).await;
        if stock == (9, 1) { Ok(()) } else { Err(stock) }
    })
    .await;
    assert!(Utc::now() >= expires_at - chrono::TimeDelta::milliseconds(500), "not before its time");
    // What was answered is answered again, and to release what is released is as ever.
    let again = reserve().await;
    assert_eq!((again.expect(200), again.header("idempotency-replayed")), (reserved.clone(), "true"));
    let release = format!("/products/reservations/{}/release", reserved["reservation_id"].as_str().unwrap());
    assert_eq!(client.post(&release, &json!({})).await.expect(200), json!({ "status": "released" }));
    assert_eq!(system.stock(there).await, (9, 1), "what the order holds it holds on");
    system.audit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_order_holds_nobody_else_releases() {
    let system = System::new().await;
    let (user, product) = (system.create_user(true).await, system.create_product(5, 100).await);
    let order = system.submit(user, &[(product, 2)]).await;
    assert_eq!(system.wait_final(order).await["status"], "confirmed");
    for client in system.clients(Service::Product) {
        let answer = client.post(&format!("/products/reservations/{order}/release"), &json!({})).await;
        answer.problem(404, "not-found");
    }
    let product = system.product(product).await;
    assert_eq!((&product["stock"], &product["reserved"]), (&json!(3), &json!(2)));
    assert_eq!(system.audit().await.confirmed, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn stock_that_many_reserve_at_once_is_never_oversold() {
    let system = System::new().await;
    let there = id(&system.client(Service::Product).post("/products", &product(30)).await.expect(201));
    let asks = (0..50).map(|_| {
        let client = system.client(Service::Product);
        async move { client.post("/products/reserve", &json!({ "product_id": there, "quantity": 1 })).await.status }
    });
    let statuses = futures_util::future::join_all(asks).await;
    let count = |wanted| statuses.iter().filter(|status| **status == wanted).count();
    assert_eq!((count(200), count(409)), (30, 20), "{statuses:?}");
    system.audit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_available_and_what_is_held_stay_within_the_limit_together() {
    const MAX: i64 = 1_000_000_000;
    let system = System::builder().without(Service::Order).without(Service::User).start().await;
    let client = system.client(Service::Product);
    let price = json!({ "amount": 1, "currency": "USD" });
    let product = client.post("/products", &json!({ "name": "x", "price": price, "stock": MAX })).await.expect(201);
    let id = product["id"].as_str().unwrap().to_owned();
    let stock = format!("/products/{id}/stock");
    let held = client.post("/products/reserve", &json!({ "product_id": id, "quantity": 100 })).await.expect(200);
    for delta in [1, 100, MAX] {
        let problem = client.post(&stock, &json!({ "delta": delta })).await.problem(409, "stock-out-of-range");
        assert!(problem["detail"].as_str().unwrap().contains("999999900 are available and 100 held"), "{problem:#}");
    }
    client.post(&stock, &json!({ "delta": -(MAX - 99) })).await.problem(409, "stock-out-of-range");
    client.post(&stock, &json!({ "delta": -50 })).await.expect(200);
    assert_eq!(client.post(&stock, &json!({ "delta": 50 })).await.expect(200)["stock"], MAX - 100);
    let release = format!("/products/reservations/{}/release", held["reservation_id"].as_str().unwrap());
    client.post(&release, &json!({})).await.expect(200);
    let product = client.get(&format!("/products/{id}")).await.expect(200);
    assert_eq!((&product["stock"], &product["reserved"]), (&json!(MAX), &json!(0)));
}
