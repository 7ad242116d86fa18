//! Every shape that must not build, each beside the nearest one that must: so that it is refused for the reason named and no other.
//!
//! These are documentation tests, because only they can say that something does not compile.

/// What both sides of a pair share: one step of each kind.
macro_rules! prelude {
    () => {
        "\
use saga::{Outcome, Plan, RetryPolicy, Stages, State, StepSpec, check, compensatable, pivot, retriable};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use Step::*;
#[derive(Clone, Debug, PartialEq)]
struct Order;
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
enum Step { ValidateUser, ReserveStock }
struct Command;
impl Plan for Order {
    type Step = Step;
    type Command = Command;
    type Reply = ();
    type Output = ();
    type Refusal = ();
    const VERSIONS: &'static [(u32, Stages<Self>)] = &[];
    fn outcome(&self, _: &()) -> Option<(Step, Outcome<Self>)> { None }
}
const SECOND: Duration = Duration::from_secs(1);
const RETRY: RetryPolicy = RetryPolicy { first_retry: SECOND, max_retry: SECOND, deadline: SECOND };
const ACT: fn(&Order, &State<Order>) -> Command = |_, _| unreachable!();
const CHECK: StepSpec<Order> = check(ValidateUser, RETRY, ACT);
const UNDOABLE: StepSpec<Order> = compensatable(ReserveStock, RETRY, ACT, ACT);
const PIVOT: StepSpec<Order> = pivot(ReserveStock, RETRY, ACT);
const RETRIABLE: StepSpec<Order> = retriable(ReserveStock, RETRY, ACT);
const fn patient(retry: RetryPolicy) -> StepSpec<Order> { check(ValidateUser, retry, ACT) }
"
    };
}

macro_rules! shapes {
    ($($name:ident: $good:literal, not $bad:literal ($code:literal);)*) => {$(
        #[doc = concat!("```\n", prelude!(), "const _: Stages<Order> = Stages::new(", $good, ");\n```\n")]
        #[doc = concat!("```compile_fail,", $code, "\n", prelude!(), "const _: Stages<Order> = Stages::new(", $bad, ");\n```")]
        struct $name;
    )*};
}

shapes! {
    AtLeastOneStage: "&[&[CHECK]]", not "&[]" ("E0080");
    NoEmptyStage: "&[&[CHECK]]", not "&[&[CHECK], &[]]" ("E0080");
    ThePivotStandsAlone: "&[&[UNDOABLE], &[PIVOT]]", not "&[&[UNDOABLE, PIVOT]]" ("E0080");
    ThePivotStandsAloneFirstToo: "&[&[PIVOT], &[RETRIABLE]]", not "&[&[PIVOT, RETRIABLE]]" ("E0080");
    OnePivot: "&[&[PIVOT], &[RETRIABLE]]", not "&[&[PIVOT], &[PIVOT]]" ("E0080");
    NoCheckAfterThePivot: "&[&[CHECK], &[PIVOT]]", not "&[&[PIVOT], &[CHECK]]" ("E0080");
    NothingToUndoAfterThePivot: "&[&[UNDOABLE], &[PIVOT], &[RETRIABLE]]", not "&[&[PIVOT], &[RETRIABLE], &[UNDOABLE]]" ("E0080");
    NothingFallibleAfterARetriable: "&[&[CHECK], &[RETRIABLE]]", not "&[&[RETRIABLE], &[CHECK]]" ("E0080");
    NoPivotAfterARetriable: "&[&[PIVOT], &[RETRIABLE]]", not "&[&[RETRIABLE], &[PIVOT]]" ("E0080");
    NothingFallibleBesideARetriable: "&[&[CHECK, UNDOABLE], &[RETRIABLE]]", not "&[&[UNDOABLE, RETRIABLE]]" ("E0080");
    ADeadline: "&[&[patient(RETRY)]]", not "&[&[patient(RetryPolicy { deadline: Duration::ZERO, ..RETRY })]]" ("E0080");
    ARetryDelay: "&[&[patient(RETRY)]]", not "&[&[patient(RetryPolicy { first_retry: Duration::ZERO, ..RETRY })]]" ("E0080");
    ALongestRetryDelay: "&[&[patient(RETRY)]]", not "&[&[patient(RetryPolicy { max_retry: Duration::ZERO, ..RETRY })]]" ("E0080");
    EveryStageIsLookedAt: "&[&[CHECK], &[CHECK, UNDOABLE]]", not "&[&[CHECK], &[CHECK, PIVOT]]" ("E0080");
    ACompensation:
        "&[&[compensatable(ReserveStock, RETRY, ACT, ACT)]]",
        not "&[&[compensatable(ReserveStock, RETRY, ACT)]]" ("E0061");
}
