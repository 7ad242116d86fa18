//! The contract of /orders: what is asked, what is answered, what is refused.

use serde_json::{Value, json};
use testkit::{Service, System, order_body};
use uuid::Uuid;

use crate::shape::{fields, recent, v7};

const FIELDS: [&str; 8] = ["id", "user_id", "items", "total", "status", "reason", "created_at", "updated_at"];

#[tokio::test(flavor = "multi_thread")]
async fn an_order_is_taken_at_once_and_confirmed_with_its_prices_at_every_address() {
    let system = System::new().await;
    let user = system.create_user(true).await;
    let (bicycle, bell) = (system.create_product(100, 1999).await, system.create_product(100, 250).await);
    for client in system.clients(Service::Order) {
        let answer = client.post("/orders", &order_body(user, &[(bicycle, 2), (bell, 3)])).await;
        let order = answer.expect(202);
        fields(&order, &FIELDS);
        let path = format!("/orders/{}", v7(&order["id"]));
        assert_eq!(answer.header("location"), path, "{client:?}");
        assert_eq!((&order["status"], &order["total"], &order["reason"]), (&json!("pending"), &json!(null), &json!(null)));
        assert_eq!(order["user_id"], json!(user));
        let unpriced = json!([
            { "product_id": bicycle, "quantity": 2, "unit_price": null },
            { "product_id": bell, "quantity": 3, "unit_price": null },
        ]);
        assert_eq!(order["items"], unpriced);
        recent(&order["created_at"]);

        let id = v7(&order["id"]);
        system.wait_final(events::OrderId(id)).await;
        let confirmed = client.get(&path).await.expect(200);
        fields(&confirmed, &FIELDS);
        assert_eq!(confirmed["status"], "confirmed");
        assert_eq!(confirmed["total"], json!({ "amount": 2 * 1999 + 3 * 250, "currency": "USD" }));
        assert_eq!(confirmed["items"][0]["unit_price"], json!({ "amount": 1999, "currency": "USD" }));
        assert_eq!(confirmed["items"][1]["unit_price"], json!({ "amount": 250, "currency": "USD" }));
        assert_eq!((&confirmed["id"], &confirmed["created_at"]), (&order["id"], &order["created_at"]));
        assert!(recent(&confirmed["updated_at"]) > recent(&order["created_at"]));
    }
    assert_eq!(system.audit().await.confirmed, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_cannot_be_is_rejected_with_the_reason() {
    let system = System::new().await;
    let (ada, idle) = (system.create_user(true).await, system.create_user(false).await);
    let nobody = events::UserId(Uuid::now_v7());
    let nothing = events::ProductId(Uuid::now_v7());
    let (dollars, few) = (system.create_product(100, 100).await, system.create_product(3, 100).await);
    let yen = system.create_product_in("JPY", 100, 100).await;

    let short = |product: events::ProductId, requested: i64, available: Value| json!([{ "product_id": product, "requested": requested, "available": available }]);
    let cases = [
        (nobody, vec![(dollars, 1)], "user_not_found", None),
        (idle, vec![(dollars, 1)], "user_inactive", None),
        (ada, vec![(dollars, 1), (nothing, 2)], "product_not_found", Some(short(nothing, 2, json!(null)))),
        (ada, vec![(dollars, 1), (few, 4)], "insufficient_stock", Some(short(few, 4, json!(3)))),
        (ada, vec![(dollars, 1), (yen, 1)], "currency_mismatch", None),
    ];
    for (user, items, code, lines) in cases {
        let order = system.wait_final(system.submit(user, &items).await).await;
        assert_eq!((&order["status"], &order["reason"]["code"]), (&json!("rejected"), &json!(code)), "{order:#}");
        assert!(order["reason"]["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{order:#}");
        assert_eq!(order["total"], json!(null));
        if let Some(lines) = lines {
            assert_eq!(order["reason"]["items"], lines, "each line that stood in the way, and no other");
        }
    }
    for product in [dollars, few, yen] {
        assert_eq!(system.product(product).await["reserved"], 0);
    }
    assert_eq!(system.audit().await.rejected, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_order_is_refused_where_it_is_wrong() {
    let system = System::new().await;
    let (user, product) = (Uuid::now_v7(), Uuid::now_v7());
    let with = |items: Value| json!({ "user_id": user, "items": items });
    let one = |quantity: Value| with(json!([{ "product_id": product, "quantity": quantity }]));
    let many = |count: usize| {
        let item = |_| json!({ "product_id": Uuid::now_v7(), "quantity": 1 });
        with((0..count).map(item).collect::<Vec<_>>().into())
    };
    let quantity: &[&str] = &["/items/0/quantity"];
    let cases: Vec<(Value, &[&str])> = vec![
        (one(json!(0)), quantity),
        (one(json!(-1)), quantity),
        (one(json!(100_001)), quantity),
        (one(json!(1.5)), quantity),
        (one(json!(1e300)), quantity),
        (one(json!(u64::MAX)), quantity),
        (one(json!(i64::MIN)), quantity),
        (one(json!("1")), quantity),
        (one(json!(null)), quantity),
        (with(json!([])), &["/items"]),
        (many(201), &["/items"]),
        (with(json!({})), &["/items"]),
        (with(json!(null)), &["/items"]),
        (with(json!(["x"])), &["/items/0"]),
        (with(json!([[product, 1]])), &["/items/0"]),
        (json!({ "user_id": "ada", "items": [{ "product_id": product, "quantity": 1 }] }), &["/user_id"]),
        (json!({ "user_id": 7, "items": [{ "product_id": product, "quantity": 1 }] }), &["/user_id"]),
        (json!({ "user_id": "\u{0}", "items": [] }), &["/items", "/user_id"]),
        (
            with(json!([{ "product_id": product, "quantity": 1 }, { "product_id": product, "quantity": 2 }])),
            &["/items/1/product_id"],
        ),
        (
            json!({ "user_id": "", "items": [{ "product_id": "", "quantity": 0 }, { "product_id": "x", "quantity": 200_000 }] }),
            &["/items/0/product_id", "/items/0/quantity", "/items/1/product_id", "/items/1/quantity", "/user_id"],
        ),
    ];
    let own = system.client(Service::Order);
    for (body, pointers) in &cases {
        assert_eq!(own.post("/orders", body).await.invalid(), *pointers, "{body}");
    }
    // Beyond what any integer holds, as text: serde_json would not write it.
    let huge = format!(r#"{{"user_id":"{user}","items":[{{"product_id":"{product}","quantity":1{}}}]}}"#, "0".repeat(400));
    let answer = own.post_raw("/orders", huge).await;
    assert!([400, 422].contains(&answer.status), "{answer:#?}");

    let everything = cases.last().unwrap();
    for client in system.clients(Service::Order) {
        assert_eq!(client.post("/orders", &everything.0).await.invalid(), everything.1, "{client:?}");
        let mut unknown = one(json!(1));
        unknown["coupon"] = json!("FREE");
        client.post("/orders", &unknown).await.problem(422, "invalid");
        let mut unknown = one(json!(1));
        unknown["items"][0]["unit_price"] = json!({ "amount": 0, "currency": "USD" });
        let problem = client.post("/orders", &unknown).await.problem(422, "invalid");
        assert!(problem["detail"].as_str().unwrap().contains("unit_price"), "nobody names a price of his own: {problem:#}");
        assert_eq!(client.post("/orders", &json!([user, []])).await.invalid(), [""]);
        client.post_raw("/orders", "{\"user_id\":").await.problem(400, "malformed");
    }
    assert_eq!(own.get("/orders").await.expect(200)["items"], json!([]), "nothing came of any of these");
    assert_eq!(system.audit().await.orders, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_largest_order_is_taken_and_confirmed() {
    let system = System::new().await;
    let user = system.create_user(true).await;
    let mut items = Vec::new();
    for _ in 0..200 {
        items.push((system.create_product(1_000_000_000, 100_000_000_000).await, 100_000));
    }
    let order = system.wait_final(system.submit(user, &items).await).await;
    assert_eq!(order["status"], "confirmed", "{:#}", order["reason"]);
    assert_eq!(order["total"]["amount"], 200_i64 * 100_000 * 100_000_000_000);
    system.audit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_is_not_there_is_missing_and_an_id_that_is_none_is_malformed() {
    let system = System::new().await;
    let nothing = Uuid::now_v7();
    for client in system.clients(Service::Order) {
        for (id, status, kind) in
            [(nothing.to_string(), 404, "not-found"), ("7".into(), 400, "malformed"), ("%FF".into(), 400, "malformed")]
        {
            client.get(&format!("/orders/{id}")).await.problem(status, kind);
            client.get(&format!("/orders/{id}/history")).await.problem(status, kind);
            client.post(&format!("/orders/{id}/cancel"), &json!({})).await.problem(status, kind);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_history_tells_what_came_what_was_decided_and_what_was_sent() {
    let system = System::new().await;
    let (user, product) = (system.create_user(true).await, system.create_product(10, 100).await);
    let order = system.submit(user, &[(product, 1)]).await;
    system.wait_final(order).await;
    for client in system.clients(Service::Order) {
        let history = client.get(&format!("/orders/{order}/history")).await.expect(200);
        fields(&history, &["items"]);
        let items = history["items"].as_array().unwrap();
        // Begun, the user validated, the stock reserved.
        assert_eq!(items.len(), 3, "{history:#}");
        let mut before = None;
        for (index, entry) in items.iter().enumerate() {
            assert_eq!(entry["sequence"], index + 1);
            let time = recent(&entry["time"]);
            assert!(before <= Some(time), "{history:#}");
            before = Some(time);
            for field in ["message", "decision", "sent"] {
                assert!(!entry[field].is_null(), "{field} of {entry:#}");
            }
        }
        let told: Vec<usize> = items.iter().map(|entry| entry["sent"].as_array().unwrap().len()).collect();
        // Placed and validate; reserve; confirmed.
        assert_eq!(told, [2, 1, 1], "{history:#}");
    }
    system.audit().await;
}
