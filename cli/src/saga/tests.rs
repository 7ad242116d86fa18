//! What the operators' commands tell of orders.

use chrono::{DateTime, TimeDelta};
use events::order::{Compensating, Item, Status};
use events::{Reason, ReasonCode};
use saga::{Action, Input, Phase, Transcript};
use saga_commands::output::Tabular as _;
use serde_json::json;

use super::*;
use crate::saga::testing::{confirmed, order, placed_at, rejected, released, reserved, validated, waybill};

type Timeline = saga_commands::Timeline<Orders>;
type Fold = saga_commands::Fold<Orders>;

fn shown(story: &Transcript<Order>) -> (Vec<String>, String) {
    let mut timeline = Timeline::new(story.plan.clone());
    // Columns are for the eye: here one space parts them.
    let squeezed = |line: String| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let lines = story.entries.iter().map(|entry| squeezed(timeline.line(entry))).collect();
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

fn fold(inputs: impl IntoIterator<Item = Input<Order>>) -> Fold {
    let mut fold = Fold::new(order(1), Vec::new());
    inputs.into_iter().for_each(|input| fold.take(DateTime::UNIX_EPOCH, input));
    fold
}

/// The event that says that the order went back.
fn back() -> Event {
    let order = order(1);
    let items = order.items.iter().map(|line| Item { product_id: line.product_id, quantity: line.quantity, unit_price: None });
    let snapshot = Snapshot {
        order_id: order.id,
        user_id: order.user_id,
        items: items.collect(),
        total: None,
        status: Status::Pending,
        reason: Some(Reason::new(ReasonCode::TimedOut, "the product service did not answer in time")),
        created_at: DateTime::UNIX_EPOCH,
        reference: None,
        tags: events::Tags::default(),
        waybill: None,
        waybill_ref: None,
    };
    Compensating(snapshot).into()
}

#[test]
fn answers_that_fit_leave_no_gap() {
    let order = order(1);
    let fold = fold([Input::Start, validated(&order), validated(&order), reserved(&order)]);
    assert_eq!((fold.entries.len(), fold.gaps.as_slice()), (3, [].as_slice()), "a repeated answer is none");
    assert_eq!(fold.entries[2].state.phase(), &Phase::Completed);
}

#[test]
fn an_answer_that_does_not_fit_is_a_gap_and_changes_nothing() {
    let order = order(1);
    let fold = fold([Input::Start, reserved(&order), validated(&order), released(&order)]);
    let [first, second] = fold.gaps.as_slice() else { panic!("{:?}", fold.gaps) };
    assert!(first.starts_with("after entry 1, product service: reserved does not fit"), "{first}");
    assert!(second.starts_with("after entry 2, product service: released does not fit"), "{second}");
    assert_eq!(fold.entries.len(), 2, "what does not fit is no entry");
}

#[test]
fn going_back_without_a_cause_on_the_broker_is_a_gap() {
    let mut fold = fold([Input::Start, validated(&order(1))]);
    fold.turned(DateTime::UNIX_EPOCH, Orders::told(&back()).unwrap().reason);
    let [gap] = fold.gaps.as_slice() else { panic!("{:?}", fold.gaps) };
    assert!(gap.contains("timed_out: the product service did not answer in time"), "{gap}");
    assert!(gap.ends_with("what made it is not on the broker"), "{gap}");
}

fn view(state: Value) -> View {
    serde_json::from_value(json!({
        "order_id": "01920000-0000-7000-8000-000000000003", "user_id": "01920000-0000-7000-8000-000000000001",
        "status": "pending", "plan": 1, "fingerprint": null, "state": state,
        "waiting": [{"step": "reserve_stock", "direction": "undo", "attempts": 7}],
        "waiting_since": "2026-01-02T03:04:05.678Z", "due_at": null, "stuck": true,
        "cause": "waiting for the product service", "created_at": "2026-01-02T03:04:05.678Z",
        "updated_at": "2026-01-02T03:04:06Z",
    }))
    .unwrap()
}

#[test]
fn a_stuck_saga_says_what_it_waits_for() {
    let state = json!({"plan": 1, "phase": {"compensating": "cancelled"}, "steps": {"reserve_stock": {"undoing": 7}}});
    let row = view(state.clone()).row();
    let expected =
        ["01920000-0000-7000-8000-000000000001", "pending", "compensating", "undo reserve_stock", "2026-01-02T03:04:05Z", "7"];
    assert_eq!(row[1..7], expected);
    assert_eq!(row[7], "STUCK: waiting for the product service");
    let details = view(state.clone()).details();
    assert!(!view(state).gave_up(Step::ReserveStock));
    assert!(details.contains(&("step".to_owned(), "reserve_stock: undoing (7)".to_owned())), "{details:?}");
}

#[test]
fn a_state_that_cannot_be_read_says_so() {
    let mut view = view(json!({}));
    view.plan = None;
    assert_eq!(view.row()[3], "unreadable");
    assert!(view.details().contains(&("plan".to_owned(), "unreadable".to_owned())));
}

#[test]
fn a_compensation_that_was_given_up_is_known() {
    let state = json!({"plan": 1, "phase": {"compensated": "cancelled"}, "steps": {"reserve_stock": {"given_up": 7}}});
    assert!(serde_json::from_value::<State<Order>>(state.clone()).is_ok(), "the words are those of the engine");
    assert!(view(state).gave_up(Step::ReserveStock));
}

#[test]
fn a_saga_of_another_build_is_still_listed() {
    let row = view(json!({"plan": 9, "phase": {"resting": {}}, "steps": {"pay": {"asked": 1}}})).row();
    assert_eq!(row[3], "resting");
}

/// Another program, for a saga of its own, has them all: what it says of its saga is its [`CommandLine`].
#[test]
fn a_program_for_one_saga_has_every_command() {
    let definition = saga_commands::definition::<Orders>("orders");
    definition.clone().debug_assert();
    let saga = definition.find_subcommand("saga").unwrap();
    let names: Vec<&str> = saga.get_subcommands().map(clap::Command::get_name).collect();
    let looking = ["list", "causes", "show", "replay", "export", "upgrade-check", "tail", "actions"];
    assert_eq!(names, [&looking[..], &["retry", "cancel", "compensate", "skip"]].concat());
    let typed = ["orders", "saga", "list", "--stuck", "--step", "reserve_stock", "--status", "cancelled", "-o", "json"];
    assert!(definition.clone().try_get_matches_from(typed).is_ok());
    assert!(definition.try_get_matches_from(["orders", "saga", "list", "--step", "pay"]).is_err(), "the plan has no such step");
}
