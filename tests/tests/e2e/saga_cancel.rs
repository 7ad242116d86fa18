//! Cancelling: before anything was held, while it may be, after it was.

use std::time::Duration;

use serde_json::json;
use testkit::{Service, System, eventually};

use testkit::messages::decisions;

const SOON: Duration = Duration::from_secs(20);

/// Waits until a stream holds something about an order.
async fn said_about(system: &System, stream: &str, order: events::OrderId) {
    eventually(SOON, || async {
        if system.events_of(stream, order).await.is_empty() { Err("nothing said yet") } else { Ok(()) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelled_before_its_user_was_validated_it_ends_at_once_and_holds_nothing() {
    let system = System::new().await;
    let (user, product) = (system.create_user(true).await, system.create_product(5, 100).await);
    system.stop(Service::User).await;
    let order = system.submit(user, &[(product, 1)]).await;
    said_about(&system, "USER_COMMANDS", order).await;

    let answer = system.cancel(order).await.expect(202);
    assert_eq!(answer["status"], "cancelled", "there is nothing to undo: {answer:#}");
    assert_eq!(answer["reason"]["code"], "cancelled_by_customer");
    system.cancel(order).await.problem(409, "too-late-to-cancel");

    system.start(Service::User).await;
    eventually(SOON, || async { if system.ignored("late").await == 1 { Ok(()) } else { Err("not validated yet") } }).await;
    assert_eq!(decisions(&system.history(order).await), ["moved"; 2], "placed, cancelled: what changed nothing is no entry");
    assert_eq!(system.ignored("final").await, 1, "the second cancellation");
    assert_eq!(system.events("PRODUCT_COMMANDS").await, [] as [serde_json::Value; 0], "stock was never asked for");
    assert_eq!((system.order(order).await["status"].clone(), system.stock(product).await), (json!("cancelled"), (5, 0)));
    assert_eq!(system.audit().await.cancelled, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelled_while_its_stock_is_asked_for_it_ends_only_when_nothing_is_held() {
    let system = System::builder().impatient().start().await;
    let user = system.create_user(true).await;
    // One that would be reserved, and one that would be refused: both may have happened.
    for stock in [5, 0] {
        let product = system.create_product(stock, 100).await;
        system.stop(Service::Product).await;
        let order = system.submit(user, &[(product, 1)]).await;
        said_about(&system, "PRODUCT_COMMANDS", order).await;

        assert_eq!(system.cancel(order).await.expect(202)["status"], "cancelling");
        assert_eq!(system.cancel(order).await.expect(202)["status"], "cancelling", "asked twice, it is the same");
        // The release is asked for again and again, and the order stays open.
        eventually(SOON, || async {
            let commands = system.events_of("PRODUCT_COMMANDS", order).await;
            if commands.iter().any(|command| command["attempt"] == 2) { Ok(()) } else { Err(commands) }
        })
        .await;
        assert_eq!(system.order(order).await["status"], "cancelling");

        system.start(Service::Product).await;
        let last = system.wait_final(order).await;
        assert_eq!((&last["status"], &last["reason"]["code"]), (&json!("cancelled"), &json!("cancelled_by_customer")));
        assert_eq!(system.stock(product).await, (stock, 0));
    }
    assert_eq!(system.ignored("already_compensating").await, 2);
    assert_eq!(system.audit().await.cancelled, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelled_when_its_stock_is_held_but_the_answer_was_lost_it_gives_the_stock_back() {
    let system = System::new().await;
    let (user, product) = (system.create_user(true).await, system.create_product(5, 100).await);
    system.stop(Service::Product).await;
    let order = system.submit(user, &[(product, 2)]).await;
    said_about(&system, "PRODUCT_COMMANDS", order).await;
    system.stop(Service::Order).await;
    system.start(Service::Product).await;
    said_about(&system, "PRODUCT_REPLIES", order).await;
    assert_eq!(system.stock(product).await, (3, 2), "held");
    assert_eq!(system.lose("PRODUCT_REPLIES").await, 1, "and nobody told the order");
    system.start(Service::Order).await;
    assert_eq!(system.order(order).await["status"], "pending");

    let answer = system.cancel(order).await.expect(202);
    assert!(["cancelling", "cancelled"].contains(&answer["status"].as_str().unwrap()), "{answer:#}");
    assert_eq!(system.wait_final(order).await["status"], "cancelled");
    assert_eq!(system.stock(product).await, (5, 0));
    assert_eq!(system.audit().await.cancelled, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_confirmed_order_that_is_cancelled_gives_its_stock_back() {
    let system = System::builder().impatient().start().await;
    let (user, product) = (system.create_user(true).await, system.create_product(5, 100).await);
    let order = system.submit(user, &[(product, 2)]).await;
    assert_eq!(system.wait_final(order).await["status"], "confirmed");
    assert_eq!(system.stock(product).await, (3, 2));

    system.stop(Service::Product).await;
    assert_eq!(system.cancel(order).await.expect(202)["status"], "cancelling");
    assert_eq!(system.cancel(order).await.expect(202)["status"], "cancelling", "asked twice, it is the same");
    system.start(Service::Product).await;
    let last = system.wait_final(order).await;
    assert_eq!((&last["status"], &last["reason"]["code"]), (&json!("cancelled"), &json!("cancelled_by_customer")));
    assert_eq!(last["total"]["amount"], 200, "what it had cost stays to be seen");
    assert_eq!(system.stock(product).await, (5, 0));
    system.cancel(order).await.problem(409, "too-late-to-cancel");
    assert_eq!(system.audit().await.cancelled, 1);
}
