//! Streams and consumers that somebody changed: put back whole, made anew where that loses nothing, else said.

use std::time::Duration;

use chassis::topology::{self, TopologySettings};
use events::streams::TOPOLOGY;
use serde_json::{Value, json};
use testkit::{Service, System, eventually};

const PATIENCE: Duration = Duration::from_secs(20);

/// A request of the broker's API, as any client may send it.
async fn api(system: &System, subject: &str, body: &Value) -> Value {
    try_api(system, subject, body).await.expect("the broker does it")
}

async fn try_api(system: &System, subject: &str, body: &Value) -> Result<Value, Value> {
    let subject = format!("$JS.API.{subject}");
    let answer = system.nats().request(subject.clone(), body.to_string().into()).await.expect("an answer");
    let answer: Value = serde_json::from_slice(&answer.payload).expect("JSON");
    if answer.get("error").is_some() { Err(answer) } else { Ok(answer) }
}

/// The configuration as the broker has it, without its own remarks.
async fn config(system: &System, what: &str) -> Value {
    let mut config = try_api(system, what, &json!({})).await.map(|mut info| info["config"].take()).unwrap_or_else(|error| error);
    config["metadata"] = Value::Null;
    config
}

/// The configuration without the place where a consumer began: that has no meaning any more.
fn timeless(config: &Value) -> Value {
    let mut config = config.clone();
    for began in ["deliver_policy", "opt_start_time"] {
        config.as_object_mut().expect("an object").remove(began);
    }
    config
}

