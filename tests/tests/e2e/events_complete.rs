//! ORDER_EVENTS holds every event of every order, whatever the broker forgets.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::events_rebuild::confirmed;
use events::OrderId;
use serde_json::{Value, json};
use testkit::{Said, Service, System, eventually};

const SOON: Duration = Duration::from_secs(25);

async fn watched() -> System {
    let often = |order: &mut order::Settings| order.sagas.events.events_check_every = Duration::from_millis(300);
    System::builder().impatient().never_giving_up().order(often).start().await
}

/// So many more confirmed orders, and a checkpoint that knows of their events.
async fn orders(system: &System, count: usize) -> Vec<OrderId> {
    let orders = confirmed(system, count).await;
    known(system).await;
    orders
}

/// Waits until the last checkpoint is at the end of the stream and no rebuild is under way.
async fn known(system: &System) {
    eventually(SOON, || async {
        let mut stream = system.jetstream().get_stream("ORDER_EVENTS").await.map_err(|error| error.to_string())?;
        let last = stream.info().await.map_err(|error| error.to_string())?.state.last_sequence as i64;
        let left: i64 = sqlx::query_scalar("select count(*) from outbox").fetch_one(&system.order_db).await.unwrap();
        let known: Option<i64> = sqlx::query_scalar(
            "select sequence from event_checkpoints where not exists (select from event_rebuilds where ended_at is null) \
             order by number desc limit 1",
        )
        .fetch_optional(&system.order_db)
        .await
        .unwrap();
        if left == 0 && known == Some(last) { Ok(()) } else { Err(format!("{known:?} of {last}, {left} rows left")) }
    })
    .await;
}

/// Waits until the stream holds so many different events, and returns its messages.
async fn complete(system: &System, events: usize) -> Vec<Said> {
    let said = eventually(SOON, || async {
        let Ok(mut stream) = system.jetstream().get_stream("ORDER_EVENTS").await else { return Err("no stream".to_owned()) };
        let messages = stream.info().await.map_err(|error| error.to_string())?.state.messages;
        if messages < events as u64 {
            return Err(format!("{messages} of {events} messages"));
        }
        let said = system.said("ORDER_EVENTS").await;
        let mut ids: BTreeMap<&str, usize> = BTreeMap::new();
        said.iter().for_each(|said| *ids.entry(said.header("ce-id")).or_default() += 1);
        if ids.len() == events { Ok(said) } else { Err(format!("{} of {events} events", ids.len())) }
    })
    .await;
    system.audit().await;
    said
}

fn again(said: &[Said]) -> usize {
    said.iter().filter(|said| !said.header("ce-republished").is_empty()).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wiped_purged_or_deleted_comes_again_from_the_histories() {
    let system = watched().await;
    orders(&system, 20).await;
    let before = system.said("ORDER_EVENTS").await;
    assert_eq!((before.len(), again(&before)), (40, 0));

    system.stack.nats.wipe().await.unwrap();
    let said = complete(&system, 40).await;
    assert_eq!(again(&said), 40, "every event comes again, and says so");
    for event in &before {
        let found = said.iter().find(|said| said.header("ce-id") == event.header("ce-id")).expect("the id it had");
        assert_eq!((&found.subject, &found.payload), (&event.subject, &event.payload), "as it was");
    }

    orders(&system, 5).await;
    system.lose("ORDER_EVENTS").await;
    assert_eq!(again(&complete(&system, 50).await), 50);

    known(&system).await;
    let stream = system.jetstream().get_stream("ORDER_EVENTS").await.unwrap();
    let said = system.said("ORDER_EVENTS").await;
    for gone in [3, 17, 20] {
        stream.delete_message(said[gone].sequence).await.unwrap();
    }
    let said = complete(&system, 50).await;
    assert_eq!(said.len(), 50, "only what was missing comes again");

    // By hand: a look that changes nothing.
    known(&system).await;
    let client = system.client(Service::Order);
    let begun = client.post("/events/rebuild", &json!({ "by": "ann", "dry_run": true })).await.expect(200);
    assert_eq!((&begun["asked_by"], &begun["dry_run"]), (&json!("ann"), &json!(true)));
    let ended: Value = eventually(SOON, || async {
        let rebuild = client.get("/events/rebuild").await.expect(200);
        if rebuild["ended_at"].is_null() { Err(rebuild) } else { Ok(rebuild) }
    })
    .await;
    assert_eq!((&ended["id"], &ended["checked"], &ended["missing"]), (&begun["id"], &json!(50), &json!(0)));
    assert_eq!(system.said("ORDER_EVENTS").await.len(), 50);
    let note = client.get("/readyz").await.json()["notes"]["events"].as_str().unwrap_or_default().to_owned();
    assert!(note.starts_with("complete"), "{note}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_restored_from_an_old_copy_gets_what_it_never_knew() {
    let system = watched().await;
    orders(&system, 10).await;
    let store = system.stack.nats.store().unwrap().to_owned();
    let copy = store.with_extension("copy");
    // Written down whole: a store that is copied while it is written to is another fault.
    system.stack.nats.stop_and(|| copy_folder(&store, &copy)).await.unwrap();
    orders(&system, 10).await;
    complete(&system, 40).await;

    system.stack.nats.kill().unwrap();
    std::fs::remove_dir_all(&store).unwrap();
    copy_folder(&copy, &store).unwrap();
    system.stack.nats.restart().await.unwrap();
    let said = complete(&system, 40).await;
    assert_eq!(again(&said), 20, "what the copy holds does not come again");
    std::fs::remove_dir_all(&copy).unwrap();
}

fn copy_folder(from: &std::path::Path, to: &std::path::Path) -> std::io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_purged_before_the_first_checkpoint_comes_again() {
    let system = watched().await;
    orders(&system, 10).await;
    // As if everything had been stored between two looks.
    sqlx::query("delete from event_checkpoints where sequence > 1 and sequence < 20").execute(&system.order_db).await.unwrap();
    let stream = system.jetstream().get_stream("ORDER_EVENTS").await.unwrap();
    assert_eq!(stream.purge().keep(5).await.unwrap().purged, 15);
    assert_eq!(again(&complete(&system, 20).await), 15);
}
