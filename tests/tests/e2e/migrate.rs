//! The databases that builds before this one left, with sagas in flight: the services bring them up to date in place, and the sagas go on.

use std::cell::Cell;
use std::time::Duration;

use events::OrderId;
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use testkit::{Answer, Lane, Line, Service, System, answer, eventually, order_body};

/// What a build left; see `tests/fixtures/README.md`.
struct Left {
    user: &'static str,
    product: &'static str,
    order: &'static str,
    orders: &'static str,
}

macro_rules! left {
    ($folder:literal) => {
        Left {
            user: include_str!(concat!("../../fixtures/", $folder, "/user.sql")),
            product: include_str!(concat!("../../fixtures/", $folder, "/product.sql")),
            order: include_str!(concat!("../../fixtures/", $folder, "/order.sql")),
            orders: include_str!(concat!("../../fixtures/", $folder, "/orders.json")),
        }
    };
}

/// How the orders end, by their place in the dump: in flight, and over by then.
const IN_FLIGHT: [(&str, &str, Option<&str>); 7] = [
    ("flight_validate", "confirmed", None),
    ("flight_unknown_user", "rejected", Some("user_not_found")),
    ("flight_reserve", "confirmed", None),
    ("flight_outbox", "confirmed", None),
    ("flight_cancelling", "cancelled", Some("cancelled_by_customer")),
    ("flight_timed_out", "rejected", Some("timed_out")),
    ("held", "cancelled", Some("cancelled_by_customer")),
];
const OVER: [(&str, &str, Option<&str>); 11] = [
    ("confirmed", "confirmed", None),
    ("retried", "confirmed", None),
    ("asked_again", "confirmed", None),
    ("unknown_user", "rejected", Some("user_not_found")),
    ("inactive_user", "rejected", Some("user_inactive")),
    ("short", "rejected", Some("insufficient_stock")),
    ("withdrawn", "rejected", Some("withdrawn_by_operator")),
    ("timed_out", "rejected", Some("timed_out")),
    ("cancelled_after", "cancelled", Some("cancelled_by_customer")),
    ("cancelled_during", "cancelled", Some("cancelled_by_customer")),
    ("skipped", "cancelled", Some("cancelled_by_customer")),
];

/// A system on the databases as they were left, and a broker that knows of nothing.
async fn carried_over(left: &Left) -> System {
    // The first of these builds timed by the time of day, which has gone on since: it is not what is tried here.
    let for_years = Duration::from_secs(20 * 365 * 86_400);
    let stopped = Service::ALL.into_iter().fold(System::builder(), testkit::Builder::without);
    let system = stopped
        .order(|order| {
            order.sagas.timing.step_deadline = Some(for_years);
            order.sagas.timing.saga_deadline = for_years;
        })
        .start()
        .await;
    let settings = system.settings();
    let databases = [
        (&settings.user.database_url, left.user),
        (&settings.product.database_url, left.product),
        (&settings.order.database_url, left.order),
    ];
    for (url, dump) in databases {
        let mut connection = PgConnection::connect(url.expose()).await.expect("the database");
        sqlx::raw_sql(AssertSqlSafe(dump)).execute(&mut connection).await.expect("as it was left");
        connection.close().await.expect("closed");
    }
    for service in Service::ALL {
        system.start(service).await;
    }
    system
}

/// `watched`: whether that build kept an eye on the stream of events, so that this one notices by itself that the broker has none of them.
async fn goes_on(left: Left, watched: bool) {
    let orders: Value = serde_json::from_str(left.orders).unwrap();
    let order = |name: &str| -> OrderId { orders[name].as_str().expect(name).parse().unwrap() };
    let system = carried_over(&left).await;
    for (name, status, code) in OVER.into_iter().chain(IN_FLIGHT) {
        let seen = system.wait_final(order(name)).await;
        assert_eq!((&seen["status"], seen["reason"]["code"].as_str()), (&json!(status), code), "{name}: {seen:#}");
    }

    // What a client asked for then, asked for again: the key is still the order's.
    let first = system.order(order("confirmed")).await;
    let items: Vec<(events::ProductId, i64)> = first["items"].as_array().unwrap().iter().map(line).collect();
    let user = first["user_id"].as_str().unwrap().parse().unwrap();
    let request = system.client(Service::Order).request(Method::POST, "/orders").header("idempotency-key", "first-order");
    let again = answer(request.json(&order_body(user, &items))).await;
    assert_eq!((again.json()["id"].clone(), again.header("idempotency-replayed")), (first["id"].clone(), "true"));

    if !watched {
        system.client(Service::Order).post("/events/rebuild", &json!({ "by": "ann" })).await.expect(200);
    }
    // Every history replays, stock adds up, and a broker that knew nothing holds every event again.
    let audit = system.audit().await;
    assert_eq!((audit.orders, audit.confirmed, audit.rejected, audit.cancelled), (18, 6, 7, 5));
    let next = system.submit(user, &items).await;
    assert_eq!(system.wait_final(next).await["status"], "confirmed");
}

fn line(item: &Value) -> (events::ProductId, i64) {
    (item["product_id"].as_str().unwrap().parse().unwrap(), item["quantity"].as_i64().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn sagas_in_flight_go_on_where_the_build_before_every_step_had_its_timer_left_them() {
    goes_on(left!("before_timers"), true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sagas_in_flight_go_on_where_the_build_before_the_steady_clock_left_them() {
    goes_on(left!("before_clock"), false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobodys_request_reaches_a_database_that_is_not_migrated_yet() {
    let system = System::builder().linked().without(Service::User).without(Service::Gateway).start().await;
    // Each step of each migration takes its time.
    let late = Lane::late(Duration::from_millis(100), Duration::ZERO);
    system.links(Service::User).database.set(Line { up: late, down: Lane::default() });
    let (instance, client) = (system.instance(Service::User), system.client(Service::User));
    instance.launch();
    eventually(Duration::from_secs(10), || Answer::try_of(client.request(Method::GET, "/livez"))).await;
    let told_to_come_again = Cell::new(0);
    eventually(Duration::from_secs(30), || {
        let create = client.request(Method::POST, "/users").json(&json!({ "email": "ada@example.com", "name": "Ada" }));
        let again = &told_to_come_again;
        async move {
            let created = answer(create).await;
            if created.status == 201 {
                return Ok(());
            }
            let problem = created.problem(503, "unavailable");
            assert!(problem["detail"].as_str().unwrap().contains("not up to date yet"), "{problem:#}");
            assert_eq!(created.header("retry-after"), "1");
            again.set(again.get() + 1);
            Err(created.text)
        }
    })
    .await;
    assert!(told_to_come_again.get() > 3, "it was migrated at once");
    client.get("/users").await.expect(200);
}
