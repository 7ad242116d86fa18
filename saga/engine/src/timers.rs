//! Timers: when each outstanding command is sent again, and what the clock says of it then.
//!
//! Every outstanding step has a timer of its own, with the retry policy of its line in the plan. Pure: `now` is a reading of a clock that
//! nobody can set, as all times here are.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use crate::{Direction, Input, Kind, Plan, RetryPolicy, State};

/// The timer of one outstanding command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timer {
    /// Since when its reply is waited for, over all attempts.
    pub since: DateTime<Utc>,
    /// When to send it again or, if its deadline comes first, to give it up.
    pub due: DateTime<Utc>,
}

/// The timers of a saga: one for each outstanding command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(bound = "", transparent)]
pub struct Timers<P: Plan>(BTreeMap<P::Step, Timer>);

/// What may be set otherwise than a plan's lines say: for one step, or for all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RetryOverride {
    /// The wait before the first repetition.
    pub first_retry: Option<Duration>,
    /// The longest wait between repetitions.
    pub max_retry: Option<Duration>,
    /// How long the step may go without a reply.
    pub deadline: Option<Duration>,
}

impl RetryOverride {
    fn over(self, policy: RetryPolicy) -> RetryPolicy {
        RetryPolicy {
            first_retry: self.first_retry.unwrap_or(policy.first_retry),
            max_retry: self.max_retry.unwrap_or(policy.max_retry),
            deadline: self.deadline.unwrap_or(policy.deadline),
        }
    }
}

/// How long things may take: the retry policies of a plan's lines with what is set otherwise, and the deadline of the saga as a whole.
#[derive(Clone, Debug, PartialEq)]
pub struct Timing<P: Plan> {
    /// For every step.
    pub all: RetryOverride,
    /// For one step; goes before what is set for all.
    pub steps: BTreeMap<P::Step, RetryOverride>,
    /// How long a saga may take before it is given up and undone.
    pub deadline: Duration,
}

impl<P: Plan> Timing<P> {
    /// As the plan's lines say.
    pub fn of_plan(deadline: Duration) -> Self {
        Self { all: RetryOverride::default(), steps: BTreeMap::new(), deadline }
    }

    /// The retry policy of a step in a version of the plan; `None` for a step it does not have.
    pub fn policy(&self, version: u32, step: P::Step) -> Option<RetryPolicy> {
        let line = P::stages(version)?.spec(step)?.retry;
        let own = self.steps.get(&step).copied().unwrap_or_default();
        Some(own.over(self.all.over(line)))
    }
}

impl<P: Plan> Timers<P> {
    /// No timer: nothing is outstanding.
    pub fn none() -> Self {
        Self(BTreeMap::new())
    }

