//! A broker that dies, hangs, or forgets what it held.

use std::time::Duration;

use chrono::{DateTime, Utc};
use events::streams::{CONSUMERS, STREAMS};
use events::{ProductId, UserId};
use serde_json::json;
use testkit::{Service, System, eventually};

use testkit::Trickle;

const SOON: Duration = Duration::from_secs(20);

async fn busy() -> (System, UserId, ProductId, Trickle) {
    let system = System::builder().impatient().order(|order| order.sagas.timing.step_deadline = Some(SOON)).start().await;
    let (user, product) = (system.create_user(true).await, system.create_product(100_000, 100).await);
    let trickle = Trickle::begin(system.client(Service::Order), user, product);
    trickle.more(20).await;
    (system, user, product, trickle)
}

/// Waits until what the order service had to say has been waiting for so long.
async fn unsaid_for(system: &System, seconds: f64) {
    eventually(SOON, || async {
        let age: Option<f64> = sqlx::query_scalar("select extract(epoch from now() - min(created_at))::float8 from outbox")
            .fetch_one(&system.order_db)
            .await
            .unwrap();
        if age.is_some_and(|age| age >= seconds) { Ok(()) } else { Err(age) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_are_taken_without_a_broker_and_end_when_it_is_back() {
    let (system, user, product, trickle) = busy().await;
    let before = system.stack.nats.pid();
    let mut beside = Vec::new();
    for _ in 0..2 {
        system.stack.nats.kill().expect("killed");
        trickle.more(30).await;
        unsaid_for(&system, 1.0).await;
        let waiting = system.submit(user, &[(product, 1)]).await;
        assert_eq!(system.order(waiting).await["status"], "pending");
        system.stack.nats.restart().await.expect("a broker");
        assert_eq!(system.wait_final(waiting).await["status"], "confirmed");
        trickle.more(20).await;
        beside.push(waiting);
    }
    assert_ne!(system.stack.nats.pid(), before, "another process");
    let mut tally = trickle.end().await;
    assert_eq!(tally.failed, 0, "the customers noticed nothing");
    tally.orders.extend(beside);
    tally.all_confirmed(system.audit().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_are_taken_while_the_broker_hangs_and_end_when_it_goes_on() {
    let (system, _, _, trickle) = busy().await;
    system.stack.nats.pause().expect("paused");
    trickle.more(30).await;
    unsaid_for(&system, 3.0).await;
    let stuck: i64 =
        sqlx::query_scalar("select count(*) from orders where status = 'pending'").fetch_one(&system.order_db).await.unwrap();
    assert!(stuck >= 30, "only {stuck} orders wait: the broker did not hang");
    system.stack.nats.resume().expect("resumed");
    trickle.more(20).await;
    let tally = trickle.end().await;
    assert_eq!(tally.failed, 0, "the customers noticed nothing");
    tally.all_confirmed(system.audit().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_broker_nothing_is_said_twice_and_deadlines_are_kept() {
    let system = System::builder().impatient().start().await;
    let (user, product) = (system.create_user(true).await, system.create_product(10, 100).await);
    system.stack.nats.kill().expect("killed");
    eventually(SOON, || async {
        let answer = system.client(Service::Order).get("/readyz").await;
        if answer.status == 503 { Ok(()) } else { Err(answer.text) }
    })
    .await;
    // Its step may take ten times as long as a command waits before it is said again.
    let given_up = system.submit(user, &[(product, 1)]).await;
    let last = system.wait_final(given_up).await;
    assert_eq!((&last["status"], &last["reason"]["code"]), (&json!("rejected"), &json!("timed_out")), "{last:#}");
    let history = system.history(given_up).await;
    assert_eq!(history.len(), 2, "placed and given up, and nothing was said again: {history:#?}");

    let waiting = system.submit(user, &[(product, 1)]).await;
    system.stack.nats.restart().await.expect("a broker");
    assert_eq!(system.wait_final(waiting).await["status"], "confirmed");
    assert_eq!(system.stock(product).await, (9, 1));
    system.audit().await;
}

/// When a stream, and a consumer, came to be; nothing where there is none.
async fn born(system: &System, stream: &str, consumer: Option<&str>) -> Option<DateTime<Utc>> {
    let stream = system.jetstream().get_stream(stream).await.ok()?;
    match consumer {
        None => Some(stream.cached_info().created),
        Some(consumer) => stream.consumer_info(consumer).await.ok().map(|info| info.created),
    }
}

/// Waits until a stream or consumer is there again, born later.
async fn reborn(system: &System, stream: &str, consumer: Option<&str>, before: DateTime<Utc>) {
    eventually(SOON, || async {
        match born(system, stream, consumer).await {
            Some(born) if born > before => Ok(()),
            other => Err(format!("{stream} {consumer:?}: {other:?}")),
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_forgets_everything_loses_no_order() {
    let (system, _, _, trickle) = busy().await;
    let before = born(&system, "PRODUCT_COMMANDS", None).await.expect("it is there");
    for lap in 0..2 {
        // Orders are caught on their way: one of the two who are asked is not there to answer.
        let away = [Service::Product, Service::User][lap];
        system.stop(away).await;
        trickle.more(20).await;
        system.stack.nats.wipe().await.expect("an empty broker");
        system.start(away).await;
        trickle.more(20).await;
    }
    for stream in &STREAMS {
        reborn(&system, stream.name, None, before).await;
    }
    for consumer in &CONSUMERS {
        reborn(&system, consumer.stream, Some(consumer.name), before).await;
    }
    trickle.more(10).await;
    let tally = trickle.end().await;
    assert_eq!(tally.failed, 0, "the customers noticed nothing");
    tally.all_confirmed(system.audit_databases().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_or_a_consumer_that_vanishes_comes_back_and_nothing_happens_twice() {
    let (system, _, product, trickle) = busy().await;
    for consumer in &CONSUMERS {
        let before = born(&system, consumer.stream, Some(consumer.name)).await.expect("it is there");
        let stream = system.jetstream().get_stream(consumer.stream).await.expect("a stream");
        stream.delete_consumer(consumer.name).await.expect("deleted");
        reborn(&system, consumer.stream, Some(consumer.name), before).await;
        trickle.more(10).await;
    }
    for name in ["USER_COMMANDS", "USER_REPLIES", "PRODUCT_COMMANDS", "PRODUCT_REPLIES"] {
        let before = born(&system, name, None).await.expect("it is there");
        system.jetstream().delete_stream(name).await.expect("deleted");
        reborn(&system, name, None, before).await;
        trickle.more(10).await;
    }
    let tally = trickle.end().await;
    assert_eq!(tally.failed, 0, "the customers noticed nothing");
    tally.all_confirmed(system.audit().await);
    assert_eq!(system.stock(product).await.1, tally.orders.len() as i64);
    // A consumer that is new reads its stream from the start: answers came again, and were ignored.
    let again = system.ignored("repeated").await;
    assert!(again >= 20, "only {again} answers came again");
}
