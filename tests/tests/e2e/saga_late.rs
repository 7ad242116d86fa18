//! Answers and commands that come twice, late, in the wrong order, or about nothing.

use std::time::Duration;

use events::streams::{PRODUCT_REPLIES, PRODUCT_REPLIES_CONSUMER, RELEASE, RESERVE, USER_REPLIES, USER_REPLIES_CONSUMER};
use events::{OrderId, UserId};
use serde_json::{Value, json};
use testkit::{Service, System, eventually};
use uuid::Uuid;

use testkit::messages::{command, decisions, kind, release, reserve, reserved, validated};

/// What a customer sees of an order, without when it was last looked at.
async fn seen(system: &System, order: OrderId) -> Value {
    let mut order = system.order(order).await;
    order.as_object_mut().unwrap().remove("updated_at");
    order
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_come_again_after_the_end_are_no_news_and_change_nothing() {
    let system = System::new().await;
    let (user, product) = (system.create_user(true).await, system.create_product(5, 100).await);
    let (confirmed, rejected) = (system.submit(user, &[(product, 2)]).await, system.submit(user, &[(product, 9)]).await);
    let ends = (system.wait_final(confirmed).await["status"].clone(), system.wait_final(rejected).await["status"].clone());
    assert_eq!(ends, (json!("confirmed"), json!("rejected")));
    let before = (seen(&system, confirmed).await, seen(&system, rejected).await);
    let commands = system.events("PRODUCT_COMMANDS").await.len();

    for (stream, consumer) in [("USER_REPLIES", USER_REPLIES_CONSUMER), ("PRODUCT_REPLIES", PRODUCT_REPLIES_CONSUMER)] {
        for said in system.said(stream).await {
            let sequence = system.say_again(&said).await;
            system.handled(consumer, sequence).await;
        }
    }
    for order in [confirmed, rejected] {
        assert_eq!(decisions(&system.history(order).await), ["moved"; 3]);
    }
    assert_eq!((seen(&system, confirmed).await, seen(&system, rejected).await), before);
    assert_eq!(system.events("PRODUCT_COMMANDS").await.len(), commands, "nobody was asked anything");
    assert_eq!(system.stock(product).await, (3, 2));
    system.audit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stock_reserved_after_the_order_gave_up_is_released_again() {
    let system = System::builder()
        .impatient()
        .order(|order| order.sagas.timing.step_deadline = Some(Duration::from_millis(500)))
        .start()
        .await;
    let (user, product) = (system.create_user(true).await, system.create_product(5, 100).await);
    // One refused by the product service; one given up and undone.
    let refused = system.submit(user, &[(product, 9)]).await;
    assert_eq!(system.wait_final(refused).await["reason"]["code"], "insufficient_stock");
    system.stop(Service::Product).await;
    let given_up = system.submit(user, &[(product, 2)]).await;
    eventually(Duration::from_secs(10), || async {
        let commands = system.events_of("PRODUCT_COMMANDS", given_up).await;
        if commands.iter().any(|command| kind(command) == "release") { Ok(()) } else { Err(commands) }
    })
    .await;
    system.start(Service::Product).await;
    assert_eq!(system.wait_final(given_up).await["reason"]["code"], "timed_out");

    for order in [refused, given_up] {
        let before = (seen(&system, order).await, system.history(order).await.len());
        let releases = async || {
            let commands = system.events_of("PRODUCT_COMMANDS", order).await;
            commands.iter().filter(|command| kind(command) == "release").count()
        };
        let asked = releases().await;
        system.say(PRODUCT_REPLIES, &[reserved(order, product, 100)]).await;
        let history = eventually(Duration::from_secs(10), || async {
            let history = system.history(order).await;
            let released = history.last().is_some_and(|entry| entry["message"].to_string().contains("released"));
            if history.len() >= before.1 + 2 && released { Ok(history) } else { Err(history) }
        })
        .await;
        assert_eq!(decisions(&history)[before.1..], ["moved", "moved"], "released again, and heard that it is");
        assert_eq!(releases().await, asked + 1);
        assert_eq!(seen(&system, order).await, before.0, "to its customer nothing happened");
    }
    assert_eq!(system.stock(product).await, (5, 0));
    assert_eq!(system.audit().await.rejected, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_contradicts_or_is_about_nothing_spoils_nothing() {
    let system = System::new().await;
    let product = system.create_product(5, 100).await;
    let rejected = system.submit(UserId(Uuid::now_v7()), &[(product, 1)]).await;
    assert_eq!(system.wait_final(rejected).await["reason"]["code"], "user_not_found");
    let before = seen(&system, rejected).await;
    let nobody = OrderId(Uuid::now_v7());

    let batch = [validated(nobody), validated(rejected)];
    let sequence = system.say(USER_REPLIES, &batch).await;
    system.handled(USER_REPLIES_CONSUMER, sequence).await;
    let sequence = system.say(PRODUCT_REPLIES, &[reserved(nobody, product, 100), reserved(rejected, product, 100)]).await;
    system.handled(PRODUCT_REPLIES_CONSUMER, sequence).await;

    assert_eq!(decisions(&system.history(rejected).await), ["moved"; 2]);
    assert_eq!((system.ignored("late").await, system.ignored("unexpected").await), (1, 1));
    assert_eq!(seen(&system, rejected).await, before);
    system.client(Service::Order).get(&format!("/orders/{nobody}")).await.problem(404, "not-found");
    assert_eq!(system.said("DEAD_LETTERS").await.len(), 0);
    let next = system.submit(system.create_user(true).await, &[(product, 1)]).await;
    assert_eq!(system.wait_final(next).await["status"], "confirmed", "those who come after are served");
    let audit = system.audit().await;
    assert_eq!((audit.confirmed, audit.rejected), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn reservations_and_releases_in_any_order_leave_the_stock_right() {
    let system = System::new().await;
    let product = system.create_product(5, 100).await;
    let order = || OrderId(Uuid::now_v7());
    let take = |order| reserve(order, &[(product, 2)]);

    let late = order();
    let said = command(&system, late, &[(RELEASE, vec![release(late)]), (RESERVE, vec![take(late)])]).await;
    assert_eq!(said, ["released", "released"], "a release that came first is a tombstone");
    assert_eq!(system.stock(product).await, (5, 0));

    let twice = order();
    let said = command(&system, twice, &[(RESERVE, vec![take(twice), take(twice)]), (RESERVE, vec![take(twice)])]).await;
    assert_eq!(said, ["reserved"; 3], "the same answer, as often as it is asked");
    assert_eq!(system.stock(product).await, (3, 2), "and held once");

    // Within one message as over several.
    let (over, under) = (order(), order());
    let said =
        command(&system, over, &[(RESERVE, vec![take(over), release(over), take(over)]), (RELEASE, vec![release(over)])]).await;
    assert_eq!(said, ["reserved", "released", "released", "released"]);
    let said = command(&system, under, &[(RELEASE, vec![release(under), take(under)])]).await;
    assert_eq!(said, ["released", "released"]);
    let said = command(&system, twice, &[(RELEASE, vec![release(twice), release(twice)])]).await;
    assert_eq!(said, ["released", "released"]);
    assert_eq!(system.stock(product).await, (5, 0), "given back once");

    let poor = order();
    let too_many = reserve(poor, &[(product, 6)]);
    let said =
        command(&system, poor, &[(RESERVE, vec![too_many.clone()]), (RELEASE, vec![release(poor)]), (RESERVE, vec![too_many])])
            .await;
    assert_eq!(said, ["refused", "released", "refused"], "a release is always answered: nothing is held");
    assert_eq!(system.stock(product).await, (5, 0));
    system.audit().await;
}
