//! Plans that change: a saga keeps the version it began with, and what a build refuses of a list of versions.

use saga::Effect::Notify;
use saga::Input::{Cancel, Expired, Start};
use saga::Milestone::{Compensated, Compensating, Completed, Started};
use saga::{IgnoredBecause, Plan, ShapeError, State, StepSpec, check, compensatable, retriable, verify};
use serde::{Deserialize, Serialize};

use self::Step::*;
use crate::toy::{RETRY, act, done, revoke, toy, undone};
use saga::testkit::{Scenario, compensate, execute, given};

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    Reserve,
    Pay,
    Send,
}

pub const fn step<P: Plan<Command = crate::toy::Command<Step>>>(step: P::Step) -> StepSpec<P> {
    compensatable(step, RETRY, |_, _| act(Reserve, 0), |_, _| revoke(Reserve, 0))
}

toy!(Shop of Step { 1 => &[&[step(Reserve)], &[step(Send)]] });
toy!(PayingShop of Step {
    1 => &[&[step(Reserve)], &[step(Send)]],
    2 => &[&[step(Reserve)], &[step(Pay)], &[step(Send)]],
});

#[test]
fn a_saga_begun_on_version_1_continues_on_it_while_new_ones_take_version_2_with_a_step_inserted() {
    // Written down by the build before the change, read by the one after it.
    let old = given(Shop, [Start]).state;
    let written = serde_json::to_string(&old).unwrap();
    assert_eq!(written, r#"{"plan":1,"phase":"running","steps":{"reserve":{"asked":1}}}"#);
    let state: State<PayingShop> = serde_json::from_str(&written).unwrap();
    Scenario { plan: PayingShop, state }
        .when(done(Reserve, 0))
        .then([execute(Send, 1)])
        .when(done(Pay, 0))
        .ignored(IgnoredBecause::Unexpected)
        .when(Expired(Pay))
        .ignored(IgnoredBecause::Unexpected)
        .when(done(Send, 0))
        .then([Notify(Completed)])
        .when(Cancel)
        .then([Notify(Compensating), compensate(Send, 1)])
        .when(undone(Send))
        .then([compensate(Reserve, 1)])
        .when(undone(Reserve))
        .then([Notify(Compensated)]);

    let new = given(PayingShop, []).when(Start).then([Notify(Started), execute(Reserve, 1)]);
    assert_eq!(new.state.plan_version(), 2);
    new.when(done(Reserve, 0)).then([execute(Pay, 1)]).when(done(Pay, 0)).then([execute(Send, 1)]);
}

#[test]
fn a_step_is_unknown_to_a_version_without_it() {
    let old = State::<PayingShop>::of_version(1);
    assert_eq!(old.command(&PayingShop, &execute(Pay, 1)), None);
    assert!(State::<PayingShop>::of_version(2).command(&PayingShop, &execute(Pay, 1)).is_some());
}

#[test]
fn a_build_that_no_longer_knows_the_version_leaves_the_saga_alone() {
    let state: State<Shop> = serde_json::from_str(&serde_json::to_string(&given(PayingShop, [Start]).state).unwrap()).unwrap();
    Scenario { plan: Shop, state }.when(done(Reserve, 0)).ignored(IgnoredBecause::UnknownPlan);
}

toy!(Twice of Step { 1 => &[&[step(Reserve)]], 2 => &[&[step(Reserve), step(Pay)], &[step(Reserve)]] });
toy!(TwiceInAStage of Step { 1 => &[&[step(Pay), step(Pay)]] });
toy!(Backwards of Step { 2 => &[&[step(Reserve)]], 1 => &[&[step(Pay)]] });
toy!(SameNumber of Step { 1 => &[&[step(Reserve)]], 1 => &[&[step(Pay)]] });
toy!(Zero of Step { 0 => &[&[step(Reserve)]] });

#[test]
fn a_step_stands_once_in_a_version() {
    assert_eq!(verify::<Twice>(), Err(ShapeError::Twice { version: 2, step: "reserve".to_owned() }));
    assert_eq!(verify::<TwiceInAStage>(), Err(ShapeError::Twice { version: 1, step: "pay".to_owned() }));
    assert_eq!(verify::<Twice>().unwrap_err().to_string(), "plan version 2: the step reserve stands twice");
}

#[test]
fn versions_are_numbered_upwards_from_1() {
    assert_eq!(verify::<Backwards>(), Err(ShapeError::Order(1)));
    assert_eq!(verify::<SameNumber>(), Err(ShapeError::Order(1)));
    assert_eq!(verify::<Zero>(), Err(ShapeError::Order(0)));
    assert_eq!(verify::<Backwards>().unwrap_err().to_string(), "plan version 1 does not come after the one before it");
    assert_eq!(verify::<PayingShop>(), Ok(()));
}

const fn closing<P: Plan<Command = crate::toy::Command<Step>>>(step: P::Step) -> StepSpec<P> {
    retriable(step, RETRY, |_, _| act(Reserve, 0))
}

toy!(Shapes of Step {
    1 => &[&[step(Reserve)], &[step(Pay)]],
    2 => &[&[step(Pay)], &[step(Reserve)]],
    3 => &[&[step(Reserve), step(Pay)]],
    4 => &[&[step(Reserve)], &[step(Send)]],
    5 => &[&[step(Reserve)], &[closing(Pay)]],
    6 => &[&[check(Reserve, RETRY, |_, _| act(Reserve, 0))], &[step(Pay)]],
    7 => &[&[step(Reserve)]],
});

#[test]
fn a_fingerprint_tells_every_two_shapes_apart() {
    let all: std::collections::BTreeSet<u64> = Shapes::VERSIONS.iter().map(|(_, stages)| stages.fingerprint()).collect();
    assert_eq!(all.len(), Shapes::VERSIONS.len());
    assert_eq!(Shop::stages(1).unwrap().fingerprint(), PayingShop::stages(1).unwrap().fingerprint(), "one shape, two builds");
}
