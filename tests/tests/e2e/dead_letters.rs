//! What cannot be read is kept as it was, and stops nothing else.

use std::time::Duration;

use events::Consumer;
use events::streams::CONSUMERS;
use serde_json::{Value, json};
use testkit::{Said, System, eventually};
use tokio_util::sync::CancellationToken;
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
async fn bad_events_among_good_ones_are_buried_together_and_alone() {
    let system = System::new().await;
    let (first, last) = (Uuid::now_v7(), Uuid::now_v7());
    let mut unknown = validate(Uuid::now_v7());
    unknown["type"] = json!("waybill.user.validate.v9");
    let mut misshapen = validate(Uuid::now_v7());
    misshapen["data"]["user_id"] = json!("nobody");
    let mut added = validate(last);
    added["added"] = json!({ "later": true });
    added["data"]["added"] = json!([1, 2]);
    let bad = [json!({ "no": "event" }), unknown.clone(), misshapen, json!(7), json!(null)];
    let mut batch = vec![validate(first)];
    batch.extend(bad.clone());
    batch.push(added);
    let sequence = say(&system, events::streams::VALIDATE, serde_json::to_vec(&batch).unwrap()).await;

    let alone = say(&system, events::streams::VALIDATE, serde_json::to_vec(&json!([unknown])).unwrap()).await;

    let buried = letters(&system, 2).await;
    assert_eq!(buried.len(), 2, "{buried:#?}");
    for (letter, (sequence, index)) in buried.iter().zip([(sequence, "1,2,3,4,5"), (alone, "0")]) {
        assert_eq!(letter.subject, "dead.USER_COMMANDS.user");
        assert_eq!(letter.header("Waybill-Sequence"), sequence.to_string());
        assert_eq!(letter.header("Waybill-Index"), index);
        assert_eq!(letter.header("Waybill-Deliveries"), "1");
        assert!(!letter.header("Waybill-Reason").is_empty());
        // A CloudEvent like everything else.
        assert_eq!((letter.header("ce-specversion"), letter.header("ce-type")), ("1.0", "waybill.dead_letter.v1"));
        assert_eq!(
            (letter.header("ce-source"), letter.header("ce-subject")),
            ("/waybill/user", &*format!("USER_COMMANDS/{sequence}"))
        );
        assert_eq!(letter.header("ce-id"), letter.header("Nats-Msg-Id"));
        chrono::DateTime::parse_from_rfc3339(letter.header("ce-time")).expect("a time");
    }
    assert_eq!(buried[0].json(), json!(bad), "as they were");
    assert_eq!(buried[1].json(), unknown, "as it was");
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

#[tokio::test(flavor = "multi_thread")]
async fn a_message_whose_first_events_are_all_bad_is_buried_whole_and_answers_for_unknown_orders_are_counted() {
    const UNKNOWN: usize = 150;
    let system = System::new().await;
    let mut unknown = validate(Uuid::now_v7());
    unknown["type"] = json!("waybill.user.validate.v9");
    let bad = serde_json::to_vec(&vec![unknown.clone(); 40]).unwrap();
    let whole = say(&system, events::streams::VALIDATE, bad.clone()).await;
    let known = Uuid::now_v7();
    let mixed = [vec![validate(known)], vec![unknown.clone(); 40]].concat();
    let mixed = say(&system, events::streams::VALIDATE, serde_json::to_vec(&mixed).unwrap()).await;
    // As many bad events as are read before a message is given up, and then a good one.
    let late = Uuid::now_v7();
    let behind = [vec![unknown.clone(); 15], vec![validate(late)], vec![unknown; 5]].concat();
    let behind = say(&system, events::streams::VALIDATE, serde_json::to_vec(&behind).unwrap()).await;
    let buried = letters(&system, 3).await;
    let letter = |sequence: u64| {
        let found = buried.iter().find(|letter| letter.header("Waybill-Sequence") == sequence.to_string());
        found.unwrap_or_else(|| panic!("no letter for {sequence}: {buried:#?}"))
    };
    assert_eq!(
        letter(whole).header("Waybill-Reason"),
        "none of the first 16 of 40 events can be read: the event type `waybill.user.validate.v9` is not known here"
    );
    assert_eq!(letter(whole).payload, bad, "as it was");
    assert_eq!(letter(mixed).json().as_array().map(Vec::len), Some(40), "only the bad ones");
    assert_eq!(letter(behind).json().as_array().map(Vec::len), Some(20), "only the bad ones");
    for order in [known, late] {
        eventually(Duration::from_secs(10), || async {
            let answers = system.events_of("USER_REPLIES", &order.to_string()).await;
            if answers.len() == 1 { Ok(()) } else { Err(answers) }
        })
        .await;
    }

    let answers: Vec<Value> = (0..UNKNOWN)
        .map(|_| {
            let order = Uuid::now_v7();
            let mut answer = validate(order);
            answer["type"] = json!("waybill.product.released.v1");
            answer["data"] = json!({ "order_id": order });
            answer
        })
        .collect();
    say(&system, events::streams::PRODUCT_REPLIES, serde_json::to_vec(&answers).unwrap()).await;
    eventually(Duration::from_secs(10), || async {
        // The two that were validated are nobody's orders either.
        let counted = system.ignored("unknown_order").await;
        if counted == UNKNOWN as u64 + 2 { Ok(()) } else { Err(counted) }
    })
    .await;
    let (user, product) = (system.create_user(true).await, system.create_product(5, 100).await);
    let order = system.submit(user, &[(product, 1)]).await;
    assert_eq!(system.wait_final(order).await["status"], "confirmed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_bad_messages_delays_no_order_and_is_counted() {
    const ORDERS: usize = 25;
    let system = System::builder()
        .settings(|settings| {
            settings.order.sagas.timing.retry_first = Some(Duration::from_secs(60));
            settings.product.parts.batch.dead_letters_per_second = 5;
        })
        .start()
        .await;
    let (user, product) = (system.create_user(true).await, system.create_product(1000, 100).await);
    let mut spoilt = validate(Uuid::now_v7());
    spoilt["type"] = json!("waybill.product.lost.v1");
    let bad: [bytes::Bytes; 3] = [
        serde_json::to_vec(&vec![spoilt.clone(); 32]).unwrap().into(),
        serde_json::to_vec(&vec![json!(7); 1_000]).unwrap().into(),
        "not a batch".into(),
    ];
    let (nats, stop) = (system.nats().clone(), CancellationToken::new());
    let until = stop.clone();
    let flood = tokio::spawn(async move {
        let mut sent = 0;
        while !until.is_cancelled() {
            for _ in 0..8 {
                nats.publish(events::streams::RESERVE, bad[sent % 3].clone()).await.expect("sent");
                sent += 1;
            }
            nats.flush().await.expect("sent");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        sent
    });
    // Orders pass while it lasts, and no timer of theirs helps them.
    for _ in 0..ORDERS {
        let order = system.submit(user, &[(product, 1)]).await;
        assert_eq!(system.wait_final(order).await["status"], "confirmed");
    }
    stop.cancel();
    let sent: usize = flood.await.expect("no panic");
    assert!(sent > 200, "{sent} bad messages are no flood");
    // One message with a good event among bad ones, behind all of them.
    let mut good = validate(Uuid::now_v7());
    good["type"] = json!("waybill.product.release.v1");
    let sequence = system.say(events::streams::RELEASE, &[json!(7), good.clone(), spoilt]).await;
    let answered = eventually(Duration::from_secs(30), || async {
        let answers = system.events_of("PRODUCT_REPLIES", good["data"]["order_id"].as_str().expect("an id")).await;
        if answers.is_empty() { Err("no answer") } else { Ok(answers) }
    })
    .await;
    assert_eq!(answered[0]["type"], "waybill.product.released.v1");
    system.handled(events::streams::PRODUCT_COMMANDS_CONSUMER, sequence).await;
    let letters = system.said("DEAD_LETTERS").await;
    // Of each of two kinds 25 that are saved up, and 5 a second.
    assert!((50..2 * (25 + 5 * 60)).contains(&letters.len()), "{} letters", letters.len());
    let metrics = system.client(testkit::Service::Product).get("/metrics").await.text;
    let let_go: f64 = metrics
        .lines()
        .filter(|line| line.starts_with("waybill_dead_letters_let_go_total") && line.contains("PRODUCT_COMMANDS"))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum();
    // Each is stored or counted; the last message has a letter of its own.
    assert_eq!(let_go as usize + letters.len(), sent + 1, "{let_go} let go, {} stored", letters.len());
    assert!(let_go > 0.0, "none was let go: no limit was tried");
    eventually(Duration::from_secs(20), || async {
        let ready = system.client(testkit::Service::Product).get("/readyz").await.expect(200);
        let note = ready["notes"]["dead letters"].as_str().unwrap_or_default();
        if note.ends_with(&format!(": {let_go} of PRODUCT_COMMANDS")) { Ok(()) } else { Err(ready) }
    })
    .await;
    system.audit().await;
}
