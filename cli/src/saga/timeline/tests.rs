//! What a timeline tells.

use order::saga::Step;
use saga::{Action, Input};

use super::*;
use crate::saga::testing::{confirmed, order, placed_at, rejected, released, reserved, validated, waybill};

fn shown(waybill: &Transcript<Order>) -> (Vec<String>, String) {
    let mut timeline = Timeline::new(waybill.plan.clone());
    // Columns are for the eye: here one space parts them.
    let squeezed = |line: String| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let lines = waybill.entries.iter().map(|entry| squeezed(timeline.line(entry))).collect();
    (lines, timeline.end(placed_at(1) + TimeDelta::minutes(90)))
}

#[test]
fn a_confirmed_order() {
    let (lines, end) = shown(&confirmed(1));
    let expected = [
        "1 2026-01-02T03:04:06.000Z the order was placed begins tell placed; ask validate_user",
        "2 2026-01-02T03:04:06.002Z +2 ms user service: validated validate_user done ask reserve_stock",
        "3 2026-01-02T03:04:06.012Z +10 ms product service: reserved reserve_stock done, CONFIRMED tell confirmed",
    ];
    assert_eq!(lines, expected);
    assert_eq!(end, "confirmed after 12 ms: 3 entries, 2 commands\ntotal: 39.98 USD");
    let head = Timeline::head(&confirmed(1));
    assert!(head.contains("1 line, 2 pieces") && head.contains("plan  version 1") && head.ends_with("SENT"), "{head}");
}

#[test]
fn a_rejected_order_says_why_and_what_was_short() {
    let (lines, end) = shown(&rejected(1));
    assert!(
        lines[2].contains("product service: refused, insufficient_stock reserve_stock refused, REJECTED tell rejected"),
        "{lines:?}"
    );
    assert!(
        end.starts_with("rejected after 9 ms: 3 entries, 2 commands\nreason: insufficient_stock: there is not enough stock\n"),
        "{end}"
    );
    assert!(end.ends_with("2 asked for, 1 available"), "{end}");
}

#[test]
fn repetitions_operators_and_compensations_show() {
    let one = order(1);
    let operator = |action| Input::Operator { action, by: "ann\u{1b}".to_owned(), reason: "it is back".to_owned() };
    let story = waybill(
        1,
        [
            (0, Input::Start),
            (2, validated(&one)),
            (5_002, Input::Due(Step::ReserveStock)),
            (70_000, operator(Action::Retry)),
            (300_000, Input::Expired(Step::ReserveStock)),
            (310_000, Input::Due(Step::ReserveStock)),
            (3_700_000, released(&one)),
            (3_700_500, reserved(&one)),
        ],
    );
    let (lines, end) = shown(&story);
    let parts = [
        (2, "+5.0 s no answer yet: reserve_stock (product service) asks again ask reserve_stock (attempt 2)"),
        (3, "+1 min 4 s operator ann : retry (\"it is back\") asks again ask reserve_stock (attempt 3)"),
        (4, "no answer in time: reserve_stock (product service) goes back tell compensating; undo reserve_stock"),
        (5, "asks again undo reserve_stock (attempt 2)"),
        (6, "+56 min 30 s product service: released reserve_stock undone, REJECTED tell rejected"),
        (7, "product service: reserved asks again undo reserve_stock (attempt 3)"),
    ];
    for (line, part) in parts {
        assert!(lines[line].contains(part), "{part}: {}", lines[line]);
    }
    assert!(end.starts_with("rejected after 1 h 1 min: 8 entries, 7 commands (4 repeated)\nreason: timed_out: "), "{end}");
    assert!(end.ends_with("waiting for the product service: undo reserve_stock, 3 attempts"), "{end}");
}

#[test]
fn what_changed_nothing_says_why() {
    let (lines, end) = shown(&waybill(1, [(0, Input::Start), (1, Input::Start), (2, released(&order(1)))]));
    assert!(lines[1].ends_with("the order was placed ignored: it has begun already"), "{lines:?}");
    assert!(lines[2].ends_with("product service: released ignored: it means nothing here"), "{lines:?}");
    assert!(end.starts_with("pending, 1 h 29 min so far: 3 entries") || end.starts_with("pending, 1 h 30 min so far"), "{end}");
    assert!(end.ends_with("waiting for the user service: validate_user, 1 attempt"), "{end}");
}

#[test]
fn a_long_history_is_a_line_an_entry() {
    let dues = (1..5_000).map(|number| (number * 1_000, Input::Due(Step::ValidateUser)));
    let (lines, end) = shown(&waybill(1, std::iter::once((0, Input::Start)).chain(dues)));
    assert_eq!(lines.len(), 5_000);
    assert!(end.contains("5000 entries, 5000 commands (4999 repeated)"), "{end}");
}
