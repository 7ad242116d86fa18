//! Six steps: a check, two bookings side by side, a payment after which there is no way back, and two steps that are never given up.

use saga::Effect::Notify;
use saga::Input::{Cancel, Due, Expired, Overdue, Reply, Start};
use saga::Milestone::{Compensated, Compensating, Completed, Started};
use saga::{Cause, Direction, IgnoredBecause, Input, Phase, check, compensatable, pivot, retriable};
use serde::{Deserialize, Serialize};

use self::Step::*;
use crate::toy::{self, RETRY, act, done, number, refused, revoke, toy, undone};
use saga::testkit::{Scenario, compensate, execute, given};

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    Passport,
    Flight,
    Hotel,
    Pay,
    Ticket,
    Points,
}

toy!(Trip of Step {
    1 => &[
        &[check(Passport, RETRY, |_, _| act(Passport, 0))],
        &[
            compensatable(Flight, RETRY, |_, _| act(Flight, 0), |_, _| revoke(Flight, 0)),
            compensatable(Hotel, RETRY, |_, _| act(Hotel, 0), |_, _| revoke(Hotel, 0)),
        ],
        &[pivot(Pay, RETRY, |_, state| act(Pay, number(state, Flight) + number(state, Hotel)))],
        &[
            retriable(Ticket, RETRY, |_, state| act(Ticket, number(state, Flight))),
            retriable(Points, RETRY, |_, state| act(Points, number(state, Pay))),
        ],
    ],
});

fn booking() -> Scenario<Trip> {
    given(Trip, [Start, done(Passport, 0)])
}

fn paying() -> Scenario<Trip> {
    given(Trip, [Start, done(Passport, 0), done(Flight, 120), done(Hotel, 80)])
}

fn closing() -> Scenario<Trip> {
    given(Trip, [Start, done(Passport, 0), done(Flight, 120), done(Hotel, 80), done(Pay, 7)])
}

#[test]
fn a_stage_starts_when_every_step_of_the_one_before_is_done() {
    given(Trip, [])
        .when(Start)
        .then([Notify(Started), execute(Passport, 1)])
        .when(done(Passport, 0))
        .then([execute(Flight, 1), execute(Hotel, 1)])
        .when(done(Hotel, 80))
        .then([])
        .when(done(Flight, 120))
        .then([execute(Pay, 1)])
        .when(done(Pay, 7))
        .then([execute(Ticket, 1), execute(Points, 1)])
        .when(done(Ticket, 0))
        .then([])
        .when(done(Points, 0))
        .then([Notify(Completed)])
        .settled();
}

#[test]
fn a_command_is_made_of_what_earlier_steps_brought_forth() {
    assert_eq!(paying().state.command(&Trip, &execute(Pay, 1)), Some(act(Pay, 200)));
    let closing = closing().state;
    assert_eq!(closing.command(&Trip, &execute(Ticket, 1)), Some(act(Ticket, 120)));
    assert_eq!(closing.command(&Trip, &execute(Points, 1)), Some(act(Points, 7)));
    assert_eq!(closing.command(&Trip, &compensate(Pay, 1)), None, "a pivot has no compensation");
    assert_eq!(closing.command(&Trip, &compensate(Flight, 1)), Some(revoke(Flight, 0)));
}

#[test]
fn every_unanswered_step_of_a_stage_has_a_timer_of_its_own() {
    let outstanding = |saga: &Scenario<Trip>| saga.state.outstanding().collect::<Vec<_>>();
    let saga = booking().when(Due(Hotel)).then([execute(Hotel, 2)]);
    assert_eq!(outstanding(&saga), [(Flight, Direction::Execute, 1), (Hotel, Direction::Execute, 2)]);
    let saga = saga.when(Cancel).then([Notify(Compensating), compensate(Flight, 1), compensate(Hotel, 1)]);
    assert_eq!(outstanding(&saga), [(Flight, Direction::Compensate, 1), (Hotel, Direction::Compensate, 1)]);
    assert_eq!(outstanding(&paying()), [(Pay, Direction::Execute, 1)]);
}

#[test]
fn a_refusal_undoes_the_unanswered_step_beside_it() {
    booking()
        .when(refused(Flight))
        .then([Notify(Compensating), compensate(Hotel, 1)])
        .when(done(Hotel, 80))
        .ignored(IgnoredBecause::Late)
        .when(refused(Hotel))
        .ignored(IgnoredBecause::Late)
        .when(undone(Hotel))
        .then([Notify(Compensated)])
        .settled();
}

#[test]
fn a_refusal_undoes_the_done_step_beside_it() {
    given(Trip, [Start, done(Passport, 0), done(Hotel, 80)])
        .when(refused(Flight))
        .then([Notify(Compensating), compensate(Hotel, 1)])
        .when(undone(Hotel))
        .then([Notify(Compensated)])
        .settled();
}

