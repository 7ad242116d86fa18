//! The persisted forms. Histories written by earlier builds must be read for ever: a change here is a new version, not an edit.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::kit::{Scenario, compensate, execute, given, history, invalid, operator, released, reserved, short, usd, validated};
use order::saga::Step::{ReserveStock, ValidateUser};
use order::saga::{Order, Output};
use saga::Input::{Cancel, Due, Expired, Overdue, Start};
use saga::{Action, Cause, Effect, IgnoredBecause, Input, Milestone, Phase, Progress, Verdict};

/// The text Postgres makes of a `jsonb`: shorter keys first, then by their bytes.
fn jsonb(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let mut keys: Vec<&String> = map.keys().collect();
            keys.sort_by_key(|key| (key.len(), key.as_bytes()));
            let fields: Vec<String> =
                keys.iter().map(|key| format!("{}: {}", Value::from(key.as_str()), jsonb(&map[*key]))).collect();
            format!("{{{}}}", fields.join(", "))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(jsonb).collect::<Vec<_>>().join(", ")),
        leaf => leaf.to_string(),
    }
}

/// This is how it is written, and it is read back from text, from a value and from a `jsonb`.
#[track_caller]
fn persisted<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(value: &T, json: &str) {
    assert_eq!(serde_json::to_string(value).unwrap(), json);
    let parsed: Value = serde_json::from_str(json).unwrap();
    assert_eq!(&serde_json::from_str::<T>(json).unwrap(), value);
    assert_eq!(&serde_json::from_str::<T>(&jsonb(&parsed)).unwrap(), value);
    assert_eq!(&serde_json::from_value::<T>(parsed).unwrap(), value);
}

#[test]
fn a_confirmed_order_is_written_like_this() {
    let lines: Vec<&str> = CONFIRMED.lines().collect();
    let entries = history([Start, validated(), reserved()]);
    assert_eq!(entries.len(), lines.len());
    for (entry, line) in entries.iter().zip(lines) {
        persisted(entry, line);
    }
    persisted(&entries, &format!("[{}]", CONFIRMED.replace('\n', ",")));
}

const CONFIRMED: &str = r#"{"sequence":1,"time":"2026-01-02T03:04:01.500Z","message":"start","decision":"moved","sent":[{"tell":"started"},{"ask":{"step":"validate_user","attempt":1}}],"state":{"plan":1,"phase":"running","steps":{"validate_user":{"asked":1}}}}
{"sequence":2,"time":"2026-01-02T03:04:02.500Z","message":{"answer":{"type":"waybill.user.validated.v1","data":{"order_id":"00000000-0000-0000-0000-000000000001","user_id":"00000000-0000-0000-0000-000000000002"}}},"decision":"moved","sent":[{"ask":{"step":"reserve_stock","attempt":1}}],"state":{"plan":1,"phase":"running","steps":{"validate_user":{"done":"nothing"},"reserve_stock":{"asked":1}}}}
{"sequence":3,"time":"2026-01-02T03:04:03.500Z","message":{"answer":{"type":"waybill.product.reserved.v1","data":{"order_id":"00000000-0000-0000-0000-000000000001","items":[{"product_id":"00000000-0000-0000-0000-000000000003","unit_price":{"amount":450,"currency":"USD"}},{"product_id":"00000000-0000-0000-0000-000000000004","unit_price":{"amount":1200,"currency":"USD"}}]}}},"decision":"moved","sent":[{"tell":"completed"}],"state":{"plan":1,"phase":"completed","steps":{"validate_user":{"done":"nothing"},"reserve_stock":{"done":{"prices":[{"amount":450,"currency":"USD"},{"amount":1200,"currency":"USD"}]}}}}}"#;

