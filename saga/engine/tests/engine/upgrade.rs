//! Which sagas in flight a build continues, and what it says of the others.

use saga::Input::{Cancel, Start};
use saga::upgrade::{Continuity, check, versions};
use saga::{Plan, State, StepSpec, compensatable, retriable};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::toy::{RETRY, act, done, refused, revoke, toy};
use crate::versions::{PayingShop, Shop, Step, step};
use saga::testkit::given;

/// The build before wrote down this.
fn written<P: Plan>(state: &State<P>) -> Value {
    serde_json::to_value(state).unwrap()
}

fn fingerprint<P: Plan>(version: u32) -> Option<u64> {
    versions::<P>().into_iter().find(|(known, _)| *known == version).map(|(_, fingerprint)| fingerprint)
}

// What somebody did to version 1 instead of adding a version 2: a step before, one beside, one after, one replaced.
toy!(Before of Step { 1 => &[&[step(Step::Pay)], &[step(Step::Reserve)], &[step(Step::Send)]] });
toy!(Beside of Step { 1 => &[&[step(Step::Reserve), step(Step::Pay)], &[step(Step::Send)]] });
toy!(After of Step { 1 => &[&[step(Step::Reserve)], &[step(Step::Send)], &[step(Step::Pay)]] });
toy!(Instead of Step { 1 => &[&[step(Step::Pay)], &[step(Step::Send)]] });
toy!(Closing of Step { 1 => &[&[closing(Step::Reserve)], &[closing(Step::Send)]] });

const fn closing<P: Plan<Command = crate::toy::Command<Step>>>(step: P::Step) -> StepSpec<P> {
    retriable(step, RETRY, |_, _| act(Step::Reserve, 0))
}

#[test]
fn a_saga_continues_while_its_version_is_what_it_was() {
    let places = [given(Shop, [Start]), given(Shop, [Start, done(Step::Reserve, 0)]), given(Shop, [Start, Cancel])];
    for saga in places {
        let state = written(&saga.state);
        for recorded in [None, fingerprint::<Shop>(1)] {
            assert_eq!(check::<Shop>(&state, recorded), Continuity::Continues);
            assert_eq!(check::<PayingShop>(&state, recorded), Continuity::Continues, "a step inserted as version 2");
        }
    }
    assert!(check::<Shop>(&json!({"plan": 1, "phase": "new", "steps": {}}), None).is_safe(), "one not begun");
}

#[test]
fn a_step_inserted_into_the_version_itself_is_named() {
    let state = written(&given(Shop, [Start]).state);
    let inserted = Continuity::StepInserted { version: 1, step: "pay".to_owned() };
    for recorded in [None, fingerprint::<Shop>(1)] {
        assert_eq!(check::<Before>(&state, recorded), inserted);
        assert_eq!(check::<Beside>(&state, recorded), inserted);
    }
    let words = "plan version 1 has a step `pay` before or beside those it took, which it never took";
    assert_eq!(inserted.to_string(), words);
}

#[test]
fn a_change_its_state_cannot_show_is_told_by_the_fingerprint() {
    let state = written(&given(Shop, [Start]).state);
    assert!(check::<After>(&state, None).is_safe(), "nobody knows what its version was");
    let recorded = fingerprint::<Shop>(1);
    let changed = check::<After>(&state, recorded);
    let now = fingerprint::<After>(1).unwrap();
    assert_eq!(changed, Continuity::PlanChanged { version: 1, recorded: recorded.unwrap(), now });
    assert!(changed.to_string().starts_with("plan version 1 was changed after it began: fingerprint "), "{changed}");
}

#[test]
fn a_step_that_is_gone_is_named_with_how_far_it_was() {
    for (saga, progress) in [
        (given(Shop, [Start]), "asked and unanswered"),
        (given(Shop, [Start, done(Step::Reserve, 0)]), "done"),
        (given(Shop, [Start, Cancel]), "being undone"),
        (given(Shop, [Start, refused(Step::Reserve)]), "refused"),
    ] {
        let found = check::<Instead>(&written(&saga.state), fingerprint::<Shop>(1));
        let (step, progress) = ("reserve".to_owned(), progress.to_owned());
        assert_eq!(found, Continuity::StepGone { version: 1, step, progress });
    }
}

#[test]
fn a_compensation_that_is_gone_is_named() {
    let state = written(&given(Shop, [Start, Cancel]).state);
    let found = check::<Closing>(&state, None);
    assert_eq!(found, Continuity::NoCompensation { version: 1, step: "reserve".to_owned() });
    assert!(check::<Closing>(&written(&given(Shop, [Start]).state), None).is_safe());
}

#[test]
fn a_version_of_a_later_build_is_unknown() {
    let state = written(&given(PayingShop, [Start]).state);
    let found = check::<Shop>(&state, fingerprint::<PayingShop>(2));
    assert_eq!(found, Continuity::UnknownVersion { version: 2, known: vec![1] });
    assert_eq!(found.to_string(), "it began with plan version 2, which this build does not know (it knows [1])");
}

/// The same shop in a build that has forgotten two of the names.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Forgetful {
    Send,
}

toy!(ForgetfulShop of Forgetful {
    1 => &[&[compensatable(Forgetful::Send, RETRY, |_, _| act(Forgetful::Send, 0), |_, _| revoke(Forgetful::Send, 0))]],
});

#[test]
fn a_step_without_a_name_in_this_build_is_named() {
    let unknown = Continuity::UnknownStep { step: "reserve".to_owned() };
    let state = written(&given(Shop, [Start]).state);
    assert_eq!(check::<ForgetfulShop>(&state, None), unknown);
    // Only the cause still names it.
    let cause = json!({"plan": 1, "phase": {"compensating": {"timed_out": {"step": "reserve"}}}, "steps": {}});
    assert_eq!(check::<ForgetfulShop>(&cause, None), unknown);
    assert_eq!(unknown.to_string(), "its step `reserve` is unknown to this build");
}

#[test]
fn what_cannot_be_read_is_said_not_guessed() {
    for state in [json!(null), json!({}), json!({"plan": -1}), json!({"plan": 1, "phase": "asleep", "steps": {}})] {
        assert!(matches!(check::<Shop>(&state, None), Continuity::Unreadable(_)), "{state}");
    }
    let output = json!({"plan": 1, "phase": "running", "steps": {"reserve": {"done": {"score": 7}}}});
    let found = check::<Shop>(&output, None);
    assert!(found.to_string().contains("invalid type: map"), "{found}");
}
