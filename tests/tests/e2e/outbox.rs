//! What is to be published: each row and each message with an outcome of its own, once, and the events of an order in their order.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use async_nats::jetstream::stream::Config;
use chrono::{DateTime, Utc};
use events::OrderId;
use futures_util::future::join_all;
use serde_json::{Value, json};
use sqlx::PgPool;
use testkit::{Lane, Line, Said, Service, System, eventually, id, order_body};
use uuid::Uuid;

const SOON: Duration = Duration::from_secs(20);

/// Puts a row into an outbox, as if a task that died had committed it an hour ago.
pub async fn put(db: &PgPool, row: Uuid, subjects: &[&str], headers: Value, payloads: &[Vec<u8>], notes: &[u8]) {
    sqlx::query(
        "insert into outbox (id, created_at, subjects, headers, payloads, notes) values ($1, now() - interval '1 hour', $2, $3, $4, $5)",
    )
    .bind(row)
    .bind(subjects)
    .bind(headers)
    .bind(payloads)
    .bind(notes)
    .execute(db)
    .await
    .unwrap();
}

/// The same, with an id of its own.
async fn put_new(db: &PgPool, subjects: &[&str], headers: Value, payloads: &[Vec<u8>], notes: &[u8]) -> Uuid {
    let row = Uuid::now_v7();
    put(db, row, subjects, headers, payloads, notes).await;
    row
}

async fn in_outbox(db: &PgPool, row: Uuid) -> bool {
    sqlx::query_scalar("select exists (select from outbox where id = $1)").bind(row).fetch_one(db).await.unwrap()
}

async fn letter(system: &System, service: &str, about: &str) -> Said {
    let subject = format!("dead.OUTBOX.{service}");
    eventually(SOON, || async {
        let said = system.said("DEAD_LETTERS").await;
        let found = said.iter().find(|letter| letter.subject == subject && letter.header("Waybill-Reason").contains(about));
        found.cloned().ok_or(said)
    })
    .await
}

