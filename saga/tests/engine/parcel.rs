//! Four steps that can all be taken back: in reverse, stage by stage.

use saga::Input::{Cancel, Due, Expired, Overdue, Start};
use saga::Message::Tell;
use saga::Notice::{Compensated, Compensating};
use saga::{Direction, Why, check, compensatable};
use serde::{Deserialize, Serialize};

use self::Step::*;
use crate::scenario::{Saga, ask, given, undo};
use crate::toy::{PATIENCE, act, done, number, refused, revoke, toy, undone};

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
        &[compensatable(Pick, PATIENCE, |_, _| act(Pick, 0), |_, _| revoke(Pick, 0))],
        &[
            compensatable(Wrap, PATIENCE, |_, _| act(Wrap, 0), |_, state| revoke(Wrap, number(state, Pick))),
            check(Weigh, PATIENCE, |_, _| act(Weigh, 0)),
        ],
        &[compensatable(Ship, PATIENCE, |_, state| act(Ship, number(state, Weigh)), |_, _| revoke(Ship, 0))],
    ],
});

fn wrapping() -> Saga<Parcel> {
    given(Parcel, [Start, done(Pick, 5)])
}

fn shipping() -> Saga<Parcel> {
    given(Parcel, [Start, done(Pick, 5), done(Weigh, 900), done(Wrap, 0)])
}

#[test]
fn the_stages_are_undone_in_reverse_one_after_another() {
    shipping()
        .when(done(Ship, 1))
        .then([Tell(saga::Notice::Completed)])
        .when(Cancel)
        .then([Tell(Compensating), undo(Ship, 1)])
        .when(undone(Wrap))
        .ignored(Why::Unexpected)
        .when(undone(Ship))
        .then([undo(Wrap, 1)])
        .when(Due(Wrap))
        .then([undo(Wrap, 2)])
        .when(undone(Wrap))
        .then([undo(Pick, 1)])
        .when(undone(Pick))
        .then([Tell(Compensated)])
        .settled();
}

#[test]
fn a_refusal_by_the_last_step_undoes_all_before_it() {
    let saga = shipping().when(refused(Ship)).then([Tell(Compensating), undo(Wrap, 1)]);
    assert_eq!(saga.state.command(&Parcel, &undo(Wrap, 1)), Some(revoke(Wrap, 5)), "what an earlier step brought forth is kept");
    saga.when(undone(Wrap)).then([undo(Pick, 1)]).when(undone(Pick)).then([Tell(Compensated)]).settled();
}

#[test]
fn an_unanswered_check_is_let_go() {
    let saga = wrapping().when(refused(Wrap)).then([Tell(Compensating), undo(Pick, 1)]);
    assert_eq!(saga.state.outstanding().collect::<Vec<_>>(), [(Pick, Direction::Undo, 1)]);
    saga.when(done(Weigh, 900))
        .ignored(Why::Late)
        .when(refused(Weigh))
        .ignored(Why::Late)
        .when(Due(Weigh))
        .ignored(Why::Late)
        .when(undone(Pick))
        .then([Tell(Compensated)])
        .settled();
}

#[test]
fn a_check_that_refuses_or_times_out_undoes_what_is_beside_and_before_it() {
    for input in [refused(Weigh), Expired(Weigh), Expired(Wrap), Overdue] {
        wrapping()
            .when(input)
            .then([Tell(Compensating), undo(Wrap, 1)])
            .when(undone(Wrap))
            .then([undo(Pick, 1)])
            .when(undone(Pick))
            .then([Tell(Compensated)])
            .settled();
    }
}

#[test]
fn a_done_check_is_left_as_it_is() {
    given(Parcel, [Start, done(Pick, 5), done(Weigh, 900)])
        .when(Cancel)
        .then([Tell(Compensating), undo(Wrap, 1)])
        .when(done(Weigh, 900))
        .ignored(Why::Repeated);
}

#[test]
fn a_late_done_of_a_later_stage_holds_back_the_stages_before_it() {
    shipping()
        .when(refused(Ship))
        .then([Tell(Compensating), undo(Wrap, 1)])
        .when(done(Ship, 1))
        .then([undo(Ship, 1)])
        .when(undone(Wrap))
        .then([])
        .when(undone(Ship))
        .then([undo(Pick, 1)])
        .when(undone(Pick))
        .then([Tell(Compensated)])
        .settled();
}

#[test]
fn late_dones_after_the_end_are_undone_without_ending_it_twice() {
    given(Parcel, [Start, done(Pick, 5), Cancel, undone(Wrap), undone(Pick)])
        .settled()
        .when(done(Wrap, 0))
        .then([undo(Wrap, 2)])
        .unsettled()
        .when(done(Pick, 5))
        .then([undo(Pick, 2)])
        .when(Cancel)
        .ignored(Why::Final)
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
        wrapping().when(input).ignored(Why::Unexpected);
    }
    wrapping().when(Due(Ship)).ignored(Why::Late).when(Expired(Ship)).ignored(Why::Late).when(done(Weigh, 1)).then([]);
    assert_eq!(shipping().state.command(&Parcel, &ask(Ship, 1)), Some(act(Ship, 900)));
}
