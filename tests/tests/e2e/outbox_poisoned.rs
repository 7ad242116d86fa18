//! Rows of an outbox that fail: what they do not tell of goes on without them, and `/readyz` names them and not those that wait.

use std::slice;
use std::time::Duration;

use crate::outbox;
use serde_json::{Value, json};
use sqlx::PgPool;
use testkit::{Service, System, eventually};
use uuid::Uuid;

const SOON: Duration = Duration::from_secs(20);

/// Puts a row into an outbox whose messages each hold its own id.
async fn put(db: &PgPool, subjects: &[String], headers: Value, notes: &[u8]) -> Uuid {
    let row = Uuid::now_v7();
    let subjects: Vec<&str> = subjects.iter().map(String::as_str).collect();
    let payloads = vec![row.to_string().into_bytes(); subjects.len()];
    outbox::put(db, row, &subjects, headers, &payloads, notes).await;
    row
}

/// Which rows said something on this subject, in the order of the stream.
async fn said(system: &System, subject: &str) -> Vec<String> {
    let said = system.said("USER_EVENTS").await.into_iter().filter(|said| said.subject == subject);
    said.map(|said| String::from_utf8(said.payload.to_vec()).unwrap()).collect()
}

async fn empty(db: &PgPool) {
    eventually(SOON, || async {
        let left: Vec<(Uuid, Option<String>)> = sqlx::query_as("select id, last_error from outbox").fetch_all(db).await.unwrap();
        if left.is_empty() { Ok(()) } else { Err(left) }
    })
    .await;
}

/// What the outbox's note in `/readyz` says of a row set aside; the service is ready all the same.
async fn noted(system: &System, service: Service, row: Uuid, why: &str) {
    let client = system.client(service);
    eventually(SOON, || async {
        let ready = client.get("/readyz").await;
        let note = ready.json()["notes"]["outbox"].as_str().unwrap_or_default().to_owned();
        let named = note.contains(&format!("1 set aside after refusals: the row {row}: ")) && note.contains(why);
        if named && ready.status == 200 { Ok(()) } else { Err(ready.text) }
    })
    .await;
}