/// Waits until the configuration is again what it was.
async fn is_back(system: &System, what: &str, before: &Value) {
    eventually(PATIENCE, || async {
        let now = config(system, what).await;
        if timeless(&now) == timeless(before) { Ok(()) } else { Err(now) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_property_of_a_stream_that_can_be_changed_is_put_back() {
    let system = System::new().await;
    let before = config(&system, "STREAM.INFO.ORDER_EVENTS").await;
    for change in [
        json!({"subjects": ["events.order.placed.*"], "description": "mine"}),
        json!({"max_bytes": 1 << 20, "max_age": 3_600_000_000_000_u64, "duplicate_window": 1_000_000_000}),
        json!({"discard": "new", "max_msgs": 1000, "max_msgs_per_subject": 1, "max_msg_size": 100}),
        json!({"allow_direct": false, "no_ack": true, "allow_rollup_hdrs": true, "compression": "s2"}),
        json!({"republish": {"src": "events.order.>", "dest": "copy.>"}, "consumer_limits": {"max_ack_pending": 10}}),
        json!({"subject_transform": {"src": "events.order.*.*", "dest": "events.order.x.{{wildcard(2)}}"}}),
        json!({"sources": [{"name": "DEAD_LETTERS"}]}),
    ] {
        let mut changed = before.clone();
        for (property, value) in change.as_object().expect("an object") {
            changed[property] = value.clone();
        }
        let answer = api(&system, "STREAM.UPDATE.ORDER_EVENTS", &changed).await;
        for property in change.as_object().expect("an object").keys() {
            assert_ne!(answer["config"][property], before[property], "{property} was changed");
        }
        is_back(&system, "STREAM.INFO.ORDER_EVENTS", &before).await;
    }
    // What cannot be put back keeps nothing else from it, is said, and costs no message.
    let stored = api(&system, "STREAM.INFO.ORDER_EVENTS", &json!({})).await["state"]["messages"].clone();
    let mut changed = before.clone();
    (changed["deny_delete"], changed["max_msgs"], changed["description"]) = (json!(true), json!(7), json!("mine"));
    api(&system, "STREAM.UPDATE.ORDER_EVENTS", &changed).await;
    let mut rest = before.clone();
    rest["deny_delete"] = json!(true);
    is_back(&system, "STREAM.INFO.ORDER_EVENTS", &rest).await;
    let error =
        topology::ensure(system.jetstream(), &TOPOLOGY, &TopologySettings::default()).await.expect_err("it cannot").to_string();
    assert!(error.contains("the stream ORDER_EVENTS has deny_delete true instead of none"), "{error}");
    let ready = eventually(PATIENCE, || async {
        let ready = system.client(Service::Order).get("/readyz").await;
        if ready.json()["notes"]["ORDER_EVENTS"].is_string() { Ok(ready) } else { Err(ready.text) }
    })
    .await;
    assert_eq!((ready.status, ready.json()["ready"].clone()), (200, json!(true)), "it works with that");
    assert_eq!(api(&system, "STREAM.INFO.ORDER_EVENTS", &json!({})).await["state"]["messages"], stored);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_property_of_a_consumer_is_put_back_and_orders_flow_again() {
    let system = System::builder().impatient().never_giving_up().start().await;
    let (user, product) = (system.create_user(true).await, system.create_product(100, 100).await);
    let what = "CONSUMER.INFO.USER_REPLIES.order";
    let before = config(&system, what).await;
    let anew = [
        json!({"ack_policy": "none", "deliver_policy": "new", "opt_start_time": null}),
        json!({"deliver_subject": "elsewhere", "max_waiting": 0}),
        json!({"max_waiting": 5}),
    ];
    let in_place = [
        json!({"filter_subject": "nobody.says.this"}),
        json!({"filter_subjects": ["nobody", "says"], "ack_wait": 1_000_000_000, "max_ack_pending": 1, "headers_only": true}),
        json!({"backoff": [1_000_000_000], "description": "mine", "sample_freq": "100"}),
        json!({"max_deliver": 1, "max_batch": 1, "max_expires": 1_000_000_000, "inactive_threshold": 3_600_000_000_000_u64}),
    ];
    for (index, change) in anew.iter().chain(&in_place).enumerate() {
        let mut changed = config(&system, what).await;
        for (property, value) in change.as_object().expect("an object") {
            changed[property] = value.clone();
        }
        if changed["backoff"].is_array() {
            changed["max_deliver"] = json!(3);
        }
        let mut subject = "CONSUMER.CREATE.USER_REPLIES.order".to_owned();
        if let Some(filter) = change["filter_subject"].as_str() {
            subject += &format!(".{filter}");
        }
        // The provisioner may be quicker between the two.
        let answer = eventually(PATIENCE, || async {
            if index < anew.len() {
                let _ = try_api(&system, "CONSUMER.DELETE.USER_REPLIES.order", &json!({})).await;
            }
            try_api(&system, &subject, &json!({"stream_name": "USER_REPLIES", "config": changed})).await
        })
        .await;
        for property in change.as_object().expect("an object").keys() {
            assert_ne!(answer["config"][property], before[property], "{property} was changed");
        }
        is_back(&system, what, &before).await;
    }
    let order = system.submit(user, &[(product, 1)]).await;
    assert_eq!(system.wait_final(order).await["status"], "confirmed");

    // Who pauses a consumer means it: it stays paused, and the service that waits says so and goes on serving.
    let stream = system.jetstream().get_stream("USER_REPLIES").await.expect("the stream");
    stream.pause_consumer("order", chrono::Utc::now() + chrono::TimeDelta::hours(1)).await.expect("paused");
    eventually(PATIENCE, || async {
        let ready = system.client(Service::Order).get("/readyz").await;
        if ready.status == 200 && ready.text.contains("order of USER_REPLIES is paused until") { Ok(()) } else { Err(ready.text) }
    })
    .await;
    assert!(stream.consumer_info("order").await.expect("the consumer").paused);
    stream.resume_consumer("order").await.expect("resumed");

    // Nobody puts it back: the service that depends on it says so by name, and is ready again when it is put back.
    system.stop_keeping_topology().await;
    let client = system.client(Service::Order);
    let mut changed = config(&system, what).await;
    changed["ack_wait"] = json!(1_000_000_000);
    api(&system, "CONSUMER.CREATE.USER_REPLIES.order", &json!({"stream_name": "USER_REPLIES", "config": changed})).await;
    eventually(PATIENCE, || async {
        let ready = client.get("/readyz").await;
        let noted = ready.json()["notes"]["USER_REPLIES"].as_str().is_some_and(|note| note.contains("ack_wait 1000000000"));
        if ready.status == 200 && noted { Ok(()) } else { Err(ready.text) }
    })
    .await;
    changed["filter_subject"] = json!("nobody.says.this");
    let body = json!({"stream_name": "USER_REPLIES", "config": changed});
    api(&system, "CONSUMER.CREATE.USER_REPLIES.order.nobody.says.this", &body).await;
    let stuck = system.submit(user, &[(product, 1)]).await;
    eventually(PATIENCE, || async {
        let ready = client.get("/readyz").await;
        let said = ready.json()["checks"]["USER_REPLIES"].as_str().unwrap_or_default().to_owned();
        let named = said.contains("the consumer order of USER_REPLIES has")
            && said.contains("filter_subject \"nobody.says.this\" instead of none");
        if ready.status == 503 && named { Ok(()) } else { Err(ready.text) }
    })
    .await;
    assert_eq!(system.client(Service::User).get("/readyz").await.status, 200, "it does not depend on that consumer");
    assert_eq!(system.order(stuck).await["status"], "pending");
    topology::ensure(system.jetstream(), &TOPOLOGY, &TopologySettings::default()).await.expect("put back");
    assert_eq!(system.wait_final(stuck).await["status"], "confirmed");
    eventually(PATIENCE, || async {
        let ready = client.get("/readyz").await;
        if ready.status == 200 { Ok(()) } else { Err(ready.text) }
    })
    .await;
    system.audit().await;
}