#[test]
fn a_stage_is_undone_when_each_of_its_steps_is() {
    for (first, second) in [(Flight, Hotel), (Hotel, Flight)] {
        booking()
            .when(Expired(Hotel))
            .then([Notify(Compensating), compensate(Flight, 1), compensate(Hotel, 1)])
            .when(undone(first))
            .then([])
            .when(undone(first))
            .ignored(IgnoredBecause::Repeated)
            .when(undone(second))
            .then([Notify(Compensated)])
            .settled();
    }
}

#[test]
fn a_step_done_late_while_the_one_beside_it_is_being_undone_is_undone_again() {
    given(Trip, [Start, done(Passport, 0), Cancel, undone(Flight)])
        .when(done(Flight, 120))
        .then([compensate(Flight, 2)])
        .when(undone(Hotel))
        .then([])
        .when(undone(Flight))
        .then([Notify(Compensated)])
        .settled();
}

#[test]
fn an_unanswered_pivot_cannot_be_cancelled_and_is_never_given_up() {
    paying()
        .when(Cancel)
        .ignored(IgnoredBecause::NoWayBack)
        .when(Overdue)
        .ignored(IgnoredBecause::NoWayBack)
        .when(Expired(Pay))
        .then([execute(Pay, 2)])
        .when(Due(Pay))
        .then([execute(Pay, 3)])
        .when(done(Pay, 7))
        .then([execute(Ticket, 1), execute(Points, 1)]);
}

#[test]
fn a_refused_pivot_goes_back() {
    let saga = paying().when(refused(Pay)).then([Notify(Compensating), compensate(Flight, 1), compensate(Hotel, 1)]);
    let cause = Cause::Refused { step: Pay, refusal: "no".to_owned() };
    assert_eq!(saga.state.phase(), &Phase::Compensating(cause));
    saga.when(Cancel)
        .ignored(IgnoredBecause::AlreadyCompensating)
        .when(done(Pay, 7)) // a contradiction, and there is nothing to undo it with
        .ignored(IgnoredBecause::Late)
        .when(undone(Flight))
        .then([])
        .when(undone(Hotel))
        .then([Notify(Compensated)])
        .settled();
}

#[test]
fn after_the_pivot_a_step_is_asked_for_ever() {
    let mut saga = closing();
    for attempt in (2..100).step_by(2) {
        saga = saga.when(Expired(Ticket)).then([execute(Ticket, attempt)]).when(Due(Ticket)).then([execute(Ticket, attempt + 1)]);
    }
    saga.when(done(Points, 0)).then([]).when(done(Ticket, 0)).then([Notify(Completed)]).settled();
}

#[test]
fn after_the_pivot_nothing_turns_the_saga_round() {
    let inputs: [(Input<Trip>, IgnoredBecause); 5] = [
        (refused(Ticket), IgnoredBecause::Unexpected),
        (undone(Ticket), IgnoredBecause::Unexpected),
        (undone(Flight), IgnoredBecause::Unexpected),
        (Cancel, IgnoredBecause::NoWayBack),
        (Overdue, IgnoredBecause::NoWayBack),
    ];
    for (input, why) in inputs {
        closing().when(input).ignored(why);
    }
}

#[test]
fn a_complete_saga_with_a_pivot_cannot_be_cancelled() {
    let saga = closing().when(done(Points, 0)).then([]).when(done(Ticket, 0)).then([Notify(Completed)]);
    saga.when(Cancel)
        .ignored(IgnoredBecause::NoWayBack)
        .when(Overdue)
        .ignored(IgnoredBecause::Final)
        .when(refused(Ticket))
        .ignored(IgnoredBecause::Unexpected);
}

toy!(Letter of Step {
    1 => &[
        &[compensatable(Flight, RETRY, |_, _| act(Flight, 0), |_, _| revoke(Flight, 0))],
        &[retriable(Ticket, RETRY, |_, _| act(Ticket, 0))],
    ],
});

#[test]
fn without_a_pivot_the_first_step_that_cannot_refuse_bars_the_way_back() {
    given(Letter, [Start]).when(Cancel).then([Notify(Compensating), compensate(Flight, 1)]);
    given(Letter, [Start, done(Flight, 120)])
        .when(Cancel)
        .ignored(IgnoredBecause::NoWayBack)
        .when(Overdue)
        .ignored(IgnoredBecause::NoWayBack)
        .when(done(Ticket, 0))
        .then([Notify(Completed)])
        .when(Cancel)
        .ignored(IgnoredBecause::NoWayBack);
}

#[test]
fn an_answer_that_means_nothing_is_ignored() {
    booking().when(Reply(toy::Reply::Gibberish)).ignored(IgnoredBecause::Unexpected);
}
