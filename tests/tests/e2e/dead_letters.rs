//! What cannot be read is kept as it was, and stops nothing else.

use std::time::Duration;

use events::streams::{CONSUMERS, Consumer};
use serde_json::{Value, json};
use tests::{Said, System, eventually};
use uuid::Uuid;

/// Waits until so many letters are there, and returns them.
async fn letters(system: &System, count: usize) -> Vec<Said> {
    eventually(Duration::from_secs(15), || async {
        let said = system.said("DEAD_LETTERS").await;
        if said.len() >= count { Ok(said) } else { Err(said) }
    })
    .await
}

async fn say(system: &System, subject: &'static str, payload: impl Into<bytes::Bytes>) -> u64 {
    let acknowledged = system.jetstream().publish(subject, payload.into()).await.expect("sent");
    acknowledged.await.expect("stored").sequence
}

/// A command to validate a user nobody knows, for an order nobody placed.
fn validate(order: Uuid) -> Value {
    json!({
        "specversion": "1.0", "id": format!("{order}/validate_user/1"), "source": "/waybill/order",
        "type": "waybill.user.validate.v1", "time": "2026-01-02T03:04:05Z", "subject": order, "attempt": 1,
        "data": { "order_id": order, "user_id": Uuid::now_v7() },
    })
}

fn subject(consumer: &Consumer) -> &'static str {
    match consumer.stream {
        "USER_COMMANDS" => events::streams::VALIDATE,
        "PRODUCT_COMMANDS" => events::streams::RESERVE,
        "USER_REPLIES" => events::streams::USER_REPLIES,
        "PRODUCT_REPLIES" => events::streams::PRODUCT_REPLIES,
        other => panic!("a stream without a subject here: {other}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_is_buried_whole_by_every_consumer_and_orders_pass() {
    let system = System::new().await;
    let garbage: [&[u8]; 4] = [b"\x00\xff garbage", b"", b"{}", b"[{]"];
    let mut sequences = Vec::new();
    for consumer in &CONSUMERS {
        for payload in garbage {
            sequences.push((consumer, payload, say(&system, subject(consumer), payload).await));
        }
    }
    let buried = letters(&system, sequences.len()).await;
    assert_eq!(buried.len(), sequences.len(), "{buried:#?}");
    for (consumer, payload, sequence) in sequences {
        let found = buried.iter().find(|letter| {
            letter.header("Waybill-Stream") == consumer.stream && letter.header("Waybill-Sequence") == sequence.to_string()
        });
        let letter = found.unwrap_or_else(|| panic!("no letter for {payload:?} of {}", consumer.stream));
        assert_eq!(letter.subject, format!("dead.{}.{}", consumer.stream, consumer.name));
        assert_eq!(letter.payload, payload, "as it was");
        assert_eq!(letter.header("Waybill-Consumer"), consumer.name);
        assert_eq!(letter.header("Waybill-Subject"), subject(consumer));
        assert_eq!(letter.header("Waybill-Deliveries"), "1");
        assert!(letter.header("Waybill-Reason").contains("not a batch"), "{letter:?}");
    }
    let (user, product) = (system.create_user(true).await, system.create_product(5, 100).await);
    let order = system.submit(user, &[(product, 1)]).await;
    assert_eq!(system.wait_final(order).await["status"], "confirmed");
    system.audit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_event_among_good_ones_is_buried_alone() {
    let system = System::new().await;
    let (first, last) = (Uuid::now_v7(), Uuid::now_v7());
    let mut unknown = validate(Uuid::now_v7());
    unknown["type"] = json!("waybill.user.validate.v9");
    let mut misshapen = validate(Uuid::now_v7());
    misshapen["data"]["user_id"] = json!("nobody");
    let mut added = validate(last);
    added["added"] = json!({ "later": true });
    added["data"]["added"] = json!([1, 2]);
    let bad = [json!({ "no": "event" }), unknown, misshapen, json!(7), json!(null)];
    let mut batch = vec![validate(first)];
    batch.extend(bad.clone());
    batch.push(added);
    let sequence = say(&system, events::streams::VALIDATE, serde_json::to_vec(&batch).unwrap()).await;

    let buried = letters(&system, bad.len()).await;
    assert_eq!(buried.len(), bad.len(), "{buried:#?}");
    for (letter, (index, event)) in buried.iter().zip(bad.iter().enumerate()) {
        assert_eq!(letter.subject, "dead.USER_COMMANDS.user");
        assert_eq!(&letter.json(), event, "as it was");
        assert_eq!(letter.header("Waybill-Sequence"), sequence.to_string());
        assert_eq!(letter.header("Waybill-Index"), (index + 1).to_string());
        assert_eq!(letter.header("Waybill-Deliveries"), "1");
        assert!(!letter.header("Waybill-Reason").is_empty());
    }
    assert!(buried[1].header("Waybill-Reason").contains("waybill.user.validate.v9"), "{:?}", buried[1]);
    // The good ones were answered, also the one with fields nobody knows.
    let answered = eventually(Duration::from_secs(10), || async {
        let answers = system.events("USER_REPLIES").await;
        if answers.len() >= 2 { Ok(answers) } else { Err(answers) }
    })
    .await;
    let subjects: Vec<&Value> = answered.iter().map(|answer| &answer["subject"]).collect();
    assert_eq!(subjects, [&json!(first), &json!(last)]);
    assert!(answered.iter().all(|answer| answer["type"] == "waybill.user.refused.v1"), "{answered:#?}");
}