/// The places and words of an order's events, as the stream has them.
async fn told(system: &System, orders: &[OrderId]) -> BTreeMap<OrderId, Vec<String>> {
    let mut told: BTreeMap<OrderId, Vec<String>> = orders.iter().map(|order| (*order, Vec::new())).collect();
    for said in system.said("ORDER_EVENTS").await {
        let mut words = said.subject.split('.').skip(2).map(str::to_owned);
        let (word, order) = (words.next().unwrap(), words.next().unwrap().parse().unwrap());
        told.entry(order).or_default().push(word);
    }
    told
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_the_broker_never_takes_stops_no_other() {
    let system = System::builder().impatient().never_giving_up().start().await;
    let (user, product) = (system.create_user(true).await, system.create_product(1_000, 100).await);
    let known = system.submit(user, &[(product, 1)]).await;
    system.wait_final(known).await;
    let (large, fine) = (Uuid::now_v7(), Uuid::now_v7());

    // Two messages of which one is too large, and notes of which one stands for nothing; both older than all that follows.
    let subjects = [format!("events.user.updated.{large}"), format!("events.user.updated.{fine}")];
    let headers = json!([{ "Content-Type": "application/json", "ce-id": "large" }, { "Content-Type": "application/json" }]);
    let payloads = [vec![b'x'; 2 << 20], b"{}".to_vec()];
    let too_large = put_new(&system.user_db, &[&subjects[0], &subjects[1]], headers, &payloads, &[]).await;
    let nobody = Uuid::now_v7();
    let notes = [known.0, nobody].map(|order| [order.as_bytes().as_slice(), &1_u32.to_be_bytes()].concat()).concat();
    let unknown = put_new(&system.order_db, &[], json!([]), &[], &notes).await;
    let malformed = put_new(&system.order_db, &[], json!([]), &[], b"seven b").await;
    system.stack.nats.kill().unwrap();
    let behind = system.submit_many(12, user, &[(product, 1)]).await;
    system.stack.nats.restart().await.unwrap();

    let dead = letter(&system, "user", "Payload size limit of 1048576 exceeded by message size of").await;
    assert_eq!((dead.header("Waybill-Subject"), dead.header("Waybill-Consumer")), (subjects[0].as_str(), "user"));
    assert_eq!((dead.header("Waybill-Stream"), dead.header("Waybill-Header-ce-id")), ("OUTBOX", "large"));
    assert_eq!((dead.header("Waybill-Truncated"), dead.payload[0]), ((2 << 20).to_string().as_str(), b'x'));
    assert_eq!(&letter(&system, "order", "there is no order").await.payload, &format!("entry 1 of the history of {nobody}"));
    letter(&system, "order", "notes cannot be read").await;
    for order in &behind {
        assert_eq!(system.wait_final(*order).await["status"], "confirmed");
    }
    system.audit().await;
    for (db, row) in [(&system.user_db, too_large), (&system.order_db, unknown), (&system.order_db, malformed)] {
        assert!(!in_outbox(db, row).await, "the row is gone");
    }
    let users = system.said("USER_EVENTS").await;
    assert_eq!(users.iter().filter(|said| said.subject == subjects[1]).count(), 1, "what was fine in the row is published");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_refused_is_tried_again_and_shows_and_an_outage_does_not_count() {
    let change = |settings: &mut testkit::Settings| {
        settings.user.parts.outbox.outbox_attempts = 3;
        settings.user.parts.outbox.outbox_stale_after = Duration::from_millis(500);
    };
    let system = System::builder().impatient().settings(change).start().await;
    let id = Uuid::now_v7();
    let subject = format!("events.user.updated.{id}");
    let refused = async |payload: &str| {
        // This stream takes no messages with a time to live.
        let headers = json!([{ "Content-Type": "application/json", "Nats-TTL": "60s" }]);
        put_new(&system.user_db, &[&subject], headers, &[payload.into()], &[]).await
    };
    let row = refused("{\"n\":1}").await;
    let noted = eventually(SOON, || async {
        let ready = system.client(Service::User).get("/readyz").await;
        let note = ready.json()["notes"]["outbox"].as_str().unwrap_or_default().to_owned();
        if note.contains("set aside") { Ok((ready.status, note)) } else { Err(ready.text) }
    })
    .await;
    assert!(noted.0 == 200 && noted.1.contains("1 set aside after refusals: ") && noted.1.contains("TTL"), "{noted:?}");
    let metrics = system.client(Service::User).get("/metrics").await.text;
    assert!(metrics.contains("waybill_outbox_rows{service=\"user\"} 1"), "{metrics}");
    assert!(metrics.contains("waybill_outbox_oldest_seconds{service=\"user\"} 36"), "an hour is 3600 s: {metrics}");
    let dead = letter(&system, "user", "TTL").await;
    assert_eq!((dead.header("Waybill-Deliveries"), dead.header("Waybill-Subject")), ("3", subject.as_str()));
    eventually(SOON, || async { if in_outbox(&system.user_db, row).await { Err("it is still there") } else { Ok(()) } }).await;

    // No stream takes this message, for longer than three attempts last; then there is one.
    system.stop_keeping_topology().await;
    let stream = system.jetstream().get_stream("USER_EVENTS").await.unwrap();
    let config = Config { subjects: vec!["events.user.nothing".to_owned()], ..stream.cached_info().config.clone() };
    system.jetstream().update_stream(config.clone()).await.unwrap();
    let waits =
        put_new(&system.user_db, &[&subject], json!([{ "Content-Type": "application/json" }]), &[b"{\"n\":2}".into()], &[]).await;
    let others = system.create_product(1, 100).await;
    // A row that the broker refuses keeps no service from being ready; one that nobody publishes does.
    eventually(SOON, || async {
        let ready = system.client(Service::User).get("/readyz").await;
        let stale = ready.json()["checks"]["outbox"].as_str().is_some_and(|why| why.contains("has waited to be published for"));
        if ready.status == 503 && stale { Ok(()) } else { Err(ready.text) }
    })
    .await;
    let standing = async || -> (i32, Option<DateTime<Utc>>) {
        let row = sqlx::query_as("select attempts, retry_at from outbox where id = $1").bind(waits);
        row.fetch_one(&system.user_db).await.unwrap()
    };
    let first = eventually(SOON, || async { standing().await.1.ok_or("not tried yet") }).await;
    eventually(SOON, || async {
        let (attempts, next) = standing().await;
        assert_eq!(attempts, 0);
        if next.is_some_and(|next| next > first + chrono::TimeDelta::seconds(4)) { Ok(()) } else { Err(next) }
    })
    .await;
    let config = Config { subjects: vec!["events.user.*.*".to_owned()], ..config };
    system.jetstream().update_stream(config).await.unwrap();
    eventually(SOON, || async { if in_outbox(&system.user_db, waits).await { Err("it is still there") } else { Ok(()) } }).await;
    let said = system.said("USER_EVENTS").await;
    assert_eq!(said.last().map(|said| said.json()), Some(json!({ "n": 2 })));
    assert_eq!(system.said("DEAD_LETTERS").await.len(), 1);
    system.product(others).await;
}

/// Waits until the order service has noticed that the broker is gone.
async fn not_connected(system: &System) {
    eventually(SOON, || async {
        let ready = system.client(Service::Order).get("/readyz").await.json();
        if ready["checks"]["broker"] == "not connected" { Ok(()) } else { Err(ready) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_line_to_the_broker_stores_every_message_once() {
    const ORDERS: usize = 24;
    let hasty = |order: &mut order::Settings| order.parts.broker.relay_after = Duration::from_millis(500);
    let system = System::builder().linked().order(hasty).start().await;
    let line = &system.links(Service::Order).broker;
    let (user, product) = (system.create_user(true).await, system.create_product(1_000, 100).await);

    // Nobody answers yet, and the broker absorbs nothing: what is sent twice is stored twice.
    system.stop(Service::User).await;
    system.stop_keeping_topology().await;
    for name in ["ORDER_EVENTS", "USER_COMMANDS", "PRODUCT_COMMANDS"] {
        let stream = system.jetstream().get_stream(name).await.unwrap();
        let config = Config { duplicate_window: Duration::from_millis(100), ..stream.cached_info().config.clone() };
        system.jetstream().update_stream(config).await.unwrap();
    }
    system.stack.nats.kill().unwrap();
    not_connected(&system).await;
    let mut orders = Vec::new();
    for _ in 0..ORDERS {
        orders.push(system.submit(user, &[(product, 1)]).await);
    }
    let late = Lane::late(Duration::from_millis(550), Duration::ZERO);
    line.set(Line { up: late, down: late });
    system.stack.nats.restart().await.unwrap();
    eventually(SOON, || async {
        let rows: i64 = sqlx::query_scalar("select count(*) from outbox").fetch_one(&system.order_db).await.unwrap();
        if rows == 0 { Ok(()) } else { Err(rows) }
    })
    .await;
    assert_eq!(system.said("ORDER_EVENTS").await.len(), ORDERS, "each order was told to be placed once");
    let commands = system.said("USER_COMMANDS").await;
    let ids: BTreeSet<&str> = commands.iter().map(|said| said.header("Nats-Msg-Id")).collect();
    assert!(ids.len() == commands.len() && commands.len() >= ORDERS, "{} ids of {} messages", ids.len(), commands.len());
    line.heal();
    system.start(Service::User).await;
    for order in &orders {
        assert_eq!(system.wait_final(*order).await["status"], "confirmed");
    }
    system.audit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_events_of_an_order_keep_their_order_across_an_outage_and_a_crash_of_one_instance_of_two() {
    // Long enough that the other instance's timers fire before it takes up what the one that dies leaves behind.
    let patient = |order: &mut order::Settings| order.parts.broker.relay_after = Duration::from_secs(4);
    let system = System::builder().impatient().never_giving_up().order(patient).start().await;
    system.spawn_binary(Service::Order).await;
    let second = system.start_second(Service::Order).await;
    let (user, product) = (system.create_user(true).await, system.create_product(10_000, 100).await);
    let before = system.submit_many(10, user, &[(product, 1)]).await;
    join_all(before.iter().map(|order| system.wait_final(*order))).await;

    system.stack.nats.kill().unwrap();
    let clients = [system.client(Service::Order), second.client()];
    let placed = (0..100).map(|number| {
        let (client, body) = (clients[number % 2].clone(), order_body(user, &[(product, 1)]));
        async move { OrderId(id(&client.post("/orders", &body).await.expect(202))) }
    });
    let mut orders = join_all(placed).await;
    for order in orders.iter().step_by(10).chain(&before[..5]) {
        system.cancel(*order).await.expect(202);
    }
    eventually(SOON, || async {
        let age: f64 = sqlx::query_scalar("select extract(epoch from now() - min(created_at))::float8 from outbox")
            .fetch_one(&system.order_db)
            .await
            .unwrap();
        if age >= 1.0 { Ok(()) } else { Err(age) }
    })
    .await;
    system.kill(Service::Order).await;
    system.stack.nats.restart().await.unwrap();
    // Timers of the other instance fire: their commands are not to overtake what the dead one left behind.
    eventually(SOON, || async {
        let again: i64 =
            sqlx::query_scalar("select count(*) from order_history where entry::json->'message'->>'due' is not null")
                .fetch_one(&system.order_db)
                .await
                .unwrap();
        if again >= 40 { Ok(()) } else { Err(again) }
    })
    .await;
    system.start(Service::Order).await;
    join_all(orders.iter().map(|order| system.wait_final(*order))).await;
    orders.extend(before);
    let audit = system.audit().await;
    assert_eq!((audit.orders, audit.cancelled), (110, 15), "{audit:?}");

    let told = told(&system, &orders).await;
    assert_eq!(told.len(), orders.len());
    for (order, words) in told {
        // A repetition changes no order: what counts is where each was first.
        let mut first: Vec<&str> = Vec::new();
        for word in &words {
            if !first.contains(&word.as_str()) {
                first.push(word);
            }
        }
        let expected = [&["placed", "confirmed"][..], &["placed", "cancelled"], &["placed", "compensating", "cancelled"]];
        let cancelled_late = ["placed", "confirmed", "compensating", "cancelled"];
        assert!(expected.contains(&&first[..]) || first == cancelled_late, "{order}: {words:?}");
    }
}

/// The time by the database's clock, an hour ahead or behind, is what rows and claims may bear after a step of that clock.
#[tokio::test(flavor = "multi_thread")]
async fn rows_claims_and_retries_from_a_clock_that_was_set_back_wait_no_longer_than_their_span() {
    let system = System::builder().impatient().start().await;
    let row = |n: u32| (format!("events.user.updated.{}", Uuid::now_v7()), json!([{}]), format!("{{\"n\":{n}}}").into_bytes());
    let later: DateTime<Utc> = Utc::now() + chrono::TimeDelta::hours(1);
    let mut rows = Vec::new();
    for (n, column) in [(1, "created_at"), (2, "claimed_until"), (3, "retry_at")] {
        let (subject, headers, payload) = row(n);
        let id = Uuid::now_v7();
        sqlx::query(sqlx::AssertSqlSafe(format!(
            "insert into outbox (id, subjects, headers, payloads, {column}) values ($1, $2, $3, $4, $5)"
        )))
        .bind(id)
        .bind(vec![subject])
        .bind(headers)
        .bind(vec![payload])
        .bind(later)
        .execute(&system.user_db)
        .await
        .unwrap();
        rows.push(id);
    }
    for row in rows {
        eventually(SOON, || async { if in_outbox(&system.user_db, row).await { Err("it waits") } else { Ok(()) } }).await;
    }
    let said: Vec<Value> = system.said("USER_EVENTS").await.iter().map(|said| said.json()["n"].clone()).collect();
    assert_eq!(said.len(), 3, "{said:?}");
}
