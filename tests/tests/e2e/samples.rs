//! A sample of every version of every event ever published stays in `tests/samples`, and must still be read.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use ::order::saga::{Command, Reply};
use events::{CloudEvent, Message, order, product, user};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use testkit::{Said, System};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("samples")
}

/// By type, and by a word after it for another form of the same (`+reference`: with a claim check): the sample as it lies there.
fn samples() -> BTreeMap<String, String> {
    let files =
        fs::read_dir(folder()).map(|files| files.map(|file| file.unwrap().path()).collect::<Vec<_>>()).unwrap_or_default();
    files
        .into_iter()
        .map(|path| (path.file_stem().unwrap().to_str().unwrap().to_owned(), fs::read_to_string(path).unwrap()))
        .collect()
}

/// Reads a sample with the vocabulary it belongs to, and writes it again.
fn read(kind: &str, json: &str) -> Result<Value, String> {
    fn with<M: Message>(kind: &str, json: &str) -> Option<Result<Value, String>> {
        M::kinds().contains(&kind).then(|| {
            let raw = RawValue::from_string(json.trim().to_owned()).map_err(|error| error.to_string())?;
            let event = CloudEvent::<M>::decode(&raw).map_err(|error| error.to_string())?;
            let mut written = Vec::new();
            event.encode(&mut written).map_err(|error| error.to_string())?;
            serde_json::from_slice(&written).map_err(|error| error.to_string())
        })
    }
    with::<Command>(kind, json)
        .or_else(|| with::<Reply>(kind, json))
        .or_else(|| with::<user::Event>(kind, json))
        .or_else(|| with::<product::Event>(kind, json))
        .or_else(|| with::<order::Event>(kind, json))
        .unwrap_or_else(|| Err("no vocabulary knows this type any more".to_owned()))
}

/// What is said: to and by whoever does a step of the order saga, and to everyone.
fn kinds() -> Vec<&'static str> {
    [Command::kinds(), Reply::kinds(), user::Event::kinds(), product::Event::kinds(), order::Event::kinds()].concat()
}

#[test]
fn every_event_ever_published_is_still_read() {
    let samples = samples();
    assert!(samples.len() >= kinds().len(), "{} samples", samples.len());
    for (kind, json) in &samples {
        let sample: Value = serde_json::from_str(json).unwrap_or_else(|error| panic!("{kind}: {error}"));
        let kind = kind.split('+').next().unwrap();
        assert_eq!(sample["type"], json!(kind), "a sample lies under the name of its type");
        let again = read(kind, json).unwrap_or_else(|error| panic!("{kind} cannot be read any more: {error}"));
        assert!(says(&again, &sample), "{kind} does not mean what it meant: {again:#} was {sample:#}");
    }
}

/// Whether `now` says everything `then` said; it may say more.
fn says(now: &Value, then: &Value) -> bool {
    match (now, then) {
        (Value::Object(now), Value::Object(then)) => {
            then.iter().all(|(name, then)| now.get(name).is_some_and(|now| says(now, then)))
        }
        (Value::Array(now), Value::Array(then)) => {
            now.len() == then.len() && now.iter().zip(then).all(|(now, then)| says(now, then))
        }
        _ => now == then,
    }
}

#[test]
fn the_waybill_in_a_final_event_still_replays() {
    let mut seen = 0;
    for (kind, json) in samples() {
        let mut sample: Value = serde_json::from_str(&json).unwrap();
        let waybill = sample["data"]["waybill"].take();
        if waybill.is_null() {
            continue;
        }
        seen += 1;
        let entries: Vec<saga::Entry<::order::saga::Order>> =
            serde_json::from_value(waybill).unwrap_or_else(|error| panic!("{kind}: {error}"));
        let field = |name: &str| sample["data"][name].clone();
        let order = ::order::saga::Order {
            id: serde_json::from_value(field("order_id")).unwrap(),
            user_id: serde_json::from_value(field("user_id")).unwrap(),
            items: serde_json::from_value(field("items")).unwrap(),
            reference: serde_json::from_value(field("reference")).unwrap(),
            tags: events::Tags::default(),
        };
        assert_eq!(saga::replay(&order, &entries, None).divergence, None, "{kind}");
    }
    assert!(seen >= 3, "confirmed, rejected and cancelled carry one");
}

#[test]
fn every_type_has_a_sample() {
    let samples = samples();
    let missing: Vec<&str> = kinds().into_iter().filter(|kind| !samples.contains_key(*kind)).collect();
    assert!(missing.is_empty(), "no sample of {missing:?}: `cargo test -p waybill-tests -- --ignored write_the_missing_samples`");
}

/// The JSON form of an event that was told in binary mode.
fn structured(said: &Said) -> Value {
    let mut event = json!({ "data": said.json() });
    for name in ["specversion", "id", "source", "type", "time", "subject", "traceparent", "tracestate"] {
        let value = said.header(&format!("ce-{name}"));
        if !value.is_empty() {
            event[name] = json!(value);
        }
    }
    event
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "writes to the repository: run it when a type or version was added, and commit what it wrote"]
async fn write_the_missing_samples() {
    let system = System::new().await;
    let (user, idle) = (system.create_user(true).await, system.create_user(false).await);
    let product = system.create_product(5, 1999).await;
    testkit::answer(
        system
            .client(testkit::Service::Product)
            .request(reqwest::Method::POST, &format!("/products/{product}/stock"))
            .json(&json!({ "delta": 2 })),
    )
    .await
    .expect(200);
    let kept = system.submit(user, &[(product, 2)]).await;
    system.submit(idle, &[(product, 1)]).await;
    system.submit(user, &[(product, 100)]).await;
    system.wait_final(kept).await;
    system.cancel(kept).await.expect(202);
    system.audit().await;

    let mut events = Vec::new();
    for stream in ["USER_COMMANDS", "USER_REPLIES", "PRODUCT_COMMANDS", "PRODUCT_REPLIES"] {
        events.extend(system.events(stream).await);
    }
    for stream in ["USER_EVENTS", "PRODUCT_EVENTS", "ORDER_EVENTS"] {
        events.extend(system.said(stream).await.iter().map(structured));
    }
    fs::create_dir_all(folder()).unwrap();
    let there = samples();
    for event in events {
        let kind = event["type"].as_str().unwrap();
        if !there.contains_key(kind) {
            fs::write(folder().join(format!("{kind}.json")), format!("{event:#}\n")).unwrap();
        }
    }
}
