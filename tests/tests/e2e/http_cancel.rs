//! POST /orders/{id}/cancel.

use events::OrderId;
use serde_json::json;
use testkit::{Service, System, order_body};

use testkit::messages::decisions;

#[tokio::test(flavor = "multi_thread")]
async fn a_confirmed_order_is_cancelled_and_gives_back_what_it_held() {
    let system = System::new().await;
    let user = system.create_user(true).await;
    for client in system.clients(Service::Order) {
        let product = system.create_product(5, 100).await;
        let order = system.submit(user, &[(product, 2)]).await;
        assert_eq!(system.wait_final(order).await["status"], "confirmed");
        assert_eq!(system.product(product).await["reserved"], 2);

        let path = format!("/orders/{order}/cancel");
        let answer = client.post(&path, &json!({})).await.expect(202);
        assert_eq!((&answer["id"], &answer["status"]), (&json!(order), &json!("cancelling")));
        let cancelled = system.wait_status(order, "cancelled").await;
        assert_eq!(cancelled["reason"]["code"], "cancelled_by_customer");
        assert_eq!(cancelled["items"][0]["unit_price"]["amount"], 100, "it still says what it had cost");
        let product = system.product(product).await;
        assert_eq!((&product["stock"], &product["reserved"]), (&json!(5), &json!(0)));
        client.post(&path, &json!({})).await.problem(409, "too-late-to-cancel");
    }
    assert_eq!(system.audit().await.cancelled, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_under_way_is_cancelled_once_however_often_it_is_asked() {
    let system = System::new().await;
    let (user, product) = (system.create_user(true).await, system.create_product(5, 100).await);
    system.stop(Service::Product).await;
    let order = system.submit(user, &[(product, 2)]).await;
    system.wait_entries(order, 2).await;
    for _ in 0..3 {
        assert_eq!(system.cancel(order).await.expect(202)["status"], "cancelling");
    }
    system.start(Service::Product).await;
    system.wait_status(order, "cancelled").await;
    let product = system.product(product).await;
    assert_eq!((&product["stock"], &product["reserved"]), (&json!(5), &json!(0)));
    let audit = system.audit().await;
    assert_eq!((audit.orders, audit.cancelled), (1, 1));
}

/// Each instance keeps in memory what it last wrote of an order. Both are asked in turn, so each decides on what the other has made stale.
#[tokio::test(flavor = "multi_thread")]
async fn an_order_carried_on_by_another_instance_takes_no_step_twice() {
    let system = System::new().await;
    let (user, product) = (system.create_user(true).await, system.create_product(5, 100).await);
    let clients = [system.client(Service::Order), system.start_second(Service::Order).await.client()];
    system.stop(Service::Product).await;
    let mut orders = Vec::new();
    for number in 0..6 {
        let placed = clients[number % 2].post("/orders", &order_body(user, &[(product, 1)])).await.expect(202);
        orders.push(placed["id"].as_str().unwrap().parse::<OrderId>().unwrap());
    }
    for (number, order) in orders.iter().enumerate() {
        system.wait_entries(*order, 2).await;
        for turn in 0..3 {
            let path = format!("/orders/{order}/cancel");
            let answer = clients[(number + turn) % 2].post(&path, &json!({})).await;
            assert_eq!(answer.expect(202)["status"], "cancelling", "turn {turn}");
        }
    }
    for order in &orders {
        let history = system.history(*order).await;
        assert_eq!(decisions(&history), ["moved"; 3], "{history:?}");
        let sequences: Vec<i64> = history.iter().map(|entry| entry["sequence"].as_i64().unwrap()).collect();
        assert_eq!(sequences, [1, 2, 3]);
    }
    system.start(Service::Product).await;
    for order in orders {
        system.wait_status(order, "cancelled").await;
    }
    assert_eq!(system.audit().await.cancelled, 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_order_is_too_late_to_cancel() {
    let system = System::new().await;
    let (user, product) = (system.create_user(false).await, system.create_product(5, 100).await);
    let order = system.submit(user, &[(product, 2)]).await;
    assert_eq!(system.wait_final(order).await["status"], "rejected");
    for client in system.clients(Service::Order) {
        let answer = client.post(&format!("/orders/{order}/cancel"), &json!({})).await;
        answer.problem(409, "too-late-to-cancel");
    }
    assert_eq!(system.order(order).await["status"], "rejected");
    // A caller cannot make a history grow, however often it asks.
    let (before, updated) = (system.history(order).await, system.order(order).await["updated_at"].clone());
    let refused = system.ignored("final").await;
    for _ in 0..300 {
        system.cancel(order).await.problem(409, "too-late-to-cancel");
    }
    assert_eq!(system.history(order).await, before);
    assert_eq!(system.order(order).await["updated_at"], updated);
    assert_eq!(system.ignored("final").await, refused + 300, "each is counted");
    assert_eq!(system.audit().await.rejected, 1);
}
