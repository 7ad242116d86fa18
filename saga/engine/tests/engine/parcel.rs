//! Four steps that can all be taken back: in reverse, stage by stage.

use saga::Effect::Notify;
use saga::Input::{Cancel, Due, Expired, Overdue, Start};
use saga::Milestone::{Compensated, Compensating};
use saga::{Direction, IgnoredBecause, check, compensatable};
use serde::{Deserialize, Serialize};

use self::Step::*;
use crate::toy::{RETRY, act, done, number, refused, revoke, toy, undone};
use saga::testkit::{Scenario, compensate, execute, given};

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    // Not in the order of the stages: the plan decides the order, never the enum.
    Ship,
    Weigh,
    Wrap,
    Pick,
}

toy!(Parcel of Step {
    1 => &[
        &[compensatable(Pick, RETRY, |_, _| act(Pick, 0), |_, _| revoke(Pick, 0))],
        &[
            compensatable(Wrap, RETRY, |_, _| act(Wrap, 0), |_, state| revoke(Wrap, number(state, Pick))),
            check(Weigh, RETRY, |_, _| act(Weigh, 0)),
        ],
        &[compensatable(Ship, RETRY, |_, state| act(Ship, number(state, Weigh)), |_, _| revoke(Ship, 0))],
    ],
});

fn wrapping() -> Scenario<Parcel> {
    given(Parcel, [Start, done(Pick, 5)])
}

fn shipping() -> Scenario<Parcel> {
    given(Parcel, [Start, done(Pick, 5), done(Weigh, 900), done(Wrap, 0)])
}

#[test]
fn the_stages_are_undone_in_reverse_one_after_another() {
    shipping()
        .when(done(Ship, 1))
        .then([Notify(saga::Milestone::Completed)])
        .when(Cancel)
        .then([Notify(Compensating), compensate(Ship, 1)])
        .when(undone(Wrap))
        .ignored(IgnoredBecause::Unexpected)
        .when(undone(Ship))
        .then([compensate(Wrap, 1)])
        .when(Due(Wrap))
        .then([compensate(Wrap, 2)])
        .when(undone(Wrap))
        .then([compensate(Pick, 1)])
        .when(undone(Pick))
        .then([Notify(Compensated)])
        .settled();
}

#[test]
fn a_refusal_by_the_last_step_undoes_all_before_it() {
    let saga = shipping().when(refused(Ship)).then([Notify(Compensating), compensate(Wrap, 1)]);
    assert_eq!(
        saga.state.command(&Parcel, &compensate(Wrap, 1)),
        Some(revoke(Wrap, 5)),
        "what an earlier step brought forth is kept"
    );
    saga.when(undone(Wrap)).then([compensate(Pick, 1)]).when(undone(Pick)).then([Notify(Compensated)]).settled();
}

#[test]
fn an_unanswered_check_is_let_go() {
    let saga = wrapping().when(refused(Wrap)).then([Notify(Compensating), compensate(Pick, 1)]);
    assert_eq!(saga.state.outstanding().collect::<Vec<_>>(), [(Pick, Direction::Compensate, 1)]);
    saga.when(done(Weigh, 900))
        .ignored(IgnoredBecause::Late)
        .when(refused(Weigh))
        .ignored(IgnoredBecause::Late)
        .when(Due(Weigh))
        .ignored(IgnoredBecause::Late)
        .when(undone(Pick))
        .then([Notify(Compensated)])
        .settled();
}

#[test]
fn a_check_that_refuses_or_times_out_undoes_what_is_beside_and_before_it() {
    for input in [refused(Weigh), Expired(Weigh), Expired(Wrap), Overdue] {
        wrapping()
            .when(input)
            .then([Notify(Compensating), compensate(Wrap, 1)])
            .when(undone(Wrap))
            .then([compensate(Pick, 1)])
            .when(undone(Pick))
            .then([Notify(Compensated)])
            .settled();
    }
}

#[test]
fn a_done_check_is_left_as_it_is() {
    given(Parcel, [Start, done(Pick, 5), done(Weigh, 900)])
        .when(Cancel)
        .then([Notify(Compensating), compensate(Wrap, 1)])
        .when(done(Weigh, 900))
        .ignored(IgnoredBecause::Repeated);
}

#[test]
fn a_late_done_of_a_later_stage_holds_back_the_stages_before_it() {
    shipping()
        .when(refused(Ship))
        .then([Notify(Compensating), compensate(Wrap, 1)])
        .when(done(Ship, 1))
        .then([compensate(Ship, 1)])
        .when(undone(Wrap))
        .then([])
        .when(undone(Ship))
        .then([compensate(Pick, 1)])
        .when(undone(Pick))
        .then([Notify(Compensated)])
        .settled();
}

#[test]
fn late_dones_after_the_end_are_undone_without_ending_it_twice() {
    given(Parcel, [Start, done(Pick, 5), Cancel, undone(Wrap), undone(Pick)])
        .settled()
        .when(done(Wrap, 0))
        .then([compensate(Wrap, 2)])
        .unsettled()
        .when(done(Pick, 5))
        .then([compensate(Pick, 2)])
        .when(Cancel)
        .ignored(IgnoredBecause::Final)
        .when(undone(Wrap))
        .then([])
        .unsettled()
        .when(undone(Pick))
        .then([])
        .settled();
}

#[test]
fn a_step_of_a_stage_not_begun_has_nothing_to_answer() {
    for input in [done(Ship, 1), refused(Ship), undone(Ship)] {
        wrapping().when(input).ignored(IgnoredBecause::Unexpected);
    }
    wrapping()
        .when(Due(Ship))
        .ignored(IgnoredBecause::Late)
        .when(Expired(Ship))
        .ignored(IgnoredBecause::Late)
        .when(done(Weigh, 1))
        .then([]);
    assert_eq!(shipping().state.command(&Parcel, &execute(Ship, 1)), Some(act(Ship, 900)));
}
