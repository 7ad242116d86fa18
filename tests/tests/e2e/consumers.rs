//! Consumers that are made anew, that are behind, and that somebody paused.

use std::time::Duration;

use async_nats::jetstream::consumer::DeliverPolicy;
use chassis::topology::{self, TopologySettings};
use events::streams::{CONSUMERS, PRODUCT_COMMANDS_CONSUMER as CONSUMER, RESERVE, TOPOLOGY};
use serde_json::json;
use testkit::{Service, System, eventually};

use crate::cli_saga::waybill;

const PATIENCE: Duration = Duration::from_secs(20);

/// Messages that a consumer is to leave where they are.
const OLD: u64 = 200;

async fn flood(system: &System) {
    for _ in 0..OLD {
        system.nats().publish(RESERVE, "no batch".into()).await.expect("sent");
    }
    system.nats().flush().await.expect("sent");
}

/// Messages in the stream.
async fn stored(system: &System) -> u64 {
    system.jetstream().get_stream(CONSUMER.stream).await.expect("the stream").cached_info().state.messages
}

async fn delete(system: &System) {
    let stream = system.jetstream().get_stream(CONSUMER.stream).await.expect("the stream");
    stream.delete_consumer(CONSUMER.name).await.expect("it was there");
}

/// Each has somebody who waits for its next message: a participant without a service, or replies that no saga reads, are named here.
#[tokio::test(flavor = "multi_thread")]
async fn every_consumer_that_is_provisioned_is_read_by_somebody() {
    let system = System::builder().start().await;
    eventually(PATIENCE, || async {
        let mut unread = Vec::new();
        for consumer in &CONSUMERS {
            let stream = system.jetstream().get_stream_no_info(consumer.stream).await.map_err(|error| error.to_string())?;
            let info = stream.consumer_info(consumer.name).await.map_err(|error| error.to_string())?;
            if info.num_waiting == 0 {
                unread.push(format!("nobody reads {} as {}", consumer.stream, consumer.name));
            }
        }
        if unread.is_empty() { Ok(()) } else { Err(unread.join(", ")) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_made_anew_begins_where_sagas_can_still_be_waiting_and_no_order_is_lost() {
    const BACK: Duration = Duration::from_secs(2);
    let system = System::builder().impatient().never_giving_up().start().await;
    let (user, product) = (system.create_user(true).await, system.create_product(100, 100).await);
    system.stop_keeping_topology().await;
    let settings = TopologySettings { consumer_look_back: BACK, ..TopologySettings::default() };
    flood(&system).await;
    let before = eventually(PATIENCE, || async {
        let stored = stored(&system).await;
        if stored >= OLD { Ok(stored) } else { Err(stored) }
    })
    .await;

    // One order's command is said while nobody reads, and is too old when somebody does.
    delete(&system).await;
    let order = system.submit(user, &[(product, 1)]).await;
    eventually(PATIENCE, || async {
        let stored = stored(&system).await;
        if stored > before { Ok(()) } else { Err(stored) }
    })
    .await;
    eventually(PATIENCE, || async {
        let stream = system.jetstream().get_stream(CONSUMER.stream).await.expect("the stream");
        let first = stream.get_raw_message(before + 1).await.expect("the command").time;
        let newest = stream.get_last_raw_message_by_subject(RESERVE).await.expect("a message").time;
        if (newest - first).to_std().is_ok_and(|apart| apart > BACK) { Ok(()) } else { Err(newest) }
    })
    .await;
    let made = topology::ensure(system.jetstream(), &TOPOLOGY, &settings).await.expect("made").made;
    assert_eq!(made, ["consumer product of PRODUCT_COMMANDS created"]);
    assert_eq!(system.wait_final(order).await["status"], "confirmed");

    // The other one's is not.
    delete(&system).await;
    let before = stored(&system).await;
    let order = system.submit(user, &[(product, 1)]).await;
    eventually(PATIENCE, || async {
        let stored = stored(&system).await;
        if stored > before { Ok(()) } else { Err(stored) }
    })
    .await;
    topology::ensure(system.jetstream(), &TOPOLOGY, &settings).await.expect("made");
    assert_eq!(system.wait_final(order).await["status"], "confirmed");

    let stream = system.jetstream().get_stream(CONSUMER.stream).await.expect("the stream");
    let consumer = stream.consumer_info(CONSUMER.name).await.expect("the consumer");
    assert!(matches!(consumer.config.deliver_policy, DeliverPolicy::ByStartTime { .. }), "{:?}", consumer.config);
    assert!(consumer.delivered.consumer_sequence < OLD / 2, "it read {} messages", consumer.delivered.consumer_sequence);
    // Where it began is nobody's concern, whatever is asked for now.
    for settings in [settings, TopologySettings::default()] {
        let changes = topology::ensure(system.jetstream(), &TOPOLOGY, &settings).await.expect("it looks");
        assert_eq!(changes, topology::Changes::default());
    }
    let ready = system.client(Service::Product).get("/readyz").await;
    assert!(ready.status == 200 && !ready.text.contains("deliver_policy"), "{}", ready.text);
    system.audit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_and_a_pause_are_said_with_what_ends_them() {
    let system = System::builder()
        .impatient()
        .never_giving_up()
        .settings(|settings| settings.product.parts.batch.backlog_noted = OLD / 2)
        .start()
        .await;
    let (user, product) = (system.create_user(true).await, system.create_product(100, 100).await);
    assert_eq!(waybill(&system, &["provision", "-o", "json"]).await.json(0), json!({"changes": [], "paused": []}));
    let stream = system.jetstream().get_stream(CONSUMER.stream).await.expect("the stream");
    stream.pause_consumer(CONSUMER.name, chrono::Utc::now() + chrono::TimeDelta::hours(1)).await.expect("paused");
    flood(&system).await;
    let order = system.submit(user, &[(product, 1)]).await;
    let (paused, ends) = (
        "the consumer product of PRODUCT_COMMANDS is paused until 2",
        "; `nats consumer resume PRODUCT_COMMANDS product` ends that",
    );
    let client = system.client(Service::Product);
    let note = eventually(PATIENCE, || async {
        let ready = client.get("/readyz").await;
        let note = ready.json()["notes"][CONSUMER.stream].as_str().unwrap_or_default().to_owned();
        let said = note.starts_with(paused) && note.contains(ends) && note.contains(" messages wait to be read");
        if ready.status == 200 && said { Ok(note) } else { Err(ready.text) }
    })
    .await;
    assert!(!note.contains("provision"), "{note}");
    let metrics = client.get("/metrics").await.text;
    let line = |line: &&str| line.starts_with("waybill_consumer_pending{") && line.contains("stream=\"PRODUCT_COMMANDS\"");
    let gauge = metrics.lines().find(line).expect("the gauge");
    assert!(gauge.rsplit(' ').next().and_then(|value| value.parse::<u64>().ok()) >= Some(OLD), "{gauge}");

    let said = waybill(&system, &["provision"]).await;
    let all = format!("{}{}", said.1, said.2);
    assert!(said.0 == 0 && all.contains(paused) && all.contains(ends), "{all}");
    assert!(!all.contains("Everything is as it should be"), "{all}");
    assert!(stream.consumer_info(CONSUMER.name).await.expect("the consumer").paused, "it stays so");

    stream.resume_consumer(CONSUMER.name).await.expect("resumed");
    assert_eq!(system.wait_final(order).await["status"], "confirmed");
    eventually(PATIENCE, || async {
        let ready = client.get("/readyz").await;
        if ready.json()["notes"][CONSUMER.stream].is_null() { Ok(()) } else { Err(ready.text) }
    })
    .await;
}
