//! What the order plan asks, what it makes of the answers, and how it tells its customer.

use std::collections::BTreeSet;

use events::{Currency, ProductId};
use uuid::Uuid;

use crate::kit::{
    CUP, ORDER, TEA, USER, compensate, execute, given, invalid, operator, order, released, reserved, reserved_at, short, usd,
};
use crate::kit::{Scenario, validated};
use events::order::Status;
use events::{Money, ReasonCode, product, user};
use order::saga::Step::{ReserveStock, ValidateUser};
use order::saga::{Command, Order, Output};
use saga::Effect::Notify;
use saga::Input::{Cancel, Expired, Overdue, Start};
use saga::{Action, IgnoredBecause, Milestone, Plan as _, State, verify};

fn confirmed() -> Scenario<Order> {
    given([Start, validated(), reserved()])
}

#[test]
fn each_message_stands_for_its_command() {
    let order = order();
    let command = |message| given([Start, validated()]).state.command(&order, &message);
    let validate = user::Validate { order_id: ORDER, user_id: USER };
    let reserve = product::Reserve { order_id: ORDER, items: order.items.clone() };
    let release = product::Release { order_id: ORDER };
    assert_eq!(command(execute(ValidateUser, 1)), Some(Command::User(validate.into())));
    assert_eq!(command(execute(ReserveStock, 7)), Some(Command::Product(reserve.into())));
    assert_eq!(command(compensate(ReserveStock, 1)), Some(Command::Product(release.into())));
    assert_eq!(command(compensate(ValidateUser, 1)), None, "a check has nothing to undo");
    assert_eq!(command(Notify(Milestone::Started)), None, "a notice is no command");
    assert_eq!(State::of_version(99).command(&order, &execute(ValidateUser, 1)), None, "an unknown plan");
}

#[test]
fn prices_are_kept_in_the_order_of_the_items() {
    let extra = ProductId(Uuid::from_u128(5));
    for answer in [reserved(), reserved_at([(extra, usd(1)), (CUP, usd(1_200)), (TEA, usd(450))])] {
        let state = given([Start, validated(), answer]).state;
        assert_eq!(state.output(ReserveStock), Some(&Output::Prices(vec![usd(450), usd(1_200)])));
    }
}

#[test]
fn an_answer_without_a_sum_is_none_and_the_deadline_gives_back_what_it_holds() {
    let too_much = usd(i64::MAX);
    for answer in [
        reserved_at([]),
        reserved_at([(TEA, usd(450))]),
        reserved_at([(TEA, usd(450)), (CUP, Money::new(1_200, Currency::EUR))]),
        reserved_at([(TEA, too_much), (CUP, usd(1))]),
    ] {
        given([Start, validated()])
            .when(answer.clone())
            .ignored(IgnoredBecause::Unexpected)
            .when(Expired(ReserveStock))
            .then([Notify(Milestone::Compensating), compensate(ReserveStock, 1)])
            .when(answer)
            .ignored(IgnoredBecause::Unexpected)
            .when(released())
            .then([Notify(Milestone::Compensated)]);
    }
}

#[test]
fn the_total_is_the_sum_of_price_times_quantity() {
    let order = order();
    assert_eq!(order.total(&[usd(450), usd(1_200)]), Ok(Some(usd(2_100))));
    assert_eq!(order.total(&[]), Ok(None));
    assert!(order.total(&[usd(450), Money::new(1, Currency::EUR)]).is_err());
}

#[test]
fn lines_bear_their_prices_once_there_are_some() {
    let order = order();
    let prices = |prices: Option<&[Money]>| order.priced(prices).into_iter().map(|item| item.unit_price).collect::<Vec<_>>();
    assert_eq!(prices(None), [None, None]);
    assert_eq!(prices(Some(&[usd(450), usd(1_200)])), [Some(usd(450)), Some(usd(1_200))]);
    let items = order.priced(None);
    assert_eq!((items[1].product_id, items[1].quantity), (order.items[1].product_id, order.items[1].quantity));
}

#[test]
fn the_customer_sees_a_status_and_a_reason() {
    use ReasonCode::*;
    use Status::*;
    let late_user = "the user service did not answer in time";
    let late_stock = "the product service did not answer in time";
    let cancelled = "the customer cancelled the order";
    let withdrawn = Some((WithdrawnByOperator, "the warehouse burnt down"));
    let withdraw = || operator(Action::Compensate);
    for (saga, status, reason) in [
        (given([]), Pending, None),
        (given([Start]), Pending, None),
        (given([Start, validated()]), Pending, None),
        (confirmed(), Confirmed, None),
        (given([Start, invalid(UserInactive)]), Rejected, Some((UserInactive, "refused by the user service"))),
        (given([Start, validated(), short()]), Rejected, Some((InsufficientStock, "refused by the product service"))),
        (given([Start, Expired(ValidateUser)]), Rejected, Some((TimedOut, late_user))),
        (given([Start, validated(), Expired(ReserveStock)]), Pending, Some((TimedOut, late_stock))),
        (given([Start, validated(), Expired(ReserveStock), released()]), Rejected, Some((TimedOut, late_stock))),
        (given([Start, Overdue]), Rejected, Some((TimedOut, "the order took too long"))),
        (given([Start, withdraw()]), Rejected, withdrawn),
        (given([Start, validated(), withdraw()]), Pending, withdrawn),
        (given([Start, validated(), withdraw(), released()]), Rejected, withdrawn),
        (given([Start, operator(Action::Cancel)]), Cancelled, Some((CancelledByCustomer, cancelled))),
        (given([Start, Cancel]), Cancelled, Some((CancelledByCustomer, cancelled))),
        (given([Start, validated(), Cancel]), Cancelling, Some((CancelledByCustomer, cancelled))),
        (given([Start, validated(), Cancel, released()]), Cancelled, Some((CancelledByCustomer, cancelled))),
    ] {
        assert_eq!(Order::status(&saga.state), status, "{saga:?}");
        let found = Order::reason(&saga.state);
        assert_eq!(found.as_ref().map(|reason| (reason.code, reason.detail.as_str())), reason, "{saga:?}");
    }
}

/// Orders in flight count on it: a changed plan is a new version, never a changed old one.
#[test]
fn the_plan_is_sound_and_version_1_is_what_it_was() {
    verify::<Order>().unwrap();
    let fingerprints: BTreeSet<u64> = Order::VERSIONS.iter().map(|(_, stages)| stages.fingerprint()).collect();
    assert_eq!(fingerprints.len(), Order::VERSIONS.len());
    assert_eq!(Order::stages(1).unwrap().fingerprint(), 0xc077_e424_0e2a_db2e);
}

#[test]
fn the_table_of_steps_is_complete() {
    assert_eq!(saga_runtime::verify::<Order>(&events::streams::TOPOLOGY), Ok(()));
    assert_eq!(
        saga_runtime::steps::reply_consumers::<Order>(),
        [events::streams::USER_REPLIES_CONSUMER, events::streams::PRODUCT_REPLIES_CONSUMER]
    );
}
