//! POST /orders/{id}/cancel.

use serde_json::json;
use tests::{Service, System};

#[tokio::test(flavor = "multi_thread")]
async fn a_confirmed_order_is_cancelled_and_gives_back_what_it_held() {
    let system = System::new().await;
    let user = system.create_user(true).await;
    for door in system.doors(Service::Order) {
        let product = system.create_product(5, 100).await;
        let order = system.submit(user, &[(product, 2)]).await;
        assert_eq!(system.wait_final(order).await["status"], "confirmed");
        assert_eq!(system.product(product).await["reserved"], 2);

        let path = format!("/orders/{order}/cancel");
        let answer = door.post(&path, &json!({})).await.expect(202);
        assert_eq!((&answer["id"], &answer["status"]), (&json!(order), &json!("cancelling")));
        let cancelled = system.wait_status(order, "cancelled").await;
        assert_eq!(cancelled["reason"]["code"], "cancelled_by_customer");
        assert_eq!(cancelled["items"][0]["unit_price"]["amount"], 100, "it still says what it had cost");
        let product = system.product(product).await;
        assert_eq!((&product["stock"], &product["reserved"]), (&json!(5), &json!(0)));
        door.post(&path, &json!({})).await.problem(409, "too-late-to-cancel");
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

#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_order_is_too_late_to_cancel() {
    let system = System::new().await;
    let (user, product) = (system.create_user(false).await, system.create_product(5, 100).await);
    let order = system.submit(user, &[(product, 2)]).await;
    assert_eq!(system.wait_final(order).await["status"], "rejected");
    for door in system.doors(Service::Order) {
        let answer = door.post(&format!("/orders/{order}/cancel"), &json!({})).await;
        answer.problem(409, "too-late-to-cancel");
    }
    assert_eq!(system.order(order).await["status"], "rejected");
    assert_eq!(system.audit().await.rejected, 1);
}
