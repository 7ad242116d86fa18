//! Clocks that jump: the database's under its running services.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use serde_json::Value;
use testkit::{Service, System, eventually};
use uuid::Uuid;

use testkit::messages::kind;

const SOON: Duration = Duration::from_secs(20);
const HOUR: i64 = 3_600;

/// How often the stock of each order was asked for, none of which is given up.
async fn attempts(system: &System) -> BTreeMap<Uuid, i32> {
    let rows: Vec<(Uuid, String, i32)> = sqlx::query_as(
        "select id, status, coalesce((state->'steps'->'reserve_stock'->>'asked')::int, 0) from orders where not settled",
    )
    .fetch_all(&system.order_db)
    .await
    .expect("the orders");
    assert!(rows.iter().all(|(_, status, _)| status == "pending"), "{rows:#?}");
    rows.into_iter().map(|(id, _, asked)| (id, asked)).collect()
}

/// Waits until the stock of every order has been asked for twice more.
async fn asked_again(system: &System, orders: usize) {
    let before = attempts(system).await;
    assert_eq!(before.len(), orders, "none is given up");
    eventually(SOON, || async {
        let now = attempts(system).await;
        if before.iter().all(|(id, asked)| now[id] >= asked + 2) { Ok(()) } else { Err((before.clone(), now)) }
    })
    .await;
}

/// How far the database's clock is ahead of ours, in seconds.
async fn ahead(system: &System) -> i64 {
    let now: DateTime<Utc> = sqlx::query_scalar("select now()").fetch_one(&system.order_db).await.expect("the time");
    (now - Utc::now()).num_seconds()
}

async fn steady(system: &System) -> DateTime<Utc> {
    sqlx::query_scalar("select at from saga_clock").fetch_one(&system.order_db).await.expect("the clock of the sagas")
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_that_wait_are_asked_for_again_and_not_given_up_when_the_clock_of_the_database_jumps() {
    let system = System::builder()
        .impatient()
        .never_giving_up()
        .order(|order| order.sagas.timing.stuck_after = Duration::from_secs(300))
        .stack(|stack| stack.postgres.steppable_clock = true)
        .start()
        .await;
    let second = system.start_second(Service::Order).await;
    let (user, product) = (system.create_user(true).await, system.create_product(100, 100).await);
    let (began, began_at) = (Instant::now(), steady(&system).await);
    system.stop(Service::Product).await;
    let mut orders = system.submit_many(10, user, &[(product, 1)]).await;
    asked_again(&system, orders.len()).await;
    for offset in [HOUR, 0, -HOUR] {
        system.stack.postgres.step_clock(offset).expect("stepped");
        assert!((ahead(&system).await - offset).abs() < 60, "the clock did jump to {offset}");
        // Orders placed since, too; and those who waited before are asked for no later than without it.
        orders.push(system.submit(user, &[(product, 1)]).await);
        asked_again(&system, orders.len()).await;
        for client in [system.client(Service::Order), second.client()] {
            let saga = client.get(&format!("/sagas/{}", orders[0])).await.expect(200);
            assert_eq!((&saga["status"], &saga["stuck"]), (&"pending".into(), &false.into()), "{saga:#}");
            // Shown as the time of day, as it is now.
            for time in ["waiting_since", "due_at"] {
                let time: DateTime<Utc> = saga[time].as_str().and_then(|text| text.parse().ok()).expect("a time");
                let off = (time - Utc::now()).num_seconds() - offset;
                assert!(off.abs() < 60, "{off} s off at {offset}: {saga:#}");
            }
        }
    }
    let passed = (steady(&system).await - began_at).to_std().expect("it never goes back");
    let most = began.elapsed() + Duration::from_secs(1);
    assert!(passed > Duration::from_secs(1) && passed <= most, "{passed:?} counted of {most:?}");

    system.start(Service::Product).await;
    for order in &orders {
        assert_eq!(system.wait_final(*order).await["status"], "confirmed");
    }
    assert_eq!(system.audit().await.confirmed, orders.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_deadline_of_a_step_is_its_span_of_time_whatever_the_clock_of_the_database_says() {
    let span = Duration::from_secs(4);
    let system = System::builder()
        .impatient()
        .order(|order| order.sagas.timing.step_deadline = Some(span))
        .stack(|stack| stack.postgres.steppable_clock = true)
        .without(Service::Product)
        .start()
        .await;
    let user = system.create_user(true).await;
    let product = events::ProductId(Uuid::now_v7());
    for offset in [HOUR, -HOUR] {
        let began = Instant::now();
        let order = system.submit(user, &[(product, 1)]).await;
        system.wait_entries(order, 2).await;
        system.stack.postgres.step_clock(offset).expect("stepped");
        assert!((ahead(&system).await - offset).abs() < 60, "the clock did jump to {offset}");
        // Given up it is only to be undone: the release is asked for.
        let released = eventually(SOON, || async {
            let commands: Vec<Value> = system.events_of("PRODUCT_COMMANDS", order).await;
            if commands.iter().any(|command| kind(command) == "release") { Ok(()) } else { Err(commands) }
        });
        released.await;
        assert!(began.elapsed() >= span, "given up after {:?}", began.elapsed());
    }
    system.start(Service::Product).await;
    assert_eq!(system.audit().await.rejected, 2);
}
