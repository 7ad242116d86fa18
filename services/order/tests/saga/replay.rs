//! What replay shows of a history, and how it names the first place where this build would do otherwise.

use chrono::DateTime;

use crate::kit::{history, operator, order, released, reserved, validated};
use order::saga::Order;
use order::saga::Step::ReserveStock;
use saga::Input::{Cancel, Due, Expired, Start};
use saga::{Action, Change, Entry, Progress, Recording, Replay, State, Verdict, apply, divergence, replay};
use serde_json::{Value, json};

fn long() -> Vec<Entry<Order>> {
    let (retry, skip) = (operator(Action::Retry), operator(Action::Skip(ReserveStock)));
    history([Cancel, Start, validated(), Due(ReserveStock), retry, Cancel, Cancel, released(), reserved(), skip, released()])
}

#[test]
fn a_history_decides_again_what_it_decided() {
    let entries = long();
    let Replay { steps, divergence: found } = replay(&order(), &entries, None);
    assert_eq!((found, divergence(&order(), &entries)), (None, None));
    assert_eq!(steps.len(), entries.len());
    let mut before = State::new();
    for (step, entry) in steps.iter().zip(&entries) {
        assert_eq!((step.entry, &step.before, &step.now.state), (entry, &before, &entry.state));
        assert_eq!(step.changes.is_empty(), step.before == step.now.state);
        before = entry.state.clone();
    }
    assert_eq!(replay(&order(), &[], None), Replay { steps: Vec::new(), divergence: None });
}

#[test]
fn replay_stops_where_it_is_told_to() {
    let mut entries = long();
    entries[5].sent.clear();
    for until in 0..6 {
        let Replay { steps, divergence } = replay(&order(), &entries, Some(until));
        assert_eq!((steps.len(), divergence.is_some()), (until as usize, until == 6), "until {until}");
    }
    assert!(replay(&order(), &entries, Some(6)).divergence.is_some(), "what comes after is not looked at");
    assert_eq!(replay(&order(), &entries, Some(99)).steps.len(), 6, "and after a divergence there is nothing to go on from");
}

#[test]
fn each_entry_shows_what_it_changed() {
    let entries = history([Start, validated(), Expired(ReserveStock), Cancel, released(), reserved()]);
    let shown: Vec<Vec<String>> =
        replay(&order(), &entries, None).steps.iter().map(|step| step.changes.iter().map(Change::to_string).collect()).collect();
    let expected: [&[&str]; 6] = [
        &["phase: new → running", "steps.validate_user: - → asked(1)"],
        &["steps.validate_user: asked(1) → done(nothing)", "steps.reserve_stock: - → asked(1)"],
        &["phase: running → compensating(timed_out…)", "steps.reserve_stock: asked(1) → undoing(1)"],
        &[],
        &["phase: compensating(timed_out…) → compensated(timed_out…)", "steps.reserve_stock: undoing(1) → undone(1)"],
        &["steps.reserve_stock: undone(1) → undoing(2)"],
    ];
    assert_eq!(shown, expected);

    let entries = history([Start, validated(), reserved()]);
    let last = replay(&order(), &entries, None).steps.pop().unwrap();
    let [phase, stock] = last.changes.as_slice() else { panic!("{:?}", last.changes) };
    assert_eq!(phase.to_string(), "phase: running → completed");
    assert_eq!(stock.to_string(), "steps.reserve_stock: asked(1) → done(prices…)");
    let json = r#"{"path":"steps.reserve_stock","before":{"asked":1},"after":{"done":{"prices":[{"amount":450,"currency":"USD"},{"amount":1200,"currency":"USD"}]}}}"#;
    assert_eq!(serde_json::to_value(stock).unwrap(), serde_json::from_str::<Value>(json).unwrap(), "whole, as data");
}

/// A change to the second entry of three.
type Tamper = fn(&mut Value);

fn tampered(entry: &mut Entry<Order>, tamper: Tamper) {
    let mut json = serde_json::to_value(&*entry).unwrap();
    tamper(&mut json);
    *entry = serde_json::from_value(json).unwrap();
}

