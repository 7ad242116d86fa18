//! An operator's action on all that are stuck.

use serde_json::{Value, json};

use crate::fake::Fake;
use crate::run;

/// A saga as the order service shows it.
fn saga(number: usize, waiting: Value, stuck: bool) -> (String, Value) {
    let id = format!("01920000-0000-7000-8000-{number:012}");
    let saga = json!({
        "id": id, "order_id": id, "user_id": "01920000-0000-7000-8000-000000000001", "status": "pending", "plan": 1,
        "fingerprint": null, "state": {"plan": 1, "phase": "running", "steps": {}}, "waiting": waiting, "waiting_since": null,
        "due_at": null, "stuck": stuck, "cause": null, "created_at": "2026-01-02T03:04:05.678Z",
        "updated_at": "2026-01-02T03:04:06Z",
    });
    (format!("sagas {number}"), saga)
}

#[test]
fn what_went_on_by_itself_is_gone_and_what_is_refused_is_left_and_named() {
    let fake = Fake::default();
    let asked = json!([{"step": "reserve_stock", "direction": "act", "attempts": 3}]);
    let went_on = (3..6).map(|number| saga(number, json!([]), false));
    *fake.made.lock().unwrap() = went_on.chain([saga(1, asked, true)]).collect();
    let (_, address) = fake.start();
    let act = ["saga", "retry", "--stuck", "--rate", "100", "--reason", "it is back", "--yes", "--order-url", &address];
    let (status, out, told) = run(&address, &act);
    assert_eq!((status, out.trim()), (Some(1), "0 done, 1 left, 3 gone already"), "{told}");
    assert_eq!(told.matches("is left as it was: ").count(), 1, "{told}");
    assert!(told.contains("-000000000001 is left as it was: every command is answered"), "{told}");
}
