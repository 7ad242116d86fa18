//! The order saga, step by step. What only a larger plan reaches is in `tests/engine`.

use events::ReasonCode::{UserInactive, UserNotFound};
use events::order::Status;

use super::Action::{self, Compensate, Retry, Skip};
use super::Input::{Cancel, Due, Expired, Overdue, Start};
use super::Message::Tell;
use super::Notice::{Compensated, Compensating, Completed, Started};
use crate::order::Order;
use crate::order::Step::{ReserveStock, ValidateUser};
use crate::testing::{Saga, ask, given, invalid, operator, order, released, reserved, short, undo, validated};
use crate::{Cause, Phase, Progress, State, Verdict, Why, decide};

impl Saga<Order> {
    #[track_caller]
    fn is(self, status: Status) -> Self {
        assert_eq!(Order::status(&self.state), status, "{:?}", self.state);
        self
    }
}

#[test]
fn every_step_done_confirms_the_order() {
    given([])
        .when(Start)
        .then([Tell(Started), ask(ValidateUser, 1)])
        .is(Status::Pending)
        .when(validated())
        .then([ask(ReserveStock, 1)])
        .is(Status::Pending)
        .when(reserved())
        .then([Tell(Completed)])
        .is(Status::Confirmed)
        .settled();
}

#[test]
fn a_refused_user_never_holds_stock() {
    for code in [UserNotFound, UserInactive] {
        given([Start]).when(invalid(code)).then([Tell(Compensated)]).is(Status::Rejected).settled();
    }
}

#[test]
fn refused_stock_leaves_nothing_to_undo() {
    given([Start, validated()]).when(short()).then([Tell(Compensated)]).is(Status::Rejected).settled();
}

#[test]
fn a_validation_that_times_out_is_let_go() {
    given([Start]).when(Expired(ValidateUser)).then([Tell(Compensated)]).is(Status::Rejected).settled();
}

#[test]
fn a_reservation_that_times_out_may_have_happened_and_is_undone() {
    given([Start, validated()])
        .when(Expired(ReserveStock))
        .then([Tell(Compensating), undo(ReserveStock, 1)])
        .is(Status::Pending)
        .when(released())
        .then([Tell(Compensated)])
        .is(Status::Rejected)
        .settled();
}

#[test]
fn an_order_that_takes_too_long_goes_back_and_a_confirmed_one_stays() {
    given([Start]).when(Overdue).then([Tell(Compensated)]).is(Status::Rejected).settled();
    given([Start, validated()]).when(Overdue).then([Tell(Compensating), undo(ReserveStock, 1)]).is(Status::Pending);
    given([Start, validated(), reserved()]).when(Overdue).ignored(Why::Final).is(Status::Confirmed);
}

#[test]
fn cancel_before_the_start_is_refused() {
    let saga = given([]).when(Cancel).ignored(Why::NotStarted);
    assert!(!saga.state.is_final() && !saga.state.is_settled(), "it has nobody to wait for, and has yet to begin");
}

#[test]
fn cancel_during_the_validation_ends_at_once() {
    given([Start]).when(Cancel).then([Tell(Compensated)]).is(Status::Cancelled).settled();
}

#[test]
fn cancel_during_the_reservation_undoes_what_may_have_happened() {
    given([Start, validated()])
        .when(Cancel)
        .then([Tell(Compensating), undo(ReserveStock, 1)])
        .is(Status::Cancelling)
        .when(released())
        .then([Tell(Compensated)])
        .is(Status::Cancelled)
        .settled();
}

#[test]
fn cancel_after_the_confirmation_releases() {
    given([Start, validated(), reserved()])
        .when(Cancel)
        .then([Tell(Compensating), undo(ReserveStock, 1)])
        .is(Status::Cancelling)
        .when(released())
        .then([Tell(Compensated)])
        .is(Status::Cancelled)
        .settled();
}

#[test]
fn cancel_while_going_back_does_not_change_the_cause() {
    given([Start, validated(), Expired(ReserveStock)])
        .when(Cancel)
        .ignored(Why::AlreadyCompensating)
        .when(released())
        .then([Tell(Compensated)])
        .is(Status::Rejected)
        .when(Cancel)
        .ignored(Why::Final);
}

#[test]
fn an_unanswered_step_is_asked_again_under_a_new_number() {
    given([Start]).when(Due(ValidateUser)).then([ask(ValidateUser, 2)]).when(Due(ValidateUser)).then([ask(ValidateUser, 3)]);
    given([Start, validated()]).when(Due(ReserveStock)).then([ask(ReserveStock, 2)]);
}

