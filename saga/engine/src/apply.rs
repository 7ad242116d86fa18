//! `apply`: decide, then record. The one step by which a saga goes on, wherever it is run.

use chrono::{DateTime, Utc};

use crate::{Effect, Entry, Input, Plan, State, Verdict, attempts, decide, is_recorded, repetition};

/// How what moves a saga is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recording {
    /// The time of day, for the entry.
    pub time: DateTime<Utc>,
    /// Whether repetitions have entries at all. Not where a history has reached its limit: they are sent all the same.
    pub repetitions: bool,
}

impl Recording {
    /// Everything that is to be recorded, at a time.
    pub fn at(time: DateTime<Utc>) -> Self {
        Self { time, repetitions: true }
    }
}

/// What came of an input.
#[derive(Clone, Debug, PartialEq)]
pub struct Applied<P: Plan> {
    /// What became of it.
    pub verdict: Verdict,
    /// What to send, in this order.
    pub effects: Vec<Effect<P>>,
    /// What to append to the history; `None` where nothing is: the input changed nothing, or is a repetition without an entry of its own.
    pub entry: Option<Entry<P>>,
}

/// Decides an input, and records it as the entry after `sequence`. What changes nothing leaves the state and the history as they are: a
/// history grows with what happens to a saga, not with what is asked of it.
pub fn apply<P: Plan>(plan: &P, state: &mut State<P>, sequence: u32, input: Input<P>, recording: Recording) -> Applied<P> {
    let decision = decide(plan, state, &input);
    if decision.verdict != Verdict::Moved {
        return Applied { verdict: decision.verdict, effects: Vec::new(), entry: None };
    }
    let repeated = repetition(&input, &decision);
    let recorded = repeated.is_none_or(|attempt| recording.repetitions && is_recorded(attempt));
    let attempts = recorded.then(|| attempts(state));
    *state = decision.state;
    let entry = attempts.map(|attempts| Entry {
        sequence: sequence + 1,
        time: recording.time,
        input,
        verdict: decision.verdict,
        sent: decision.effects.clone(),
        attempts,
        state: state.clone(),
    });
    Applied { verdict: decision.verdict, effects: decision.effects, entry }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::line::{Line, Step, done};
    use crate::{EACH_RECORDED, IgnoredBecause, replay};

    #[test]
    fn what_moves_a_saga_has_an_entry_and_what_does_not_has_none() {
        let (plan, mut state, mut history) = (Line, State::new(), Vec::new());
        let inputs = [Input::Start, Input::Start, done(Step::First), done(Step::First), done(Step::Second)];
        for (second, input) in (0..).zip(inputs) {
            let time = DateTime::from_timestamp(second, 0).unwrap();
            let applied = apply(&plan, &mut state, history.len() as u32, input, Recording::at(time));
            assert_eq!(applied.entry.is_some(), applied.verdict == Verdict::Moved);
            history.extend(applied.entry);
        }
        assert_eq!(history.iter().map(|entry| entry.time.timestamp()).collect::<Vec<_>>(), [0, 2, 4]);
        assert_eq!(replay(&plan, &history, None).divergence, None);
        let again = apply(&plan, &mut state, 3, Input::Start, Recording::at(DateTime::UNIX_EPOCH));
        assert_eq!(again.verdict, Verdict::Ignored(IgnoredBecause::AlreadyStarted));
    }

    #[test]
    fn repetitions_beyond_the_first_are_recorded_when_their_number_has_doubled_or_not_at_all() {
        for (repetitions, entries) in [(true, EACH_RECORDED - 1 + 4), (false, 0)] {
            let (plan, mut state, mut history) = (Line, State::new(), Vec::new());
            history.extend(apply(&plan, &mut state, 0, Input::Start, Recording::at(DateTime::UNIX_EPOCH)).entry);
            for _ in 1..128 {
                let recording = Recording { time: DateTime::UNIX_EPOCH, repetitions };
                let applied = apply(&plan, &mut state, history.len() as u32, Input::Due(Step::First), recording);
                assert_eq!(applied.effects.len(), 1, "it is sent all the same");
                history.extend(applied.entry);
            }
            assert_eq!(history.len() as u32, 1 + entries);
            let last =
                apply(&plan, &mut state, history.len() as u32, done(Step::First), Recording::at(DateTime::UNIX_EPOCH)).entry;
            assert_eq!(last.as_ref().unwrap().attempts[&Step::First], 128);
            history.extend(last);
            assert_eq!(replay(&plan, &history, None).divergence, None);
        }
    }
}
