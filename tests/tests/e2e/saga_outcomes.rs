//! How orders end where nobody is late.

use events::{ProductId, UserId};
use serde_json::{Value, json};
use testkit::{System, eventually};
use uuid::Uuid;

use testkit::messages::decisions;

#[tokio::test(flavor = "multi_thread")]
async fn an_order_of_known_things_is_confirmed_at_their_prices() {
    let system = System::new().await;
    let user = system.create_user(true).await;
    let (tea, cup) = (system.create_product(10, 450).await, system.create_product(5, 1_200).await);
    let order = system.submit(user, &[(cup, 2), (tea, 10)]).await;

    let last = system.wait_final(order).await;
    assert_eq!((&last["status"], &last["reason"]), (&json!("confirmed"), &Value::Null), "{last:#}");
    assert_eq!(last["total"], json!({ "amount": 6_900, "currency": "USD" }));
    let prices: Vec<&Value> = last["items"].as_array().unwrap().iter().map(|item| &item["unit_price"]["amount"]).collect();
    assert_eq!(prices, [&json!(1_200), &json!(450)], "in the order of the lines");
    assert_eq!((system.stock(tea).await, system.stock(cup).await), ((0, 10), (3, 2)));
    assert_eq!(decisions(&system.history(order).await), ["moved"; 3], "placed, validated, reserved");
    assert_eq!(system.audit().await.confirmed, 1);
}

/// A user, a product with 5 pieces, and an order that cannot be.
struct Hopeless {
    user: UserId,
    items: Vec<(ProductId, i64)>,
    code: &'static str,
    /// The lines named, with what there was.
    named: Vec<(ProductId, Value)>,
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_is_rejected_for_the_right_reason_and_holds_nothing() {
    let system = System::new().await;
    let (user, inactive) = (system.create_user(true).await, system.create_user(false).await);
    let stranger = UserId(Uuid::now_v7());
    let (five, one, none) =
        (system.create_product(5, 100).await, system.create_product(1, 100).await, system.create_product(0, 100).await);
    let (euro, nothing) = (system.create_product_in("EUR", 5, 100).await, ProductId(Uuid::now_v7()));
    let case = |user, items: &[_], code, named: &[_]| Hopeless { user, items: items.to_vec(), code, named: named.to_vec() };
    let cases = [
        case(stranger, &[(five, 1)], "user_not_found", &[]),
        case(inactive, &[(five, 1)], "user_inactive", &[]),
        case(user, &[(five, 1), (nothing, 1)], "product_not_found", &[(nothing, Value::Null)]),
        case(user, &[(five, 5), (one, 2), (none, 1)], "insufficient_stock", &[(one, json!(1)), (none, json!(0))]),
        case(user, &[(five, 1), (euro, 1)], "currency_mismatch", &[]),
    ];
    for case in &cases {
        let order = system.submit(case.user, &case.items).await;
        let last = system.wait_final(order).await;
        assert_eq!(last["status"], "rejected", "{last:#}");
        assert_eq!(last["reason"]["code"], case.code, "{last:#}");
        let named = last["reason"]["items"].as_array().cloned().unwrap_or_default();
        let named: Vec<(Value, Value)> =
            named.iter().map(|line| (line["product_id"].clone(), line["available"].clone())).collect();
        let wanted: Vec<(Value, Value)> = case.named.iter().map(|(id, available)| (json!(id), available.clone())).collect();
        assert_eq!(named, wanted, "{last:#}");
        assert_eq!((&last["total"], &last["items"][0]["unit_price"]), (&Value::Null, &Value::Null));
        system.cancel(order).await.problem(409, "too-late-to-cancel");
    }
    for (product, stock) in [(five, 5), (one, 1), (none, 0), (euro, 5)] {
        assert_eq!(system.stock(product).await, (stock, 0));
    }
    let audit = system.audit().await;
    assert_eq!((audit.orders, audit.rejected), (cases.len(), cases.len()));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_was_rejected_for_stock_does_not_come_back_when_stock_does() {
    let system = System::new().await;
    let (user, product) = (system.create_user(true).await, system.create_product(0, 100).await);
    let order = system.submit(user, &[(product, 1)]).await;
    assert_eq!(system.wait_final(order).await["status"], "rejected");
    let path = format!("/products/{product}/stock");
    system.client(testkit::Service::Product).post(&path, &json!({ "delta": 3 })).await.expect(200);
    // The command once more, as after a lost acknowledgement.
    let said = system.said("PRODUCT_COMMANDS").await;
    system.say_again(said.last().expect("the command")).await;
    let replies = eventually(std::time::Duration::from_secs(10), || async {
        let replies = system.events_of("PRODUCT_REPLIES", order).await;
        if replies.len() == 2 { Ok(replies) } else { Err(replies) }
    })
    .await;
    assert!(replies.iter().all(|reply| reply["type"] == "waybill.product.refused.v1"), "{replies:#?}");
    system.audit().await;
    assert_eq!(decisions(&system.history(order).await), ["moved"; 3]);
    assert_eq!((system.order(order).await["status"].clone(), system.stock(product).await), (json!("rejected"), (3, 0)));
}
