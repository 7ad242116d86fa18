//! The operator's hand where the order saga does not reach: steps side by side, stages to go back through, a pivot.

use saga::Effect::Notify;
use saga::Input::{self, Cancel, Start};
use saga::Milestone::{Compensated, Compensating};
use saga::{Action, Cause, IgnoredBecause, Phase, Plan};

use crate::toy::{done, undone};
use crate::trip::Step::{Flight, Hotel, Passport, Pay};
use crate::trip::Trip;
use saga::testkit::{compensate, execute, given};

fn operator<P: Plan>(action: Action<P::Step>) -> Input<P> {
    Input::Operator { action, by: "ann".to_owned(), reason: "the airline is bankrupt".to_owned() }
}

#[test]
fn a_retry_asks_every_unanswered_step_and_every_unanswered_compensation() {
    given(Trip, [Start, done(Passport, 0)])
        .when(operator(Action::Retry))
        .then([execute(Flight, 2), execute(Hotel, 2)])
        .when(done(Flight, 120))
        .then([])
        .when(operator(Action::Retry))
        .then([execute(Hotel, 3)])
        .when(Cancel)
        .then([Notify(Compensating), compensate(Flight, 1), compensate(Hotel, 1)])
        .when(undone(Flight))
        .then([])
        .when(operator(Action::Retry))
        .then([compensate(Hotel, 2)]);
}

#[test]
fn the_unwinding_goes_on_beside_and_behind_a_compensation_given_up() {
    given(Trip, [Start, done(Passport, 0), done(Flight, 120), Cancel])
        .when(operator(Action::Skip(Flight)))
        .then([])
        .when(done(Flight, 120))
        .ignored(IgnoredBecause::Late)
        .when(undone(Hotel))
        .then([Notify(Compensated)])
        .settled();
    given(crate::parcel::Parcel, [Start, done(crate::parcel::Step::Pick, 5), Cancel])
        .when(operator(Action::Skip(crate::parcel::Step::Wrap)))
        .then([compensate(crate::parcel::Step::Pick, 1)]);
}

#[test]
fn only_a_compensation_under_way_can_be_given_up() {
    for step in [Passport, Flight, Hotel, Pay] {
        given(Trip, [Start, done(Passport, 0), done(Flight, 120)])
            .when(operator(Action::Skip(step)))
            .ignored(IgnoredBecause::NotUndoing);
    }
}

#[test]
fn once_the_pivot_may_be_done_an_operator_can_only_ask_again() {
    let paying = given(Trip, [Start, done(Passport, 0), done(Flight, 120), done(Hotel, 80)]);
    paying
        .when(operator(Action::Compensate))
        .ignored(IgnoredBecause::NoWayBack)
        .when(operator(Action::Cancel))
        .ignored(IgnoredBecause::NoWayBack)
        .when(operator(Action::Retry))
        .then([execute(Pay, 2)]);
}

#[test]
fn what_an_operator_withdraws_says_who_and_why() {
    let saga = given(Trip, [Start]).when(operator(Action::Compensate)).then([Notify(Compensated)]);
    let cause = Cause::Withdrawn { by: "ann".to_owned(), reason: "the airline is bankrupt".to_owned() };
    assert_eq!(saga.state.phase(), &Phase::Compensated(cause));
}