#[test]
fn every_input_is_written_like_this() {
    persisted::<Input<Order>>(&Start, r#""start""#);
    persisted::<Input<Order>>(&Due(ValidateUser), r#"{"due":"validate_user"}"#);
    persisted::<Input<Order>>(&Expired(ReserveStock), r#"{"expired":"reserve_stock"}"#);
    persisted::<Input<Order>>(&Overdue, r#""overdue""#);
    persisted::<Input<Order>>(&Cancel, r#""cancel""#);
    for (action, json) in [
        (Action::Retry, r#""retry""#),
        (Action::Cancel, r#""cancel""#),
        (Action::Compensate, r#""compensate""#),
        (Action::Skip(ReserveStock), r#"{"skip":"reserve_stock"}"#),
    ] {
        let whole = format!(r#"{{"operator":{{"action":{json},"by":"ann","reason":"the warehouse burnt down"}}}}"#);
        persisted::<Input<Order>>(&operator(action), &whole);
    }
    let id = "00000000-0000-0000-0000-00000000000";
    let refused = r#""reason":{"code":"user_inactive","detail":"refused by the user service"}"#;
    let data = format!(r#"{{"order_id":"{id}1","user_id":"{id}2",{refused}}}"#);
    persisted(
        &invalid(events::ReasonCode::UserInactive),
        &format!(r#"{{"answer":{{"type":"waybill.user.refused.v1","data":{data}}}}}"#),
    );
    let refused = r#""reason":{"code":"insufficient_stock","detail":"refused by the product service"}"#;
    let data = format!(r#"{{"order_id":"{id}1",{refused}}}"#);
    persisted(&short(), &format!(r#"{{"answer":{{"type":"waybill.product.refused.v1","data":{data}}}}}"#));
    let data = format!(r#"{{"order_id":"{id}1"}}"#);
    persisted(&released(), &format!(r#"{{"answer":{{"type":"waybill.product.released.v1","data":{data}}}}}"#));
}

#[test]
fn every_verdict_is_written_like_this() {
    persisted(&Verdict::Moved, r#""moved""#);
    for (why, word) in [
        (IgnoredBecause::NotStarted, "not_started"),
        (IgnoredBecause::AlreadyStarted, "already_started"),
        (IgnoredBecause::Unexpected, "unexpected"),
        (IgnoredBecause::Repeated, "repeated"),
        (IgnoredBecause::Late, "late"),
        (IgnoredBecause::AlreadyCompensating, "already_compensating"),
        (IgnoredBecause::Final, "final"),
        (IgnoredBecause::NoWayBack, "no_way_back"),
        (IgnoredBecause::UnknownPlan, "unknown_plan"),
        (IgnoredBecause::NothingOutstanding, "nothing_outstanding"),
        (IgnoredBecause::NotUndoing, "not_undoing"),
    ] {
        persisted(&Verdict::Ignored(why), &format!(r#"{{"ignored":"{word}"}}"#));
    }
}

#[test]
fn every_message_is_written_like_this() {
    persisted::<Effect<Order>>(&execute(ValidateUser, 1), r#"{"ask":{"step":"validate_user","attempt":1}}"#);
    persisted::<Effect<Order>>(&compensate(ReserveStock, 12), r#"{"undo":{"step":"reserve_stock","attempt":12}}"#);
    persisted::<Effect<Order>>(&Effect::Notify(Milestone::Started), r#"{"tell":"started"}"#);
    persisted::<Effect<Order>>(&Effect::Notify(Milestone::Compensating), r#"{"tell":"compensating"}"#);
    persisted::<Effect<Order>>(&Effect::Notify(Milestone::Completed), r#"{"tell":"completed"}"#);
    persisted::<Effect<Order>>(&Effect::Notify(Milestone::Compensated), r#"{"tell":"compensated"}"#);
}

#[test]
fn every_state_is_written_like_this() {
    type Step = Progress<Order>;
    persisted(&Step::Asked(2), r#"{"asked":2}"#);
    persisted(&Step::Done(Output::Nothing), r#"{"done":"nothing"}"#);
    persisted(&Step::Done(Output::Prices(vec![usd(1)])), r#"{"done":{"prices":[{"amount":1,"currency":"USD"}]}}"#);
    persisted(&Step::Refused, r#""refused""#);
    persisted(&Step::Undoing(3), r#"{"undoing":3}"#);
    persisted(&Step::Undone(3), r#"{"undone":3}"#);
    persisted(&Step::Dropped, r#""dropped""#);
    persisted(&Step::GivenUp(3), r#"{"given_up":3}"#);
    type Whole = Phase<Order>;
    persisted(&Whole::New, r#""new""#);
    persisted(&Whole::Running, r#""running""#);
    persisted(&Whole::Completed, r#""completed""#);
    persisted(&Whole::Compensating(Cause::Cancelled), r#"{"compensating":"cancelled"}"#);
    persisted(&Whole::Compensated(Cause::TimedOut { step: None }), r#"{"compensated":{"timed_out":{"step":null}}}"#);
    let withdrawn = Cause::Withdrawn { by: "ann".to_owned(), reason: "lost".to_owned() };
    persisted(&Whole::Compensating(withdrawn), r#"{"compensating":{"withdrawn":{"by":"ann","reason":"lost"}}}"#);
    let Scenario { state, .. } = given([Start, validated(), short()]);
    let refusal = r#"{"code":"insufficient_stock","detail":"refused by the product service"}"#;
    let phase = format!(r#"{{"compensated":{{"refused":{{"step":"reserve_stock","refusal":{refusal}}}}}}}"#);
    let steps = r#"{"validate_user":{"done":"nothing"},"reserve_stock":"refused"}"#;
    persisted(&state, &format!(r#"{{"plan":1,"phase":{phase},"steps":{steps}}}"#));
}
