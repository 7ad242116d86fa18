//! What Postgres says of itself under load: migrations beside requests, a failover, cancelled statements, a full disk. No request is
//! answered 500 for it, and no message becomes a dead letter.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use events::{OrderId, ProductId, UserId};
use reqwest::Method;
use sqlx::PgPool;
use testkit::{Answer, Service, System, eventually};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use testkit::Trickle;

/// Clients that read everything there is to read, one thing after the other.
struct Readers {
    stop: CancellationToken,
    task: JoinHandle<Vec<String>>,
    rounds: Arc<AtomicUsize>,
}

impl Readers {
    /// Begins. Answers other than 200, or 503 with Retry-After where `may_fail`, are kept.
    fn begin(system: &System, user: UserId, product: ProductId, order: OrderId, may_fail: bool) -> Self {
        let (stop, rounds) = (CancellationToken::new(), Arc::new(AtomicUsize::new(0)));
        let (users, products) = (system.client(Service::User), system.client(Service::Product));
        let orders = system.client(Service::Order);
        let requests = vec![
            (users.clone(), "/users".to_owned()),
            (users, format!("/users/{user}")),
            (products.clone(), "/products".to_owned()),
            (products, format!("/products/{product}")),
            (orders.clone(), "/orders".to_owned()),
            (orders.clone(), format!("/orders?user_id={user}&status=confirmed")),
            (orders.clone(), format!("/orders/{order}")),
            (orders.clone(), format!("/orders/{order}/history")),
            (orders.clone(), format!("/orders/{order}/events")),
            (orders.clone(), format!("/sagas/{order}")),
            (orders.clone(), format!("/sagas/{order}/waybill")),
            (orders, "/sagas/waybills?limit=3".to_owned()),
        ];
        let (until, count) = (stop.clone(), rounds.clone());
        let task = tokio::spawn(async move {
            let mut odd = Vec::new();
            while !until.is_cancelled() {
                for (client, path) in &requests {
                    let answer = Answer::try_of(client.request(Method::GET, path)).await;
                    let fine = answer.as_ref().is_ok_and(|answer| {
                        answer.status == 200 || may_fail && answer.status == 503 && answer.header("retry-after") == "1"
                    });
                    if !fine {
                        odd.push(format!("{path}: {answer:?}"));
                    }
                }
                count.fetch_add(1, Ordering::SeqCst);
            }
            odd
        });
        Self { stop, task, rounds }
    }

    /// Waits until everything has been read once more.
    async fn a_round(&self) {
        let before = self.rounds.load(Ordering::SeqCst);
        eventually(Duration::from_secs(30), || async {
            // The one under way may have begun before.
            if self.rounds.load(Ordering::SeqCst) >= before + 2 { Ok(()) } else { Err("the readers hang") }
        })
        .await;
    }

    async fn end(self) {
        self.stop.cancel();
        let odd = self.task.await.expect("the readers do not panic");
        assert!(odd.is_empty(), "{odd:#?}");
    }
}

async fn run(pool: &PgPool, statement: &'static str) {
    sqlx::raw_sql(statement).execute(pool).await.unwrap_or_else(|error| panic!("{statement}: {error}"));
}