fn patient(settings: &mut testkit::Settings) {
    for parts in settings.parts() {
        parts.outbox.outbox_attempts = 100;
        parts.outbox.outbox_stale_after = Duration::from_millis(500);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_a_row_that_fails_only_what_it_tells_of_waits() {
    let system = System::builder().impatient().never_giving_up().settings(patient).start().await;
    let [poisoned, innocent] = [(), ()].map(|()| format!("events.user.updated.{}", Uuid::now_v7()));
    // This stream takes no messages with a time to live.
    let first = put(&system.user_db, slice::from_ref(&poisoned), json!([{ "Nats-TTL": "60s" }]), &[]).await;
    noted(&system, Service::User, first, "TTL").await;
    let both = put(&system.user_db, &[poisoned.clone(), innocent.clone()], json!([{}, {}]), &[]).await;
    let last = put(&system.user_db, slice::from_ref(&innocent), json!([{}]), &[]).await;
    eventually(SOON, || async {
        let said = said(&system, &innocent).await;
        if said.len() == 2 { Ok(()) } else { Err(said) }
    })
    .await;
    assert_eq!(said(&system, &innocent).await, [both.to_string(), last.to_string()], "each once, in their order");
    assert!(said(&system, &poisoned).await.is_empty());
    let left: Vec<(Uuid, Option<Vec<i32>>)> =
        sqlx::query_as("select id, pending from outbox order by position").fetch_all(&system.user_db).await.unwrap();
    assert_eq!(left, [(first, Some(vec![0])), (both, Some(vec![0]))]);
    // For longer than a row may wait: neither the one that fails nor the one behind it says that the broker is away.
    tokio::time::sleep(Duration::from_secs(2)).await;
    noted(&system, Service::User, first, "TTL").await;
    sqlx::query("update outbox set headers = '[{}]' where id = $1").bind(first).execute(&system.user_db).await.unwrap();
    empty(&system.user_db).await;
    assert_eq!(said(&system, &poisoned).await, [first.to_string(), both.to_string()]);
    assert_eq!(said(&system, &innocent).await.len(), 2);
    assert!(system.said("DEAD_LETTERS").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_cannot_be_read_holds_up_the_messages_of_no_other() {
    let system = System::builder().impatient().never_giving_up().settings(patient).start().await;
    let (user, product) = (system.create_user(true).await, system.create_product(5, 100).await);
    let orders = system.submit_many(2, user, &[(product, 1)]).await;
    let (poisoned, innocent) = (orders[0], orders[1]);
    for order in &orders {
        assert_eq!(system.wait_final(*order).await["status"], "confirmed");
    }
    empty(&system.order_db).await;
    let trace: String = sqlx::query_scalar("select traceparent from orders where id = $1")
        .bind(poisoned.0)
        .fetch_one(&system.order_db)
        .await
        .unwrap();
    let set = async |trace: &str| {
        let set = sqlx::query("update orders set traceparent = $2 where id = $1").bind(poisoned.0).bind(trace);
        set.execute(&system.order_db).await.unwrap();
    };
    set("garbage").await;
    let note = |order: events::OrderId, entry: u32| [order.0.as_bytes().as_slice(), &entry.to_be_bytes()].concat();
    let row = async |notes: &[Vec<u8>]| put(&system.order_db, &[], json!([]), &notes.concat()).await;
    let placed = async |order: events::OrderId| {
        let subject = format!("events.order.placed.{order}");
        system.said("ORDER_EVENTS").await.iter().filter(|said| said.subject == subject).count()
    };
    let first = row(&[note(poisoned, 1)]).await;
    noted(&system, Service::Order, first, "no traceparent: garbage").await;
    row(&[note(poisoned, 2), note(innocent, 1)]).await;
    row(&[note(innocent, 1)]).await;
    eventually(SOON, || async {
        let placed = placed(innocent).await;
        if placed == 3 { Ok(()) } else { Err(placed) }
    })
    .await;
    assert_eq!(placed(poisoned).await, 1);
    noted(&system, Service::Order, first, "no traceparent: garbage").await;
    set(&trace).await;
    eventually(Duration::from_secs(40), || async {
        sqlx::query("update outbox set retry_at = now() where retry_at is not null").execute(&system.order_db).await.unwrap();
        let left: i64 = sqlx::query_scalar("select count(*) from outbox").fetch_one(&system.order_db).await.unwrap();
        if left == 0 { Ok(()) } else { Err(left) }
    })
    .await;
    assert_eq!((placed(poisoned).await, placed(innocent).await), (2, 3));
    assert_eq!(system.audit().await.confirmed, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_no_stream_takes_is_named_and_given_up_and_one_whose_stream_comes_back_is_not() {
    let hasty = |settings: &mut testkit::Settings| {
        patient(settings);
        settings.user.parts.outbox.outbox_unheard_after = Duration::from_secs(6);
    };
    let system = System::builder().impatient().settings(hasty).start().await;
    let nowhere = format!("events.nowhere.said.{}", Uuid::now_v7());
    let row = put(&system.user_db, slice::from_ref(&nowhere), json!([{}]), &[]).await;
    let client = system.client(Service::User);
    eventually(SOON, || async {
        let ready = client.get("/readyz").await;
        let why = ready.json()["checks"]["outbox"].as_str().unwrap_or_default().to_owned();
        let named = why.contains(&row.to_string()) && why.contains(&nowhere) && why.contains("no stream");
        if ready.status == 503 && named { Ok(()) } else { Err(ready.text) }
    })
    .await;
    // Made again within seconds, as the provisioner does.
    let created = format!("events.user.updated.{}", Uuid::now_v7());
    system.jetstream().delete_stream("USER_EVENTS").await.unwrap();
    let waits = put(&system.user_db, slice::from_ref(&created), json!([{}]), &[]).await;
    let letter = eventually(SOON, || async {
        let letters = system.said("DEAD_LETTERS").await;
        letters.first().cloned().ok_or("none yet")
    })
    .await;
    assert_eq!((letter.header("Waybill-Subject"), letter.header("Waybill-Consumer")), (nowhere.as_str(), "user"));
    assert!(letter.header("Waybill-Reason").contains("no stream"), "{letter:?}");
    assert_eq!(letter.payload, row.to_string());
    empty(&system.user_db).await;
    assert_eq!(said(&system, &created).await, [waits.to_string()]);
    eventually(SOON, || async {
        let ready = client.get("/readyz").await;
        if ready.status == 200 { Ok(()) } else { Err(ready.text) }
    })
    .await;
    assert_eq!(system.said("DEAD_LETTERS").await.len(), 1);
}
