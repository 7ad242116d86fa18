//! The order saga, step by step. What only a larger plan reaches is in the tests of the engine.

use events::ReasonCode::{UserInactive, UserNotFound};
use events::order::Status;

use crate::kit::{
    Scenario, Seen as _, compensate, execute, given, invalid, operator, order, released, reserved, short, validated,
};
use order::saga::Step::{ReserveStock, ValidateUser};
use saga::Action::{self, Compensate, Retry, Skip};
use saga::Effect::Notify;
use saga::Input::{Cancel, Due, Expired, Overdue, Start};
use saga::Milestone::{Compensated, Compensating, Completed, Started};
use saga::{Cause, IgnoredBecause, Phase, Progress, State, Verdict, decide};

#[test]
fn every_step_done_confirms_the_order() {
    given([])
        .when(Start)
        .then([Notify(Started), execute(ValidateUser, 1)])
        .is(Status::Pending)
        .when(validated())
        .then([execute(ReserveStock, 1)])
        .is(Status::Pending)
        .when(reserved())
        .then([Notify(Completed)])
        .is(Status::Confirmed)
        .settled();
}

#[test]
fn a_refused_user_never_holds_stock() {
    for code in [UserNotFound, UserInactive] {
        given([Start]).when(invalid(code)).then([Notify(Compensated)]).is(Status::Rejected).settled();
    }
}

#[test]
fn refused_stock_leaves_nothing_to_undo() {
    given([Start, validated()]).when(short()).then([Notify(Compensated)]).is(Status::Rejected).settled();
}

#[test]
fn a_validation_that_times_out_is_let_go() {
    given([Start]).when(Expired(ValidateUser)).then([Notify(Compensated)]).is(Status::Rejected).settled();
}

#[test]
fn a_reservation_that_times_out_may_have_happened_and_is_undone() {
    given([Start, validated()])
        .when(Expired(ReserveStock))
        .then([Notify(Compensating), compensate(ReserveStock, 1)])
        .is(Status::Pending)
        .when(released())
        .then([Notify(Compensated)])
        .is(Status::Rejected)
        .settled();
}

#[test]
fn an_order_that_takes_too_long_goes_back_and_a_confirmed_one_stays() {
    given([Start]).when(Overdue).then([Notify(Compensated)]).is(Status::Rejected).settled();
    given([Start, validated()]).when(Overdue).then([Notify(Compensating), compensate(ReserveStock, 1)]).is(Status::Pending);
    given([Start, validated(), reserved()]).when(Overdue).ignored(IgnoredBecause::Final).is(Status::Confirmed);
}

#[test]
fn cancel_before_the_start_is_refused() {
    let saga = given([]).when(Cancel).ignored(IgnoredBecause::NotStarted);
    assert!(!saga.state.is_final() && !saga.state.is_settled(), "it has nobody to wait for, and has yet to begin");
}

#[test]
fn cancel_during_the_validation_ends_at_once() {
    given([Start]).when(Cancel).then([Notify(Compensated)]).is(Status::Cancelled).settled();
}

#[test]
fn cancel_during_the_reservation_undoes_what_may_have_happened() {
    given([Start, validated()])
        .when(Cancel)
        .then([Notify(Compensating), compensate(ReserveStock, 1)])
        .is(Status::Cancelling)
        .when(released())
        .then([Notify(Compensated)])
        .is(Status::Cancelled)
        .settled();
}

#[test]
fn cancel_after_the_confirmation_releases() {
    given([Start, validated(), reserved()])
        .when(Cancel)
        .then([Notify(Compensating), compensate(ReserveStock, 1)])
        .is(Status::Cancelling)
        .when(released())
        .then([Notify(Compensated)])
        .is(Status::Cancelled)
        .settled();
}

#[test]
fn cancel_while_going_back_does_not_change_the_cause() {
    given([Start, validated(), Expired(ReserveStock)])
        .when(Cancel)
        .ignored(IgnoredBecause::AlreadyCompensating)
        .when(released())
        .then([Notify(Compensated)])
        .is(Status::Rejected)
        .when(Cancel)
        .ignored(IgnoredBecause::Final);
}