#[test]
fn a_compensation_is_asked_again_for_ever() {
    let mut saga = given([Start, validated(), Cancel]);
    for attempt in (2..100).step_by(2) {
        saga = saga.when(Due(ReserveStock)).then([undo(ReserveStock, attempt)]);
        saga = saga.when(Expired(ReserveStock)).then([undo(ReserveStock, attempt + 1)]).is(Status::Cancelling);
    }
    saga.when(released()).then([Tell(Compensated)]).is(Status::Cancelled).settled();
}

#[test]
fn stock_reserved_late_after_it_was_undone_is_given_back_under_a_new_number() {
    given([Start, validated(), Expired(ReserveStock), Due(ReserveStock), released()])
        .when(reserved())
        .then([undo(ReserveStock, 3)])
        .is(Status::Rejected)
        .unsettled()
        .when(Due(ReserveStock))
        .then([undo(ReserveStock, 4)])
        .when(released())
        .then([])
        .is(Status::Rejected)
        .settled();
}

#[test]
fn stock_reserved_late_after_a_refusal_is_given_back() {
    given([Start, validated(), short()])
        .when(reserved())
        .then([undo(ReserveStock, 1)])
        .is(Status::Rejected)
        .unsettled()
        .when(released())
        .then([])
        .is(Status::Rejected)
        .settled();
}

#[test]
fn the_cause_that_came_first_stands() {
    let timed_out = given([Start, validated(), Expired(ReserveStock)]).when(short()).ignored(Why::Late);
    assert_eq!(timed_out.state.phase(), &Phase::Compensating(Cause::TimedOut { step: Some(ReserveStock) }));
}

#[test]
fn an_operator_asks_again_without_waiting_for_the_timer() {
    given([Start]).when(operator(Retry)).then([ask(ValidateUser, 2)]).when(Due(ValidateUser)).then([ask(ValidateUser, 3)]);
    given([Start, validated(), Cancel]).when(operator(Retry)).then([undo(ReserveStock, 2)]);
    given([Start, validated(), short(), reserved()]).unsettled().when(operator(Retry)).then([undo(ReserveStock, 2)]);
}

#[test]
fn an_operator_cancels_as_the_customer_would() {
    for inputs in [vec![], vec![Start], vec![Start, validated()], vec![Start, validated(), reserved()], vec![Start, Cancel]] {
        let saga = inputs.iter().fold(State::new(), |state, input| decide(&order(), &state, input).state);
        assert_eq!(decide(&order(), &saga, &operator(Action::Cancel)), decide(&order(), &saga, &Cancel));
    }
}

#[test]
fn an_operator_withdraws_an_order_and_it_ends_rejected() {
    given([Start]).when(operator(Compensate)).then([Tell(Compensated)]).is(Status::Rejected).settled();
    let saga = given([Start, validated()]).when(operator(Compensate)).then([Tell(Compensating), undo(ReserveStock, 1)]);
    let (by, reason) = ("ann".to_owned(), "the warehouse burnt down".to_owned());
    assert_eq!(saga.state.phase(), &Phase::Compensating(Cause::Withdrawn { by, reason }));
    saga.is(Status::Pending).when(released()).then([Tell(Compensated)]).is(Status::Rejected).settled();
}

#[test]
fn a_compensation_that_can_never_succeed_is_given_up_and_the_saga_ends() {
    given([Start, validated(), Cancel, Due(ReserveStock)])
        .when(operator(Skip(ReserveStock)))
        .then([Tell(Compensated)])
        .is(Status::Cancelled)
        .settled()
        .when(reserved())
        .ignored(Why::Late)
        .when(released())
        .then([])
        .is(Status::Cancelled)
        .settled()
        .when(released())
        .ignored(Why::Repeated)
        .when(reserved())
        .then([undo(ReserveStock, 3)]);
}

#[test]
fn a_compensation_after_the_end_is_given_up_too() {
    let saga = given([Start, validated(), short(), reserved()]).when(operator(Skip(ReserveStock))).then([]);
    assert_eq!(saga.state.progress(ReserveStock), Some(&Progress::GivenUp(1)));
    saga.is(Status::Rejected).settled();
}