async fn no_dead_letter(system: &System) {
    let letters = system.said("DEAD_LETTERS").await;
    assert!(letters.is_empty(), "{letters:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_migration_under_load_fails_no_request() {
    let system = System::new().await;
    let (user, product) = (system.create_user(true).await, system.create_product(100_000, 100).await);
    let first = system.submit(user, &[(product, 1)]).await;
    system.wait_status(first, "confirmed").await;
    let trickle = Trickle::begin(system.client(Service::Order), user, product);
    let readers = Readers::begin(&system, user, product, first, false);
    trickle.more(20).await;
    readers.a_round().await;
    // What is known by now is of another type afterwards, for every statement that returns it.
    let migrations = [
        (&system.order_db, "alter table orders alter column status type varchar(40)"),
        (&system.order_db, "alter table orders add column noted text"),
        (
            &system.order_db,
            "alter table orders alter column traceparent type varchar(100), alter column currency type varchar(3)",
        ),
        (&system.order_db, "alter table orders alter column idempotency_key type varchar(300)"),
        (&system.order_db, "alter table order_history alter column entry type varchar"),
        (&system.user_db, "alter table users alter column name type varchar(300), alter column email type varchar(400)"),
        (&system.product_db, "alter table products alter column name type varchar(300), alter column currency type varchar(3)"),
        (&system.product_db, "alter table reservations alter column status type varchar(20)"),
    ];
    for (pool, migration) in migrations {
        run(pool, migration).await;
        trickle.more(8).await;
        readers.a_round().await;
    }
    // Writes of one row each, whose answers are of those types too.
    let renamed = system.client(Service::User).patch(&format!("/users/{user}"), &serde_json::json!({ "name": "Countess" })).await;
    assert_eq!(renamed.expect(200)["name"], "Countess");
    let stock = serde_json::json!({ "delta": 5 });
    system.client(Service::Product).post(&format!("/products/{product}/stock"), &stock).await.expect(200);
    system.create_user(true).await;
    system.create_product(1, 1).await;

    readers.end().await;
    let tally = trickle.end().await;
    assert_eq!(tally.failed, 0, "a request failed");
    let audit = system.audit().await;
    assert_eq!((audit.orders, audit.confirmed), (tally.orders.len() + 1, tally.orders.len() + 1), "{audit:?}");
    no_dead_letter(&system).await;
    let log = fs::read_to_string(system.stack.postgres.log().expect("started here")).expect("a log");
    assert!(log.contains("cached plan must not change result type"), "no plan was stale: nothing was tried");
}

/// Raises one code after the other where something is written.
const FAULTS: &str = "
    create sequence raised;
    create function fail() returns trigger language plpgsql as $$
    declare
        codes text[] := array['25006', '40001', '40P01', '42501', '42P01', '42703', '53000', '53100', '53200', '53300', '55000', '55P03',
                              '57014', '57P03', '58030', '0A000', 'XX000'];
    begin
        raise exception 'a fault' using errcode = codes[1 + nextval('raised') % cardinality(codes)];
    end $$";
const CODES: i64 = 17;

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_of_any_kind_is_never_a_500_and_never_a_dead_letter() {
    let system = System::builder().impatient().never_giving_up().start().await;
    let (user, product) = (system.create_user(true).await, system.create_product(100_000, 100).await);
    let first = system.submit(user, &[(product, 1)]).await;
    system.wait_status(first, "confirmed").await;
    let trickle = Trickle::begin(system.client(Service::Order), user, product);
    let readers = Readers::begin(&system, user, product, first, true);
    trickle.more(20).await;
    let places = [
        (&system.product_db, "create trigger fail before insert on reservations for each row execute function fail()"),
        (&system.order_db, "create trigger fail before insert or update on orders for each row execute function fail()"),
    ];
    for (pool, trigger) in places {
        run(pool, FAULTS).await;
        run(pool, trigger).await;
        eventually(Duration::from_secs(120), || async {
            let raised: i64 = sqlx::query_scalar("select last_value from raised").fetch_one(pool).await.expect("a count");
            if raised >= CODES { Ok(()) } else { Err(format!("{raised} faults")) }
        })
        .await;
        run(pool, "drop function fail cascade").await;
        trickle.more(10).await;
    }
    readers.end().await;
    let tally = trickle.end().await;
    assert!(tally.failed > 0, "nobody noticed");
    let audit = system.audit().await;
    assert_eq!((audit.orders, audit.confirmed), (tally.orders.len() + 1, tally.orders.len() + 1), "{audit:?}");
    no_dead_letter(&system).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failover_to_a_read_only_server_heals_by_itself() {
    let system = System::builder().impatient().never_giving_up().start().await;
    let (user, product) = (system.create_user(true).await, system.create_product(100_000, 100).await);
    let first = system.submit(user, &[(product, 1)]).await;
    system.wait_status(first, "confirmed").await;
    let trickle = Trickle::begin(system.client(Service::Order), user, product);
    let readers = Readers::begin(&system, user, product, first, true);
    trickle.more(20).await;

    const OTHERS: &str = "select count(pg_terminate_backend(pid)) from pg_stat_activity where application_name like 'waybill-%'";
    let administrator = system.superuser("postgres");
    let databases = ["waybill_user", "waybill_product", "waybill_order"];
    for database in databases {
        let read_only = format!("alter database {database} set default_transaction_read_only = on");
        sqlx::raw_sql(sqlx::AssertSqlSafe(read_only)).execute(&administrator).await.expect("set");
    }
    // What was connected before is another session, on another server, afterwards.
    run(&administrator, OTHERS).await;
    trickle.a_failure().await;
    for service in [Service::User, Service::Product, Service::Order] {
        eventually(Duration::from_secs(20), || async {
            let ready = system.client(service).get("/readyz").await;
            if ready.status == 503 && ready.text.contains("is read-only") { Ok(()) } else { Err(ready.text) }
        })
        .await;
    }
    for _ in 0..5 {
        trickle.a_failure().await;
    }
    for database in databases {
        let writable = format!("begin read write; alter database {database} reset default_transaction_read_only; commit");
        sqlx::raw_sql(sqlx::AssertSqlSafe(writable)).execute(&administrator).await.expect("reset");
    }
    // Nobody ends the sessions that began read-only: whoever meets one closes it.
    trickle.more(20).await;
    for service in [Service::User, Service::Product, Service::Order] {
        system.instance(service).ready().await;
    }
    readers.end().await;
    let tally = trickle.end().await;
    let audit = system.audit().await;
    assert_eq!((audit.orders, audit.confirmed), (tally.orders.len() + 1, tally.orders.len() + 1), "{audit:?}");
    no_dead_letter(&system).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_was_placed_is_answered_so_though_it_cannot_be_read() {
    let system = System::builder().without(Service::User).start().await;
    let user = UserId(uuid::Uuid::now_v7());
    let product = system.create_product(5, 100).await;
    // The table is away for those who read; those who insert have it under its name again when they need it.
    run(&system.order_db, "create schema hidden").await;
    let client = system.client(Service::Order);
    let body = testkit::order_body(user, &[(product, 1)]);
    let request = client.request(Method::POST, "/orders").header("prefer", "wait=4").json(&body);
    let waiting = tokio::spawn(Answer::try_of(request));
    eventually(Duration::from_secs(10), || async {
        let placed: i64 = sqlx::query_scalar("select count(*) from orders").fetch_one(&system.order_db).await.expect("a count");
        if placed == 1 { Ok(()) } else { Err(placed) }
    })
    .await;
    run(&system.order_db, "alter table orders set schema hidden").await;
    assert_eq!(client.get("/orders").await.status, 503, "it can be read");
    let answer = waiting.await.expect("no panic").expect("an answer");
    let order = answer.expect(202);
    assert_eq!((&order["status"], &order["user_id"]), (&"pending".into(), &user.to_string().into()), "{order:#}");
    run(&system.order_db, "alter table hidden.orders set schema public").await;
    assert_eq!(client.get(&format!("/orders/{}", testkit::id(&order))).await.expect(200)["status"], "pending");
}
