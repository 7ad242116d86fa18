//! What is made of answers alone, and what is said to be missing.

use chrono::DateTime;
use events::order::{Compensating, Item, Status};
use events::{Reason, ReasonCode};
use saga::Input;

use super::*;
use crate::saga::testing::{order, released, reserved, validated};

fn fold(inputs: impl IntoIterator<Item = Input<Order>>) -> Fold {
    let mut fold = Fold { order: order(1), entries: Vec::new(), gaps: Vec::new() };
    inputs.into_iter().for_each(|input| fold.take(DateTime::UNIX_EPOCH, input));
    fold
}

/// The event that says that the order went back.
fn back() -> Option<(Stored, Event)> {
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
        waybill: None,
        waybill_ref: None,
    };
    let (subject, time) = (String::new(), DateTime::UNIX_EPOCH);
    let stored = Stored { subject, sequence: 9, time, headers: Default::default(), payload: Default::default() };
    Some((stored, Compensating(snapshot).into()))
}

#[test]
fn answers_that_fit_leave_no_gap() {
    let order = order(1);
    let mut fold = fold([Input::Start, validated(&order), validated(&order), reserved(&order)]);
    fold.turned(None);
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
    fold.turned(back());
    let [gap] = fold.gaps.as_slice() else { panic!("{:?}", fold.gaps) };
    assert!(gap.contains("timed_out: the product service did not answer in time"), "{gap}");
    assert!(gap.ends_with("what made it is not on the broker"), "{gap}");
}
