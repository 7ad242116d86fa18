//! A database that crashes in the middle of transactions.

use std::time::Duration;

use tests::{Service, System};

use crate::trickle::Trickle;

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_crashes_under_load_keeps_one_order_for_each_key() {
    let system = System::builder()
        .impatient()
        .order(|order| order.timing.step_deadline = Duration::from_secs(25))
        .stack(|stack| stack.postgres.durable = true)
        .start()
        .await;
    let (user, product) = (system.create_user(true).await, system.create_product(100_000, 100).await);
    let trickle = Trickle::begin(system.door(Service::Order), user, product);
    trickle.more(40).await;
    let before = system.stack.postgres.pid();
    system.stack.postgres.kill().expect("killed");
    trickle.a_failure().await;
    system.stack.postgres.restart().await.expect("a database");
    assert_ne!(system.stack.postgres.pid(), before, "another process");
    trickle.more(40).await;

    let tally = trickle.end().await;
    assert!(tally.failed > 0, "nobody noticed: it did not crash");
    tally.all_confirmed(system.audit().await);
    assert_eq!(system.stock(product).await.1, tally.orders.len() as i64);
}
