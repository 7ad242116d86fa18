//! A saga written down, read back, and what is said of one that cannot be.

use events::order::{Confirmed, Event, Snapshot, Status};
use serde_json::{Value, json};

use crate::kit::{history, order, reserved, usd, validated};
use order::saga::Order;
use saga::Input::Start;
use saga::{Transcript, Unreadable};

fn confirmed() -> Transcript<Order> {
    Transcript { plan: order(), entries: history([Start, validated(), reserved()]) }
}

/// What builds before this one exported; see `tests/fixtures/README.md`.
const EARLIER: [(&str, &str); 2] = [
    ("before_clock", include_str!("../../../../tests/fixtures/before_clock/sagas.jsonl")),
    ("before_timers", include_str!("../../../../tests/fixtures/before_timers/sagas.jsonl")),
];

#[test]
fn histories_that_earlier_builds_exported_are_decided_as_they_were() {
    for (build, lines) in EARLIER {
        assert_eq!(lines.lines().count(), 17, "{build}");
        for line in lines.lines() {
            let read = Transcript::<Order>::read(line).unwrap_or_else(|why| panic!("{build}: {why}"));
            assert_eq!(read.divergence(), None, "{build}: {line}");
            // And they are written as they were.
            assert_eq!(read.write().unwrap(), line, "{build}");
        }
    }
}

/// The line of a confirmed order, changed.
fn changed(change: impl FnOnce(&mut Value)) -> String {
    let mut line: Value = serde_json::from_str(&confirmed().write().unwrap()).unwrap();
    change(&mut line);
    line.to_string()
}

#[test]
fn what_is_written_is_read_and_replays() {
    let line = confirmed().write().unwrap();
    assert!(line.starts_with(r#"{"saga":"order","order":{"id":"00000000-0000-0000-0000-000000000001","#), "{line}");
    assert!(!line.contains('\n'));
    let read = Transcript::<Order>::read(&line).unwrap();
    assert_eq!(read, confirmed());
    assert_eq!(read.divergence(), None);
    assert_eq!(read.replay(Some(2)).steps.len(), 2);
    assert_eq!(read.state(), confirmed().entries.last().map(|entry| &entry.state));
}

#[test]
fn added_fields_and_another_order_of_fields_are_tolerated() {
    // A `Value` sorts its keys: `data` comes before `type`.
    let line = changed(|line| {
        line["exported_at"] = json!("2026-01-02T03:04:05Z");
        line["order"]["note"] = json!({"gift": true});
        line["entries"][1]["by"] = json!("ann");
        line["entries"][1]["message"]["answer"]["data"]["note"] = json!([1]);
        line["entries"][1]["message"]["answer"]["id"] = json!("17");
        line["entries"][1]["state"]["tags"] = json!([]);
    });
    assert_eq!(Transcript::read(&line), Ok(confirmed()));
}

/// A change to one of the entries.
type Tamper = fn(&mut Value);

#[test]
fn an_entry_this_build_has_no_word_for_is_named() {
    let cases: [(u32, Tamper, &str); 6] = [
        (2, |line| line["entries"][1]["state"]["steps"]["pay"] = json!({"asked": 1}), "unknown variant `pay`"),
        (2, |line| line["entries"][1]["sent"][0]["ask"]["step"] = json!("pay"), "unknown variant `pay`"),
        (3, |line| line["entries"][2]["message"] = json!("paused"), "unknown variant `paused`"),
        (3, |line| line["entries"][2]["decision"] = json!({"ignored": "asleep"}), "unknown variant `asleep`"),
        (
            2,
            |line| line["entries"][1]["message"]["answer"]["type"] = json!("waybill.payment.paid.v1"),
            "`waybill.payment.paid.v1` is not known here",
        ),
        (2, |line| line["entries"][1]["message"]["answer"]["data"] = json!({}), "missing field `order_id`"),
    ];
    for (sequence, change, word) in cases {
        let error = Transcript::<Order>::read(&changed(change)).unwrap_err();
        let Unreadable::Entry { id, sequence: named, why } = &error else { panic!("{error}") };
        assert_eq!((id.as_u128(), *named), (1, sequence), "{error}");
        assert!(why.contains(word), "{error}");
    }
}

#[test]
fn what_is_no_saga_is_refused() {
    let other = Transcript::<Order>::read(&changed(|line| line["saga"] = json!("trip"))).unwrap_err();
    assert_eq!(other, Unreadable::OtherSaga { found: "trip".to_owned(), expected: "order" });
    let whole = confirmed().write().unwrap();
    for line in ["", "{}", "[]", &whole[..whole.len() / 2], &changed(|line| line["order"]["items"] = json!(3))] {
        assert!(matches!(Transcript::<Order>::read(line), Err(Unreadable::Malformed(_))), "{line}");
    }
}

#[test]
fn the_event_that_tells_the_end_is_enough() {
    let Transcript { plan: order, entries } = confirmed();
    let raw: Vec<_> = entries.iter().map(|entry| serde_json::value::to_raw_value(entry).unwrap()).collect();
    let mut snapshot = Snapshot {
        order_id: order.id,
        user_id: order.user_id,
        items: order.priced(Some(&[usd(450), usd(1_200)])),
        total: Some(usd(2_100)),
        status: Status::Confirmed,
        reason: None,
        created_at: chrono::DateTime::UNIX_EPOCH,
        reference: order.reference.clone(),
        tags: order.tags.clone(),
        waybill: Some(events::order::Waybill::of(&raw).unwrap()),
        waybill_ref: None,
    };
    // As it comes from the broker.
    let event = serde_json::to_string(&Event::from(Confirmed(snapshot.clone()))).unwrap();
    let Event::Confirmed(Confirmed(read)) = serde_json::from_str(&event).unwrap() else { panic!("{event}") };
    assert_eq!(Order::transcript(&read), Ok(confirmed()));
    snapshot.waybill = None;
    assert!(matches!(Order::transcript(&snapshot), Err(Unreadable::Malformed(_))));
}
