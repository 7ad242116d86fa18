//! Whether this build continues what is in flight: every obstacle is named and counted, however many pages there are.

use ::order::saga::Order;
use serde_json::{Value, json};

use crate::fake::Fake;
use crate::run;

/// A saga as the order service shows it.
fn saga(number: usize, state: Value, fingerprint: Value) -> Value {
    let id = format!("01920000-0000-7000-8000-{number:012}");
    json!({
        "id": id, "order_id": id, "user_id": "01920000-0000-7000-8000-000000000001",
        "status": "pending", "plan": state["plan"], "fingerprint": fingerprint, "state": state, "waiting": [],
        "waiting_since": null, "due_at": null, "stuck": false, "cause": null,
        "created_at": "2026-01-02T03:04:05.678Z", "updated_at": "2026-01-02T03:04:06Z",
    })
}

fn check(fake: Fake, format: &str) -> (Option<i32>, String, String) {
    let (_, address) = fake.start();
    run(&address, &["saga", "upgrade-check", "--order-url", &address, "-o", format])
}

fn sagas() -> Fake {
    let running = json!({"plan": 1, "phase": "running", "steps": {"validate_user": {"asked": 1}}});
    let own = format!("{:016x}", ::saga::upgrade::versions::<Order>()[0].1);
    let sagas = [
        (running.clone(), json!(own)),
        (running.clone(), Value::Null),
        (running.clone(), json!("00000000000000ff")),
        (running, json!("not a number")),
        (json!({"plan": 9, "phase": "running", "steps": {}}), Value::Null),
        (json!({"plan": 1, "phase": "running", "steps": {"pay": {"asked": 1}}}), Value::Null),
        (json!({}), Value::Null),
    ];
    let fake = Fake::default();
    *fake.made.lock().unwrap() = (1..)
        .zip(sagas)
        .map(|(number, (state, fingerprint))| (format!("sagas {number}"), saga(number, state, fingerprint)))
        .collect();
    fake
}

#[test]
fn what_stands_in_the_way_is_named_and_counted() {
    let (status, out, _) = check(sagas(), "table");
    assert_eq!(status, Some(1), "{out}");
    for word in [
        "ORDER ",
        "was changed after it began",
        "is no number",
        "plan version 9",
        "`pay` is unknown",
        "does not continue 5 of 7",
        "1 with an unreadable state",
    ] {
        assert!(out.contains(word), "{word}: {out}");
    }
    let (status, out, _) = check(sagas(), "json");
    let report: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (status, &report["sagas"], &report["safe"], &report["unsafe"]["count"]),
        (Some(1), &json!(7), &json!(2), &json!(5))
    );
    assert_eq!(report["unsafe"]["first"][0]["order_id"], "01920000-0000-7000-8000-000000000003");
}

#[test]
fn nothing_in_flight_is_safe() {
    assert_eq!(check(Fake::default(), "table"), (Some(0), "there is no saga to continue\n".to_owned(), String::new()));
}