#[test]
fn the_first_divergence_is_named_and_replay_ends_there() {
    let cases: [(&str, Tamper, &str, &str); 7] = [
        ("sequence", |entry| entry["sequence"] = json!(3), "3", "2"),
        ("decision", |entry| entry["decision"] = json!({"ignored": "late"}), r#"{"ignored":"late"}"#, r#""moved""#),
        ("sent", |entry| entry["sent"] = json!([]), "[]", r#"[{"ask":{"step":"reserve_stock","attempt":1}}]"#),
        (
            "sent",
            |entry| entry["sent"].as_array_mut().unwrap().push(json!({"ask": {"step": "reserve_stock", "attempt": 2}})),
            r#"[{"ask":{"step":"reserve_stock","attempt":1}},{"ask":{"step":"reserve_stock","attempt":2}}]"#,
            r#"[{"ask":{"step":"reserve_stock","attempt":1}}]"#,
        ),
        ("state.phase", |entry| entry["state"]["phase"] = json!("completed"), r#""completed""#, r#""running""#),
        ("state.plan", |entry| entry["state"]["plan"] = json!(7), "7", "1"),
        (
            "state.steps.reserve_stock",
            |entry| drop(entry["state"]["steps"].as_object_mut().unwrap().remove("reserve_stock")),
            "null",
            r#"{"asked":1}"#,
        ),
    ];
    for (field, tamper, recorded, now) in cases {
        let mut entries = history([Start, validated(), reserved()]);
        tampered(&mut entries[1], tamper);
        let Replay { steps, divergence: found } = replay(&order(), &entries, None);
        assert_eq!(found, divergence(&order(), &entries));
        let found = found.unwrap();
        assert_eq!((found.sequence, found.field.as_str()), (entries[1].sequence, field));
        let json = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        assert_eq!((found.recorded, found.now), (json(recorded), json(now)), "{field}");
        assert_eq!(steps.len(), if field == "sequence" { 1 } else { 2 }, "{field}: a gap cannot be decided across");
    }
}

#[test]
fn a_divergence_is_told_in_a_line() {
    let mut entries = history([Start, validated()]);
    tampered(&mut entries[1], |entry| entry["state"]["phase"] = json!("completed"));
    let line = divergence(&order(), &entries).unwrap().to_string();
    assert_eq!(line, r#"entry 2, state.phase: recorded "completed", now "running""#);
}

#[test]
fn a_history_of_an_unknown_plan_diverges_at_once() {
    let mut entries = history([Start]);
    entries[0].state = State::of_version(99);
    let divergence = divergence(&order(), &entries).unwrap();
    assert_eq!((divergence.field.as_str(), divergence.now.to_string().as_str()), ("decision", r#"{"ignored":"unknown_plan"}"#));
}

/// What the order service records of a command that is repeated so often before its answer comes.
fn waited(repetitions: u32) -> Vec<Entry<Order>> {
    let plan = order();
    let (mut state, mut entries) = (State::new(), Vec::<Entry<Order>>::new());
    let inputs = [Start, validated(), Expired(ReserveStock)].into_iter();
    let inputs = inputs.chain(std::iter::repeat_n(Due(ReserveStock), repetitions as usize)).chain([released()]);
    for input in inputs {
        let sequence = entries.len() as u32;
        let applied = apply(&plan, &mut state, sequence, input.clone(), Recording::at(DateTime::UNIX_EPOCH));
        assert_eq!(applied.verdict, Verdict::Moved, "{input:?}");
        entries.extend(applied.entry);
    }
    entries
}

#[test]
fn a_command_repeated_for_a_day_or_a_year_leaves_a_short_history_that_replays() {
    // A day and a year of one repetition a minute.
    for (repetitions, entries) in [(7, 3 + 7 + 1), (1_440, 3 + 7 + 7 + 1), (525_600, 3 + 7 + 16 + 1)] {
        let history = waited(repetitions);
        assert_eq!(history.len(), entries);
        assert_eq!(divergence(&order(), &history), None);
        let last = history.last().unwrap();
        assert_eq!(last.attempts, [(ReserveStock, repetitions + 1)].into());
        assert_eq!(last.state.progress(ReserveStock), Some(&Progress::Undone(repetitions + 1)));
        let shown = replay(&order(), &history, None);
        assert_eq!(shown.steps.last().unwrap().before.outstanding().next().unwrap().2, repetitions + 1);
        let json = serde_json::to_string(&history).unwrap();
        assert_eq!(serde_json::from_str::<Vec<Entry<Order>>>(&json).unwrap(), history);
        assert!(json.len() < 10_000, "{} bytes", json.len());
    }
}

#[test]
fn repetitions_that_lead_nowhere_are_a_divergence() {
    let mut history = waited(20);
    let last = history.last_mut().unwrap();
    last.attempts = [(ReserveStock, 3)].into();
    let found = divergence(&order(), &history).unwrap();
    assert_eq!(found.to_string(), r#"entry 12, attempts: recorded {"reserve_stock":3}, now {"reserve_stock":16}"#);
    history.last_mut().unwrap().attempts.clear();
    assert_eq!(divergence(&order(), &history).unwrap().field, "state.steps.reserve_stock");
}
