//! Orders and the clock: asked again, given up, undone.

use std::time::Duration;

use events::OrderId;
use serde_json::{Value, json};
use testkit::{Service, System, eventually};

use testkit::messages::{decisions, kind};

const SOON: Duration = Duration::from_secs(20);

/// Waits until a command of this type bears this attempt, and returns every one about the order.
async fn asked(system: &System, stream: &str, order: OrderId, what: &str, attempt: u32) -> Vec<Value> {
    eventually(SOON, || async {
        let commands: Vec<Value> =
            system.events_of(stream, order).await.into_iter().filter(|command| kind(command) == what).collect();
        if commands.iter().any(|command| command["attempt"] == attempt) { Ok(commands) } else { Err(commands) }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unanswered_command_is_said_again_as_another_attempt_and_takes_effect_once() {
    let system = System::builder().impatient().order(|order| order.sagas.timing.step_deadline = Some(SOON)).start().await;
    let (user, product) = (system.create_user(true).await, system.create_product(5, 100).await);
    for (service, stream, what) in
        [(Service::User, "USER_COMMANDS", "validate"), (Service::Product, "PRODUCT_COMMANDS", "reserve")]
    {
        system.stop(service).await;
        let order = system.submit(user, &[(product, 1)]).await;
        let commands = asked(&system, stream, order, what, 4).await;
        let attempts: Vec<&Value> = commands.iter().map(|command| &command["attempt"]).collect();
        assert_eq!(attempts, [1, 2, 3, 4], "each once, in order");
        let ids: std::collections::BTreeSet<String> = commands.iter().map(|command| command["id"].to_string()).collect();
        assert_eq!(ids.len(), commands.len(), "each is an event of its own");
        assert!(commands.iter().all(|command| command["data"] == commands[0]["data"]), "and asks the same");
        system.start(service).await;
        assert_eq!(system.wait_final(order).await["status"], "confirmed");
    }
    assert_eq!(system.stock(product).await, (3, 2), "one piece each, however often it was asked for");
    assert_eq!(system.audit().await.confirmed, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn given_up_before_its_user_was_validated_it_is_rejected_at_once() {
    let system = System::builder()
        .impatient()
        .order(|order| order.sagas.timing.step_deadline = Some(Duration::from_millis(800)))
        .without(Service::User)
        .start()
        .await;
    let product = system.create_product(5, 100).await;
    let order = system.submit(events::UserId(uuid::Uuid::now_v7()), &[(product, 1)]).await;
    let last = system.wait_final(order).await;
    assert_eq!((&last["status"], &last["reason"]["code"]), (&json!("rejected"), &json!("timed_out")), "{last:#}");
    assert_eq!(system.events("PRODUCT_COMMANDS").await, [] as [Value; 0], "there was nothing to undo");
    system.start(Service::User).await;
    eventually(SOON, || async { if system.ignored("late").await > 0 { Ok(()) } else { Err("no late answer yet") } }).await;
    assert_eq!(system.order(order).await["reason"], last["reason"], "the answer came too late");
    assert_eq!(decisions(&system.history(order).await).last().map(String::as_str), Some("moved"), "and is not recorded");
    system.audit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn given_up_while_stock_may_be_held_it_is_rejected_only_once_that_is_released() {
    let system = System::builder()
        .impatient()
        .order(|order| order.sagas.timing.step_deadline = Some(Duration::from_secs(1)))
        .start()
        .await;
    let (user, product) = (system.create_user(true).await, system.create_product(5, 100).await);
    system.stop(Service::Product).await;
    let order = system.submit(user, &[(product, 2)]).await;
    // Well past the deadline: the release has been asked for three times, and no word has come.
    asked(&system, "PRODUCT_COMMANDS", order, "release", 3).await;
    assert_eq!(system.order(order).await["status"], "pending", "it may hold stock still");
    assert_eq!(system.cancel(order).await.expect(202)["status"], "pending", "it is going back already");

    // The old commands are lost; only the last release arrives. It finds nothing, and leaves a tombstone.
    let old = system.said("PRODUCT_COMMANDS").await;
    assert!(system.lose("PRODUCT_COMMANDS").await >= 4);
    system.start(Service::Product).await;
    let last = system.wait_final(order).await;
    assert_eq!((&last["status"], &last["reason"]["code"]), (&json!("rejected"), &json!("timed_out")), "{last:#}");
    assert_eq!(system.stock(product).await, (5, 0));

    // Now the reservation comes after all.
    let mut sequence = 0;
    for said in old.iter().filter(|said| said.subject == events::streams::RESERVE) {
        sequence = system.say_again(said).await;
    }
    system.handled(events::streams::PRODUCT_COMMANDS_CONSUMER, sequence).await;
    assert_eq!(system.stock(product).await, (5, 0), "the tombstone holds");
    let row: (String, Value) = sqlx::query_as("select status, items from reservations where id = $1")
        .bind(order.0)
        .fetch_one(&system.product_db)
        .await
        .unwrap();
    assert_eq!(row, ("released".to_owned(), json!([])), "not even for a moment was anything held");
    assert_eq!(system.order(order).await["reason"], last["reason"]);
    assert_eq!(system.audit().await.rejected, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn given_up_with_stock_reserved_late_it_ends_with_the_stock_whole() {
    let system = System::builder()
        .impatient()
        .order(|order| order.sagas.timing.step_deadline = Some(Duration::from_millis(800)))
        .start()
        .await;
    let (user, product) = (system.create_user(true).await, system.create_product(5, 100).await);
    system.stop(Service::Product).await;
    let order = system.submit(user, &[(product, 2)]).await;
    asked(&system, "PRODUCT_COMMANDS", order, "release", 1).await;
    // It comes back to everything that was asked meanwhile, in its order: reservations, then releases.
    system.start(Service::Product).await;
    let last = system.wait_final(order).await;
    assert_eq!((&last["status"], &last["reason"]["code"]), (&json!("rejected"), &json!("timed_out")), "{last:#}");
    let held: Value = sqlx::query_scalar("select items from reservations where id = $1")
        .bind(order.0)
        .fetch_one(&system.product_db)
        .await
        .unwrap();
    assert_eq!(held[0]["quantity"], 2, "it was held for a moment");
    assert_eq!(system.stock(product).await, (5, 0));
    system.audit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_takes_too_long_in_all_is_given_up_whatever_its_steps_may_take() {
    let system = System::builder()
        .impatient()
        .order(|order| {
            order.sagas.timing.step_deadline = Some(Duration::from_secs(60));
            order.sagas.timing.saga_deadline = Duration::from_secs(1);
        })
        .start()
        .await;
    let (user, product) = (system.create_user(true).await, system.create_product(5, 100).await);
    system.stop(Service::Product).await;
    let order = system.submit(user, &[(product, 2)]).await;
    asked(&system, "PRODUCT_COMMANDS", order, "release", 1).await;
    assert_eq!(system.order(order).await["status"], "pending");
    system.start(Service::Product).await;
    let last = system.wait_final(order).await;
    assert_eq!((&last["status"], &last["reason"]["code"]), (&json!("rejected"), &json!("timed_out")), "{last:#}");
    assert_eq!(last["reason"]["detail"], "the order took too long");
    assert_eq!(system.stock(product).await, (5, 0));
    system.audit().await;
}