#[test]
fn an_unanswered_step_is_asked_again_under_a_new_number() {
    given([Start])
        .when(Due(ValidateUser))
        .then([execute(ValidateUser, 2)])
        .when(Due(ValidateUser))
        .then([execute(ValidateUser, 3)]);
    given([Start, validated()]).when(Due(ReserveStock)).then([execute(ReserveStock, 2)]);
}

#[test]
fn a_compensation_is_asked_again_for_ever() {
    let mut saga = given([Start, validated(), Cancel]);
    for attempt in (2..100).step_by(2) {
        saga = saga.when(Due(ReserveStock)).then([compensate(ReserveStock, attempt)]);
        saga = saga.when(Expired(ReserveStock)).then([compensate(ReserveStock, attempt + 1)]).is(Status::Cancelling);
    }
    saga.when(released()).then([Notify(Compensated)]).is(Status::Cancelled).settled();
}

#[test]
fn stock_reserved_late_after_it_was_undone_is_given_back_under_a_new_number() {
    given([Start, validated(), Expired(ReserveStock), Due(ReserveStock), released()])
        .when(reserved())
        .then([compensate(ReserveStock, 3)])
        .is(Status::Rejected)
        .unsettled()
        .when(Due(ReserveStock))
        .then([compensate(ReserveStock, 4)])
        .when(released())
        .then([])
        .is(Status::Rejected)
        .settled();
}

#[test]
fn stock_reserved_late_after_a_refusal_is_given_back() {
    given([Start, validated(), short()])
        .when(reserved())
        .then([compensate(ReserveStock, 1)])
        .is(Status::Rejected)
        .unsettled()
        .when(released())
        .then([])
        .is(Status::Rejected)
        .settled();
}

#[test]
fn the_cause_that_came_first_stands() {
    let timed_out = given([Start, validated(), Expired(ReserveStock)]).when(short()).ignored(IgnoredBecause::Late);
    assert_eq!(timed_out.state.phase(), &Phase::Compensating(Cause::TimedOut { step: Some(ReserveStock) }));
}

#[test]
fn an_operator_asks_again_without_waiting_for_the_timer() {
    given([Start])
        .when(operator(Retry))
        .then([execute(ValidateUser, 2)])
        .when(Due(ValidateUser))
        .then([execute(ValidateUser, 3)]);
    given([Start, validated(), Cancel]).when(operator(Retry)).then([compensate(ReserveStock, 2)]);
    given([Start, validated(), short(), reserved()]).unsettled().when(operator(Retry)).then([compensate(ReserveStock, 2)]);
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
    given([Start]).when(operator(Compensate)).then([Notify(Compensated)]).is(Status::Rejected).settled();
    let saga = given([Start, validated()]).when(operator(Compensate)).then([Notify(Compensating), compensate(ReserveStock, 1)]);
    let (by, reason) = ("ann".to_owned(), "the warehouse burnt down".to_owned());
    assert_eq!(saga.state.phase(), &Phase::Compensating(Cause::Withdrawn { by, reason }));
    saga.is(Status::Pending).when(released()).then([Notify(Compensated)]).is(Status::Rejected).settled();
}

#[test]
fn a_compensation_that_can_never_succeed_is_given_up_and_the_saga_ends() {
    given([Start, validated(), Cancel, Due(ReserveStock)])
        .when(operator(Skip(ReserveStock)))
        .then([Notify(Compensated)])
        .is(Status::Cancelled)
        .settled()
        .when(reserved())
        .ignored(IgnoredBecause::Late)
        .when(released())
        .then([])
        .is(Status::Cancelled)
        .settled()
        .when(released())
        .ignored(IgnoredBecause::Repeated)
        .when(reserved())
        .then([compensate(ReserveStock, 3)]);
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
        Scenario { plan: order(), state: State::of_version(99) }.when(input).ignored(IgnoredBecause::UnknownPlan);
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
            Verdict::Ignored(IgnoredBecause::AlreadyStarted) => "Started".to_owned(),
            Verdict::Ignored(IgnoredBecause::AlreadyCompensating) => "GoingBack".to_owned(),
            Verdict::Ignored(IgnoredBecause::NothingOutstanding) => "Nothing".to_owned(),
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
