//! A database that crashes in the middle of transactions, connections that come back in the middle of one, and the database's log.

use std::fs;
use std::time::Duration;

use chassis::database::{Database, Reader};
use testkit::{Service, System};

use testkit::Trickle;

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_crashes_under_load_keeps_one_order_for_each_key() {
    let system = System::builder()
        .impatient()
        .order(|order| order.sagas.timing.step_deadline = Some(Duration::from_secs(25)))
        .stack(|stack| stack.postgres.durable = true)
        .start()
        .await;
    let (user, product) = (system.create_user(true).await, system.create_product(100_000, 100).await);
    let trickle = Trickle::begin(system.client(Service::Order), user, product);
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

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_given_back_inside_a_transaction_comes_out_of_it() {
    let system = System::builder().start().await;
    let settings = &system.settings().order;
    let one = chassis::settings::DatabaseSettings { database_connections: 1, ..settings.parts.database.clone() };
    let database = Database::new(&settings.database_url, &one, "test").expect("an address");
    for work in ["begin; create temp table half_done ()", "begin; create temp table half_done (); select 1 / 0"] {
        let _ = database.read(|mut db| async move { sqlx::Executor::execute(&mut **db, work).await }).await;
        let look = |mut db: Reader| async move {
            sqlx::query_scalar("select to_regclass('half_done') is null").fetch_one(&mut **db).await
        };
        let undone: bool = database.read(look).await.expect("an answer");
        assert!(undone, "still inside, after {work:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_calm_system_gives_the_databases_log_nothing_to_complain_of() {
    let system = System::builder().start().await;
    let (user, product) = (system.create_user(true).await, system.create_product(5, 100).await);
    for (quantity, status) in [(1, "confirmed"), (10, "rejected")] {
        let order = system.submit(user, &[(product, quantity)]).await;
        system.wait_status(order, status).await;
    }
    let log = fs::read_to_string(system.stack.postgres.log().expect("started here")).expect("a log");
    assert!(log.contains("ready to accept connections"), "{log}");
    let complaints: Vec<&str> = log.lines().filter(|line| line.contains("WARNING:") || line.contains("ERROR:")).collect();
    assert_eq!(complaints, [""; 0]);
}
