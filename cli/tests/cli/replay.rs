//! Replay from exported files: what is clean, what diverges, what cannot be read.

use std::io::Write as _;
use std::path::PathBuf;

use ::order::saga::Order;
use ::saga::{Phase, State, Transcript};
use serde_json::Value;

use crate::testing::{confirmed, order, rejected};
use crate::{nowhere, run, run_with_input};

/// A file of its own, gone when dropped.
struct File(PathBuf);

impl File {
    fn new(name: &str, bytes: &[u8]) -> Self {
        let path = std::env::temp_dir().join(format!("waybill-{}-{name}", std::process::id()));
        std::fs::write(&path, bytes).unwrap();
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn lines(waybills: impl IntoIterator<Item = Transcript<Order>>) -> String {
    waybills.into_iter().map(|waybill| waybill.write().unwrap() + "\n").collect()
}

/// Fifty orders; every fifth is rejected.
fn export() -> String {
    lines((0..50).map(|number| if number % 5 == 0 { rejected(number) } else { confirmed(number) }))
}

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

/// An order whose history says that it was confirmed before its stock was reserved.
fn tampered(number: u128) -> Transcript<Order> {
    let mut waybill = confirmed(number);
    let state = serde_json::to_string(&waybill.entries[1].state).unwrap().replace(r#""running""#, r#""completed""#);
    waybill.entries[1].state = serde_json::from_str::<State<Order>>(&state).unwrap();
    assert_eq!(waybill.entries[1].state.phase(), &Phase::Completed);
    waybill
}

fn replay(args: &[&str]) -> (Option<i32>, String, String) {
    run(&nowhere(), &[&["saga", "replay"], args].concat())
}

#[test]
fn a_file_of_histories_without_divergence_is_exit_status_0_plain_gzip_or_piped() {
    let (plain, packed) = (File::new("clean.jsonl", export().as_bytes()), File::new("clean.jsonl.gz", &gzip(&export())));
    let mut answers = vec![];
    for file in [&plain, &packed] {
        answers.push(replay(&["--all", "--from", file.path(), "--jobs", "3", "-o", "json"]));
    }
    answers.push(run_with_input(&nowhere(), &["saga", "replay", "--all", "--from", "-", "-o", "json"], export().as_bytes()));
    for (code, stdout, stderr) in answers {
        let summary: Value = serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}: {stdout}{stderr}"));
        assert_eq!((code, &summary["histories"], &summary["entries"]), (Some(0), &50.into(), &150.into()), "{stdout}");
        assert_eq!(summary["outcomes"], serde_json::json!({"confirmed": 40, "rejected": 10}));
    }
    let (code, stdout, _) = replay(&["--all", "--from", plain.path()]);
    assert_eq!(code, Some(0));
    assert!(stdout.contains("replayed 50 histories, 150 entries") && stdout.trim_end().ends_with("no divergence"), "{stdout}");
}

#[test]
fn a_tampered_history_is_named_with_its_entry_and_field_and_is_exit_status_1() {
    let file = File::new("tampered.jsonl", (export() + &lines([tampered(60)]) + &export()).as_bytes());
    let id = order(60).id.to_string();
    let (code, stdout, _) = replay(&["--all", "--from", file.path()]);
    assert_eq!(code, Some(1));
    let line = stdout.lines().find(|line| line.starts_with(&id)).unwrap_or_else(|| panic!("{stdout}"));
    for word in [" 2 ", "state.phase", "\"completed\"", "\"running\""] {
        assert!(line.contains(word), "{word}: {line}");
    }
    assert!(stdout.trim_end().ends_with("1 diverges"), "{stdout}");

    let (code, stdout, _) = replay(&["--all", "--from", file.path(), "-o", "json"]);
    let summary: Value = serde_json::from_str(&stdout).unwrap();
    let named =
        serde_json::json!([{"order": id, "sequence": 2, "field": "state.phase", "recorded": "completed", "now": "running"}]);
    assert_eq!((code, &summary["divergences"]["first"], &summary["histories"]), (Some(1), &named, &101.into()));

    let (code, stdout, _) = replay(&[&id, "--from", file.path()]);
    assert_eq!(code, Some(1));
    assert!(stdout.ends_with("entry 2, state.phase: recorded \"completed\", now \"running\"\n"), "{stdout}");
    let (code, _, _) = replay(&[&id, "--from", file.path(), "--until", "1"]);
    assert_eq!(code, Some(0), "what comes after is not looked at");
}

#[test]
fn what_cannot_be_read_is_counted_named_and_exit_status_1() {
    let later = lines([confirmed(7)]).replace("reserve_stock", "pay");
    let file = File::new(
        "unreadable.jsonl",
        (export() + "not json\n\n" + &later + "{\"saga\":\"trip\",\"order\":{},\"entries\":[]}").as_bytes(),
    );
    let (code, stdout, _) = replay(&["--all", "--from", file.path()]);
    assert_eq!(code, Some(1));
    for word in ["51 ", "53 ", "54 ", "entry 2 cannot be read by this build", "`pay`", "`trip`", ": 3 cannot be read"] {
        assert!(stdout.contains(word), "{word}: {stdout}");
    }
    let (code, _, stderr) = replay(&[&order(7).id.to_string(), "--from", File::new("later.jsonl", later.as_bytes()).path()]);
    assert!(code == Some(1) && stderr.contains("entry 2 cannot be read by this build"), "{stderr}");
}

#[test]
fn a_part_of_a_file_is_chosen_by_status_time_and_number() {
    let file = File::new("part.jsonl", export().as_bytes());
    let count = |args: &[&str]| {
        let (code, stdout, stderr) = replay(&[&["--all", "--from", file.path(), "-o", "json"], args].concat());
        assert_eq!(code, Some(0), "{stderr}");
        serde_json::from_str::<Value>(&stdout).unwrap()["histories"].as_u64().unwrap()
    };
    assert_eq!(count(&["--status", "rejected"]), 10);
    assert_eq!(count(&["--since", "2026-01-02T03:04:45Z"]), 10);
    assert_eq!(count(&["--limit", "7"]), 7);
    assert_eq!(count(&["--status", "rejected", "--limit", "3"]), 3);
    assert_eq!(count(&["--limit", "0"]), 0);
}

#[test]
fn one_history_shows_each_entry_and_what_it_would_send() {
    let file = File::new("one.jsonl.gz", &gzip(&export()));
    let id = order(1).id.to_string();
    let (code, stdout, stderr) = replay(&[&id, "--from", file.path()]);
    assert_eq!(code, Some(0), "{stderr}");
    for part in [
        "entry 2  2026-01-02T03:04:06.002Z  user service: validated",
        "  change   steps.validate_user: asked(1) → done(nothing)",
        "  sends    ask reserve_stock: waybill.product.reserve.v1 {",
        "replayed 3 entries, no divergence",
    ] {
        assert!(stdout.contains(part), "{part}: {stdout}");
    }
    let (_, stdout, _) = replay(&[&id, "--from", file.path(), "--until", "2", "-o", "json"]);
    let document: Value = serde_json::from_str(&stdout).unwrap();
    let entries = document["entries"].as_array().unwrap();
    assert_eq!((entries.len(), &document["divergence"], &document["order"]["id"]), (2, &Value::Null, &Value::from(id)));
    assert_eq!(entries[1]["would_send"][0]["command"]["type"], "waybill.product.reserve.v1");
    assert_eq!(entries[1]["before"], entries[0]["after"]);

    let (code, _, stderr) = replay(&[&order(99).id.to_string(), "--from", file.path()]);
    assert!(code == Some(1) && stderr.contains("no order"), "{stderr}");
    let (code, _, stderr) = replay(&["--all", "--from", "/nowhere/at/all"]);
    assert!(code == Some(1) && stderr.contains("/nowhere/at/all"), "{stderr}");
}

#[test]
fn a_gzip_file_that_breaks_off_is_no_clean_file() {
    let whole = gzip(&export());
    let (code, _, stderr) = replay(&["--all", "--from", File::new("broken.gz", &whole[..whole.len() - 12]).path()]);
    assert!(code == Some(1) && stderr.contains("cannot be read"), "{stderr}");
}

#[test]
fn nobody_is_asked_where_nobody_can_answer() {
    let id = order(1).id.to_string();
    for args in [
        &["saga", "retry", &id, "--reason", "x", "--by", "ann"][..],
        &["saga", "skip", &id, "--reason", "x", "--by", "ann"],
        &["dead-letter", "redrive", "1"],
        &["dead-letter", "drop", "--all"],
    ] {
        let (code, stdout, stderr) = run(&nowhere(), args);
        assert_eq!((code, stdout.as_str()), (Some(2), ""), "{args:?}: {stderr}");
        assert!(stderr.contains("add --yes"), "{stderr}");
    }
}

#[test]
fn wrong_usage_of_the_saga_commands_is_2() {
    let id = order(1).id.to_string();
    for args in [
        &["saga", "replay"][..],
        &["saga", "replay", &id, "--all"],
        &["saga", "replay", &id, "--limit", "3"],
        &["saga", "replay", "--all", "--until", "3"],
        &["saga", "replay", "--all", "--from", "nats"],
        &["saga", "export"],
        &["saga", "list", "--older-than", "soon"],
        &["saga", "list", "--step", "pay"],
        &["saga", "cancel", &id, "--yes", "--by", "ann"],
        &["saga", "retry", &id, "--reason", "x", "--yes", "--by", ""],
        &["dead-letter", "redrive"],
        &["dead-letter", "redrive", "1", "--all"],
        &["dead-letter", "list", "--stream", "ORDER_EVENTS"],
        &["events", "tail", &id, "--all-contexts"],
    ] {
        let (code, stdout, stderr) = run(&nowhere(), args);
        assert_eq!((code, stdout.as_str()), (Some(2), ""), "{args:?}: {stderr}");
    }
}
