//! Every shape that must not build, each beside the nearest one that must: so that it is refused for the reason named and no other.
//!
//! These are documentation tests, because only they can say that something does not compile.

/// What both sides of a pair share: one step of each kind.
macro_rules! prelude {
    () => {
        "\
use saga::order::{Command, Order, Step::*};
use saga::{Patience, Stages, State, StepSpec, check, compensatable, pivot, retriable};
use std::time::Duration;
const SECOND: Duration = Duration::from_secs(1);
const PATIENCE: Patience = Patience { first_retry: SECOND, max_retry: SECOND, deadline: SECOND };
const ACT: fn(&Order, &State<Order>) -> Command = |_, _| unreachable!();
const CHECK: StepSpec<Order> = check(ValidateUser, PATIENCE, ACT);
const UNDOABLE: StepSpec<Order> = compensatable(ReserveStock, PATIENCE, ACT, ACT);
const PIVOT: StepSpec<Order> = pivot(ReserveStock, PATIENCE, ACT);
const RETRIABLE: StepSpec<Order> = retriable(ReserveStock, PATIENCE, ACT);
const fn patient(patience: Patience) -> StepSpec<Order> { check(ValidateUser, patience, ACT) }
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
    ADeadline: "&[&[patient(PATIENCE)]]", not "&[&[patient(Patience { deadline: Duration::ZERO, ..PATIENCE })]]" ("E0080");
    ARetryDelay: "&[&[patient(PATIENCE)]]", not "&[&[patient(Patience { first_retry: Duration::ZERO, ..PATIENCE })]]" ("E0080");
    ALongestRetryDelay: "&[&[patient(PATIENCE)]]", not "&[&[patient(Patience { max_retry: Duration::ZERO, ..PATIENCE })]]" ("E0080");
    EveryStageIsLookedAt: "&[&[CHECK], &[CHECK, UNDOABLE]]", not "&[&[CHECK], &[CHECK, PIVOT]]" ("E0080");
    ACompensation:
        "&[&[compensatable(ReserveStock, PATIENCE, ACT, ACT)]]",
        not "&[&[compensatable(ReserveStock, PATIENCE, ACT)]]" ("E0061");
}