#[test]
fn a_plan_version_this_build_does_not_know_is_left_alone() {
    for input in [Start, validated(), Due(ValidateUser), Cancel, operator(Retry), operator(Skip(ReserveStock))] {
        Saga { plan: order(), state: State::of_version(99) }.when(input).ignored(Why::UnknownPlan);
    }
}

/// Every place an order can be in, and every input: what moves it, and why the rest changes nothing.
#[test]
fn what_each_input_means_in_each_place() {
    let places = [
        given([]),
        given([Start]),
        given([Start, validated()]),
        given([Start, validated(), reserved()]),
        given([Start, validated(), Expired(ReserveStock)]),
        given([Start, validated(), Expired(ReserveStock), released()]),
        given([Start, validated(), short()]),
        given([Start, invalid(UserNotFound)]),
        given([Start, Cancel]),
        given([Start, validated(), Cancel, operator(Skip(ReserveStock))]),
    ];
    let inputs = [
        ("start", Start),
        ("validated", validated()),
        ("invalid", invalid(UserInactive)),
        ("reserved", reserved()),
        ("short", short()),
        ("released", released()),
        ("due user", Due(ValidateUser)),
        ("due stock", Due(ReserveStock)),
        ("exp. user", Expired(ValidateUser)),
        ("exp. stock", Expired(ReserveStock)),
        ("overdue", Overdue),
        ("cancel", Cancel),
        ("retry", operator(Retry)),
        ("compensate", operator(Compensate)),
        ("skip user", operator(Skip(ValidateUser))),
        ("skip stock", operator(Skip(ReserveStock))),
    ];
    let mut table = String::new();
    for (name, input) in &inputs {
        let cells = places.iter().map(|place| match decide(&order(), &place.state, input).verdict {
            Verdict::Moved => "moves".to_owned(),
            Verdict::Ignored(Why::AlreadyStarted) => "Started".to_owned(),
            Verdict::Ignored(Why::AlreadyCompensating) => "GoingBack".to_owned(),
            Verdict::Ignored(Why::NothingOutstanding) => "Nothing".to_owned(),
            Verdict::Ignored(why) => format!("{why:?}"),
        });
        let line = cells.fold(format!("{name:10}"), |line, cell| format!("{line} {cell:10}"));
        table.push_str(line.trim_end());
        table.push('\n');
    }
    let (_, expected) = TABLE.split_once('\n').unwrap();
    assert!(table == expected, "\n{table}");
}

/// Ends are in capitals: confirmed, rejected after a release, for want of stock, for the user's sake, cancelled while validating,
/// cancelled with a release given up.
const TABLE: &str = "\
           new        validating reserving  CONFIRMED  releasing  RELEASED   SHORT      INVALID    CANCELLED  GIVEN UP
start      moves      Started    Started    Started    Started    Started    Started    Started    Started    Started
validated  NotStarted moves      Repeated   Repeated   Repeated   Repeated   Repeated   Late       Late       Repeated
invalid    NotStarted moves      Unexpected Unexpected Unexpected Unexpected Unexpected Repeated   Late       Unexpected
reserved   NotStarted Unexpected moves      Repeated   Late       moves      moves      Unexpected Unexpected Late
short      NotStarted Unexpected moves      Unexpected Late       Late       Repeated   Unexpected Unexpected Late
released   NotStarted Unexpected Unexpected Unexpected moves      Repeated   Late       Unexpected Unexpected moves
due user   NotStarted moves      Late       Late       Late       Late       Late       Late       Late       Late
due stock  NotStarted Late       moves      Late       moves      Late       Late       Late       Late       Late
exp. user  NotStarted moves      Late       Late       Late       Late       Late       Late       Late       Late
exp. stock NotStarted Late       moves      Late       moves      Late       Late       Late       Late       Late
overdue    NotStarted moves      moves      Final      GoingBack  Final      Final      Final      Final      Final
cancel     NotStarted moves      moves      moves      GoingBack  Final      Final      Final      Final      Final
retry      NotStarted moves      moves      Nothing    moves      Nothing    Nothing    Nothing    Nothing    Nothing
compensate NotStarted moves      moves      Final      GoingBack  Final      Final      Final      Final      Final
skip user  NotStarted NotUndoing NotUndoing NotUndoing NotUndoing NotUndoing NotUndoing NotUndoing NotUndoing NotUndoing
skip stock NotStarted NotUndoing NotUndoing NotUndoing moves      NotUndoing NotUndoing NotUndoing NotUndoing Repeated
";
