//! Rows and tables that somebody holds: what needs them waits by itself, and everybody else goes on.

use std::time::Duration;

use events::{OrderId, ProductId, UserId};
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::PgPool;
use sqlx::postgres::PgConnection;
use testkit::{Answer, Client, Service, System, id};
use uuid::Uuid;

/// A system whose sagas ask again after a minute only: what comes sooner was set aside and came again. Requests give up after a second.
async fn start() -> System {
    System::builder()
        .settings(|settings| {
            settings.order.sagas.timing.retry_first = Some(Duration::from_secs(60));
            settings.parts().into_iter().for_each(|parts| parts.batch.busy_timeout = Duration::from_secs(1));
        })
        .start()
        .await
}

/// Somebody's transaction, which holds what it has locked until it is dropped.
struct Holder(sqlx::Transaction<'static, sqlx::Postgres>);

impl Holder {
    async fn begin(pool: &PgPool, statement: &'static str, row: Option<Uuid>) -> Self {
        let mut held = pool.begin().await.expect("a transaction");
        let connection: &mut PgConnection = &mut held;
        let done = match row {
            Some(row) => sqlx::query(statement).bind(row).execute(connection).await.map(|done| done.rows_affected()),
            None => sqlx::query(statement).execute(connection).await.map(|_| 1),
        };
        assert_eq!(done.expect("held"), 1, "{statement}");
        Self(held)
    }

    async fn let_go(self) {
        self.0.rollback().await.expect("rolled back");
    }
}

/// A request that must be turned away for now, and may be made again.
async fn busy(answer: impl Future<Output = Answer>) {
    let answer = answer.await;
    answer.problem(503, "unavailable");
    assert_eq!(answer.header("retry-after"), "1", "{answer:#?}");
}

async fn all_confirmed(system: &System, orders: &[OrderId]) {
    for order in join_all(orders.iter().map(|order| system.wait_final(*order))).await {
        assert_eq!(order["status"], "confirmed", "{order:#}");
    }
}

async fn are(system: &System, orders: &[OrderId], status: &str) {
    for order in orders {
        assert_eq!(system.order(*order).await["status"], status);
    }
}

async fn post(client: &Client, path: String, body: Value) -> Answer {
    client.post(&path, &body).await
}

async fn stock(client: &Client, product: ProductId) -> Answer {
    post(client, format!("/products/{product}/stock"), json!({ "delta": 1 })).await
}

async fn rename(client: &Client, user: UserId) -> Answer {
    client.patch(&format!("/users/{user}"), &json!({ "name": "Countess" })).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_product_delays_only_what_needs_it() {
    let system = start().await;
    let user = system.create_user(true).await;
    let (hot, other) = (system.create_product(1000, 100).await, system.create_product(1000, 100).await);
    let client = system.client(Service::Product);
    let reserve = json!({ "product_id": hot, "quantity": 1 });
    let direct = client.post("/products/reserve", &reserve).await.expect(200)["reservation_id"].clone();
    // Held by this one it is given back when the order is cancelled.
    let bought = system.submit(user, &[(hot, 1)]).await;
    system.wait_status(bought, "confirmed").await;

    let holder = Holder::begin(&system.product_db, "select 1 from products where id = $1 for update", Some(hot.0)).await;
    let mut held = system.submit_many(10, user, &[(hot, 1)]).await;
    held.extend(system.submit_many(10, user, &[(other, 1), (hot, 1)]).await);
    system.cancel(bought).await.expect(202);
    for _ in 0..5 {
        all_confirmed(&system, &system.submit_many(20, user, &[(other, 1)]).await).await;
    }
    let release = format!("/products/reservations/{}/release", direct.as_str().expect("an id"));
    tokio::join!(
        busy(stock(&client, hot)),
        busy(client.post("/products/reserve", &reserve)),
        busy(post(&client, release.clone(), json!({}))),
        async { stock(&client, other).await.expect(200) },
    );
    all_confirmed(&system, &system.submit_many(20, user, &[(other, 1)]).await).await;
    are(&system, &held, "pending").await;
    are(&system, &[bought], "cancelling").await;
    let ready = client.get("/readyz").await.expect(200);
    assert!(ready["notes"]["locks"].as_str().is_some_and(|note| note.contains(&hot.to_string())), "{ready}");
    holder.let_go().await;
    all_confirmed(&system, &held).await;
    system.wait_status(bought, "cancelled").await;
    stock(&client, hot).await.expect(200);
    client.post(&release, &json!({})).await.expect(200);
    system.audit().await;
    assert_eq!(system.stock(hot).await, (1001 - 20, 20));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_order_or_user_delays_only_itself() {
    let system = start().await;
    let (user, product) = (system.create_user(true).await, system.create_product(1000, 100).await);
    let (users, orders) = (system.client(Service::User), system.client(Service::Order));
    system.stop(Service::User).await;
    let mut placed = system.submit_many(20, user, &[(product, 1)]).await;
    let held = placed.pop().expect("20");
    let holder = Holder::begin(&system.order_db, "select 1 from orders where id = $1 for update", Some(held.0)).await;
    // The answers about all of them come together.
    system.start(Service::User).await;
    all_confirmed(&system, &placed).await;
    let operator = json!({ "by": "ops", "reason": "a test" });
    tokio::join!(busy(system.cancel(held)), busy(post(&orders, format!("/sagas/{held}/retry"), operator)), async {
        all_confirmed(&system, &system.submit_many(20, user, &[(product, 1)]).await).await;
    });
    are(&system, &[held], "pending").await;
    holder.let_go().await;
    all_confirmed(&system, &[held]).await;

    let holder = Holder::begin(&system.user_db, "select 1 from users where id = $1 for update", Some(user.0)).await;
    let another = system.create_user(true).await;
    tokio::join!(busy(rename(&users, user)), async { rename(&users, another).await.expect(200) }, async {
        all_confirmed(&system, &system.submit_many(5, user, &[(product, 1)]).await).await
    },);
    holder.let_go().await;
    rename(&users, user).await.expect(200);

    // An address somebody is about to take: only who wants that one waits to see.
    let mine = Uuid::now_v7();
    let taking = "insert into users (id, email, name) values ($1, 'taken@example.com', 'Ada')";
    let holder = Holder::begin(&system.user_db, taking, Some(mine)).await;
    let create = |email: String| {
        let users = users.clone();
        async move { users.post("/users", &json!({ "email": email, "name": "Grace" })).await }
    };
    tokio::join!(busy(create("taken@example.com".to_owned())), async {
        for created in join_all((0..10).map(|number| create(format!("{number}@example.com")))).await {
            created.expect(201);
        }
    });
    holder.let_go().await;
    create("taken@example.com".to_owned()).await.expect(201);
    system.audit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_table_turns_requests_away_and_loses_nothing() {
    let system = start().await;
    let (user, product) = (system.create_user(true).await, system.create_product(1000, 100).await);
    let (products, orders) = (system.client(Service::Product), system.client(Service::Order));
    let mut placed = system.submit_many(5, user, &[(product, 1)]).await;
    all_confirmed(&system, &placed).await;
    let holder = Holder::begin(&system.product_db, "lock table products in access exclusive mode", None).await;
    placed.extend(system.submit_many(20, user, &[(product, 1)]).await);
    let body = json!({ "name": "A thing", "price": { "amount": 1, "currency": "USD" }, "stock": 1 });
    tokio::join!(
        busy(stock(&products, product)),
        busy(products.post("/products", &body)),
        busy(post(&products, "/products/reserve".to_owned(), json!({ "product_id": product, "quantity": 1 }))),
    );
    holder.let_go().await;
    all_confirmed(&system, &placed).await;

    let holder = Holder::begin(&system.order_db, "lock table orders in share mode", None).await;
    let order: Value = testkit::order_body(user, &[(product, 1)]);
    let keyed = |key: &'static str| orders.request(Method::POST, "/orders").header("idempotency-key", key).json(&order);
    tokio::join!(busy(orders.post("/orders", &order)), busy(system.cancel(placed[0])), async {
        busy(async { Answer::try_of(keyed("a")).await.expect("an answer") }).await;
    });
    // Reading goes on.
    orders.get(&format!("/orders/{}", placed[0])).await.expect(200);
    holder.let_go().await;
    placed.push(OrderId(id(&Answer::try_of(keyed("a")).await.expect("an answer").expect(202))));
    all_confirmed(&system, &placed).await;
    let audit = system.audit().await;
    assert_eq!(audit.orders, placed.len(), "what was turned away was not placed");
    assert!(system.said("DEAD_LETTERS").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_audit_that_waits_for_a_lock_says_so() {
    let system = System::new().await;
    let held = Holder::begin(&system.product_db, "lock table products in access exclusive mode", None).await;
    let mut audit = crate::cli_saga::command(&system, &["audit"]);
    audit.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let audit = tokio::spawn(async move { audit.output().await.unwrap() });
    let waiting =
        "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and application_name like 'waybill-audit-%'";
    testkit::eventually(Duration::from_secs(20), || async {
        let waits: i64 = sqlx::query_scalar(waiting).fetch_one(&system.product_db).await.unwrap();
        if waits > 0 { Ok(()) } else { Err("it does not wait") }
    })
    .await;
    // It says so after five seconds.
    tokio::time::sleep(Duration::from_secs(7)).await;
    held.let_go().await;
    let said = audit.await.unwrap();
    let stderr = String::from_utf8(said.stderr).unwrap();
    assert!(stderr.contains("The audit waits for a lock that somebody holds in the product service's database."), "{stderr}");
    assert!(said.status.success(), "{stderr}");
}