    /// One and the same timer for each outstanding command.
    pub fn same(state: &State<P>, timer: Timer) -> Self {
        let mut timers = BTreeMap::new();
        for (step, ..) in state.outstanding() {
            timers.insert(step, timer);
        }
        Self(timers)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing is outstanding.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The timer of a step.
    pub fn get(&self, step: P::Step) -> Option<Timer> {
        self.0.get(&step).copied()
    }

    /// Since when the longest of them runs.
    pub fn waiting_since(&self) -> Option<DateTime<Utc>> {
        self.0.values().map(|timer| timer.since).min()
    }

    /// When the first of them is up.
    pub fn due_at(&self) -> Option<DateTime<Utc>> {
        self.0.values().map(|timer| timer.due).min()
    }

    /// Sets the timers of a saga that has moved on from `before`. What was sent, for the first time or again, is due after its wait; what was
    /// not keeps its timer. A step that can be given up is due at its deadline, and at the saga's, at the latest; what cannot be given up, a
    /// compensation, a pivot or a step after it, has none.
    ///
    /// `began`: when the saga began. `seed`: sagas that began together must not all come back together.
    pub fn set(
        &mut self,
        before: &State<P>,
        state: &State<P>,
        now: DateTime<Utc>,
        began: DateTime<Utc>,
        seed: u64,
        timing: &Timing<P>,
    ) {
        let timer = |(step, direction, attempt)| {
            let known = self.0.get(&step).copied();
            let was = before.outstanding().find(|(was, ..)| *was == step);
            if let Some(known) = known.filter(|_| was == Some((step, direction, attempt))) {
                return Some((step, known));
            }
            let same = was.is_some_and(|(_, way, _)| way == direction);
            let policy = timing.policy(state.plan_version(), step)?;
            let since = known.filter(|_| same).map_or(now, |known| known.since);
            let again = now + delta(policy.delay(attempt, seed));
            let due = match can_be_given_up(state, step, direction) {
                true => again.min(since + delta(policy.deadline)).min(began + delta(timing.deadline)),
                false => again,
            };
            Some((step, Timer { since, due }))
        };
        // One after the other: collecting would gather the few of them in a vector first.
        let mut timers = BTreeMap::new();
        for (step, timer) in state.outstanding().filter_map(timer) {
            timers.insert(step, timer);
        }
        self.0 = timers;
    }

    /// What the clock says of each outstanding command; nothing of those that are not due.
    pub fn inputs(&self, state: &State<P>, now: DateTime<Utc>, began: DateTime<Utc>, timing: &Timing<P>) -> Vec<Input<P>> {
        if self.due_at().is_none_or(|due| due > now) {
            return Vec::new();
        }
        let mut can_end = state.outstanding().map(|(step, direction, _)| can_be_given_up(state, step, direction));
        if began + delta(timing.deadline) <= now && can_end.any(|can| can) {
            return vec![Input::Overdue];
        }
        let input = |(step, direction, _)| {
            let timer = self.get(step).filter(|timer| timer.due <= now)?;
            let deadline = timing.policy(state.plan_version(), step)?.deadline;
            let expired = can_be_given_up(state, step, direction) && timer.since + delta(deadline) <= now;
            Some(if expired { Input::Expired(step) } else { Input::Due(step) })
        };
        state.outstanding().filter_map(input).collect()
    }
}

/// Whether an outstanding command is given up when its time is up. Nothing is once the pivot may be done, or a step that cannot refuse.
fn can_be_given_up<P: Plan>(state: &State<P>, step: P::Step, direction: Direction) -> bool {
    let kind = |step| state.stages().and_then(|stages| stages.spec(step)).map(|spec| &spec.kind);
    let no_way_back = || state.steps().any(|(step, _)| matches!(kind(step), Some(Kind::Pivot | Kind::Retriable)));
    direction == Direction::Execute && matches!(kind(step), Some(Kind::Check | Kind::Compensatable { .. })) && !no_way_back()
}

/// A setting of more than a hundred years is as good as none.
fn delta(duration: Duration) -> TimeDelta {
    TimeDelta::from_std(duration).unwrap_or(TimeDelta::MAX).min(TimeDelta::days(36_500))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::line::{Line, SECOND, Step, done};
    use crate::{Action, Recording, apply};

    const RETRY: i64 = 5;
    const DEADLINE: i64 = 300;
    const SAGA: i64 = 900;

    /// A saga of three steps: a booking, a pivot, and one that cannot refuse.
    struct Saga {
        state: State<Line>,
        timers: Timers<Line>,
        timing: Timing<Line>,
    }

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_700_000_000 + seconds, 0).unwrap()
    }

    impl Saga {
        /// Begun at 0.
        fn new() -> Self {
            let seconds = |seconds: i64| Some(SECOND * seconds as u32);
            let all = RetryOverride { first_retry: seconds(RETRY), max_retry: seconds(60), deadline: seconds(DEADLINE) };
            let timing = Timing { all, steps: BTreeMap::new(), deadline: SECOND * SAGA as u32 };
            Self { state: State::new(), timers: Timers::none(), timing }.take(Input::Start, at(0))
        }

        fn take(mut self, input: Input<Line>, now: DateTime<Utc>) -> Self {
            let before = self.state.clone();
            apply(&Line, &mut self.state, 0, input, Recording::at(now));
            self.timers.set(&before, &self.state, now, at(0), 1, &self.timing);
            self
        }

        fn inputs(&self, now: DateTime<Utc>) -> Vec<Input<Line>> {
            self.timers.inputs(&self.state, now, at(0), &self.timing)
        }
    }

    #[test]
    fn a_command_is_sent_again_when_its_wait_is_over_and_not_before() {
        let saga = Saga::new();
        let first = saga.timers.due_at().unwrap();
        assert!((at(RETRY - 1)..=at(RETRY + 1)).contains(&first), "{first}");
        assert_eq!(saga.inputs(first - TimeDelta::microseconds(1)), []);
        assert_eq!(saga.inputs(first), [Input::Due(Step::First)]);
        let saga = saga.take(Input::Due(Step::First), first);
        assert_eq!(saga.timers.waiting_since(), Some(at(0)), "it waits for the same reply still");
        let second = saga.timers.due_at().unwrap() - first;
        assert!(second >= TimeDelta::seconds(2 * RETRY - 2) && second <= TimeDelta::seconds(2 * RETRY + 2), "{second}");
    }

    #[test]
    fn a_step_is_given_up_at_its_deadline_and_the_saga_at_its_own() {
        let before = at(DEADLINE) - TimeDelta::seconds(1);
        let mut saga = Saga::new().take(Input::Due(Step::First), before);
        assert_eq!(saga.timers.due_at(), Some(at(DEADLINE)), "no repetition is waited for past the deadline");
        assert_eq!(saga.inputs(before), []);
        assert_eq!(saga.inputs(at(DEADLINE)), [Input::Expired(Step::First)]);
        saga.timing.steps.insert(Step::First, RetryOverride { deadline: Some(SECOND * 100_000), ..RetryOverride::default() });
        let before = at(SAGA) - TimeDelta::seconds(1);
        let saga = saga.take(Input::Due(Step::First), before);
        assert_eq!(saga.timers.due_at(), Some(at(SAGA)));
        assert_eq!(saga.inputs(at(SAGA)), [Input::Overdue]);
    }

    #[test]
    fn what_cannot_be_given_up_is_asked_for_ever_and_with_growing_waits() {
        let paying = Saga::new().take(done(Step::First), at(1));
        let closing = Saga::new().take(done(Step::First), at(1)).take(done(Step::Second), at(2));
        let undoing = Saga::new().take(Input::Expired(Step::First), at(DEADLINE));
        for (saga, step) in [(paying, Step::Second), (closing, Step::Third), (undoing, Step::First)] {
            let late = at(100 * SAGA);
            assert_eq!(saga.inputs(late), [Input::Due(step)]);
            let saga = saga.take(Input::Due(step), late);
            assert!(saga.timers.due_at().unwrap() > late + TimeDelta::seconds(RETRY), "{:?}", saga.timers);
        }
    }

    #[test]
    fn steps_side_by_side_have_timers_of_their_own() {
        use crate::testkit::line::Pair;
        let mut timing = Timing::<Pair>::of_plan(SECOND * 1_000);
        timing.all = RetryOverride { first_retry: Some(SECOND * 5), max_retry: Some(SECOND * 60), deadline: Some(SECOND * 300) };
        timing.steps.insert(Step::Second, RetryOverride { first_retry: Some(SECOND * 50), ..RetryOverride::default() });
        let (mut state, mut timers) = (State::<Pair>::new(), Timers::none());
        let take = |state: &mut State<Pair>, timers: &mut Timers<Pair>, input, now| {
            let before = state.clone();
            apply(&Pair, state, 0, input, Recording::at(now));
            timers.set(&before, state, now, at(0), 1, &timing);
            timers.inputs(state, now, at(0), &timing)
        };
        take(&mut state, &mut timers, Input::Start, at(0));
        let second = timers.get(Step::Second).unwrap();
        for seconds in [7, 20] {
            let before = state.clone();
            timers.set(&before, &state, at(seconds), at(0), 1, &timing);
            assert_eq!(timers.inputs(&state, at(seconds), at(0), &timing), [Input::Due(Step::First)]);
            take(&mut state, &mut timers, Input::Due(Step::First), at(seconds));
            assert_eq!(timers.get(Step::Second), Some(second), "the other's repetition is none of its own");
        }
        let retry = Input::Operator { action: Action::Retry, by: "ann".to_owned(), reason: "now".to_owned() };
        take(&mut state, &mut timers, retry, at(30));
        assert!(timers.get(Step::Second).unwrap().due > second.due, "both were sent again");
    }

    #[test]
    fn no_setting_is_too_long() {
        let mut saga = Saga::new();
        saga.timing = Timing {
            all: RetryOverride { deadline: Some(Duration::MAX), ..saga.timing.all },
            steps: BTreeMap::new(),
            deadline: Duration::MAX,
        };
        assert_eq!(saga.take(Input::Due(Step::First), at(0)).inputs(at(0)), []);
    }
}
