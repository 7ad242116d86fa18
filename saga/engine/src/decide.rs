//! `decide`: the only place where a saga advances.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{
    Action, Cause, Effect, IgnoredBecause, Input, Kind, Milestone, Outcome, Phase, Plan, Progress, Stages, State, Verdict,
};

/// The next state, and what is to be sent.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(bound = "")]
pub struct Decision<P: Plan> {
    /// What became of the input.
    pub verdict: Verdict,
    /// Where the saga stands now.
    pub state: State<P>,
    /// What to send, in this order.
    pub effects: Vec<Effect<P>>,
}

/// The only place where a saga advances. Pure: the same arguments give the same decision, for ever.
///
/// The guards that make repeated, late, reordered and lost effects harmless all stand here; the tests of the order saga have them in one table.
pub fn decide<P: Plan>(plan: &P, state: &State<P>, input: &Input<P>) -> Decision<P> {
    let Some(stages) = state.stages() else {
        return Decision { verdict: Verdict::Ignored(IgnoredBecause::UnknownPlan), state: state.clone(), effects: Vec::new() };
    };
    let mut draft = Draft { stages, state: state.clone(), effects: Vec::new() };
    let verdict = match input {
        Input::Start => draft.start(),
        _ if state.phase == Phase::New => Err(IgnoredBecause::NotStarted),
        Input::Reply(reply) => match plan.outcome(reply) {
            Some((step, outcome)) => draft.reply(step, outcome),
            None => Err(IgnoredBecause::Unexpected),
        },
        Input::Due(step) => draft.ask_again(*step),
        Input::Expired(step) => draft.expire(*step),
        Input::Overdue => draft.call_off(Cause::TimedOut { step: None }),
        Input::Cancel | Input::Operator { action: Action::Cancel, .. } => draft.call_off(Cause::Cancelled),
        Input::Operator { action: Action::Retry, .. } => draft.retry(),
        Input::Operator { action: Action::Compensate, by, reason } => {
            draft.call_off(Cause::Withdrawn { by: by.clone(), reason: reason.clone() })
        }
        Input::Operator { action: Action::Skip(step), .. } => draft.skip(*step),
    };
    match verdict {
        Ok(()) => Decision { verdict: Verdict::Moved, state: draft.state, effects: draft.effects },
        Err(why) => Decision { verdict: Verdict::Ignored(why), state: state.clone(), effects: Vec::new() },
    }
}

/// The state after repetitions that no entry tells of: each of these commands sent so many times by now. `None`: one of them is not
/// unanswered, or has been sent more often already, so that no repetitions lead there.
pub(crate) fn repeat<P: Plan>(state: &State<P>, attempts: &BTreeMap<P::Step, u32>) -> Option<State<P>> {
    let mut state = state.clone();
    for (step, now) in attempts {
        match state.steps.get_mut(step)? {
            Progress::Asked(attempt) | Progress::Undoing(attempt) if *attempt <= *now => *attempt = *now,
            _ => return None,
        }
    }
    Some(state)
}

/// One decision in the making. A method that returns `Err` has decided that nothing changes.
struct Draft<P: Plan> {
    stages: &'static Stages<P>,
    state: State<P>,
    effects: Vec<Effect<P>>,
}

impl<P: Plan> Draft<P> {
    fn start(&mut self) -> Result<(), IgnoredBecause> {
        if self.state.phase != Phase::New {
            return Err(IgnoredBecause::AlreadyStarted);
        }
        self.state.phase = Phase::Running;
        self.notify(Milestone::Started);
        self.advance();
        Ok(())
    }

    fn reply(&mut self, step: P::Step, outcome: Outcome<P>) -> Result<(), IgnoredBecause> {
        use Progress::*;
        let kind = self.kind(step)?;
        match (self.state.progress(step), outcome) {
            // Forward.
            (Some(Asked(_)), Outcome::Done(output)) => {
                self.state.steps.insert(step, Done(output));
                self.advance();
            }
            (Some(Asked(_)), Outcome::Refused(refusal)) if !matches!(kind, Kind::Retriable) => {
                self.state.steps.insert(step, Refused);
                self.go_back(Cause::Refused { step, refusal });
            }
            // Back.
            (Some(&Undoing(attempts)), Outcome::Undone) => {
                self.state.steps.insert(step, Undone(attempts));
                self.retreat();
            }
            // A late "done" for a step given up or refused before: whatever it holds is given back.
            (Some(&Undone(attempts)), Outcome::Done(_)) => self.compensate(step, attempts + 1),
            (Some(Refused), Outcome::Done(_)) if matches!(kind, Kind::Compensatable { .. }) => self.compensate(step, 1),
            // Undone after all: good to know, and the outcome stands, for it no longer waited for this step.
            (Some(&GivenUp(attempts)), Outcome::Undone) => {
                self.state.steps.insert(step, Undone(attempts));
            }
            // Said before.
            (Some(Done(_)), Outcome::Done(_)) | (Some(Undone(_)), Outcome::Undone) | (Some(Refused), Outcome::Refused(_)) => {
                return Err(IgnoredBecause::Repeated);
            }
            // Answered after we had let go, or while the compensation is under way.
            (Some(Undoing(_) | Undone(_) | GivenUp(_) | Dropped | Refused), _) => return Err(IgnoredBecause::Late),
            // Never asked, contradicting what stands, or a refusal by a step that may not refuse.
            (None | Some(Asked(_) | Done(_)), _) => return Err(IgnoredBecause::Unexpected),
        }
        Ok(())
    }

    fn ask_again(&mut self, step: P::Step) -> Result<(), IgnoredBecause> {
        match self.state.progress(step) {
            Some(&Progress::Asked(attempt)) => self.execute(step, attempt + 1),
            Some(&Progress::Undoing(attempt)) => self.compensate(step, attempt + 1),
            _ => return Err(IgnoredBecause::Late),
        }
        Ok(())
    }

    /// Every unanswered command at once.
    fn retry(&mut self) -> Result<(), IgnoredBecause> {
        let outstanding: Vec<P::Step> = self.state.outstanding().map(|(step, ..)| step).collect();
        if outstanding.is_empty() {
            return Err(IgnoredBecause::NothingOutstanding);
        }
        outstanding.into_iter().try_for_each(|step| self.ask_again(step))
    }

    /// Nothing but an operator's word ends a compensation that was never answered.
    fn skip(&mut self, step: P::Step) -> Result<(), IgnoredBecause> {
        match self.state.progress(step) {
            Some(&Progress::Undoing(attempts)) => {
                self.state.steps.insert(step, Progress::GivenUp(attempts));
                self.retreat();
                Ok(())
            }
            Some(Progress::GivenUp(_)) => Err(IgnoredBecause::Repeated),
            _ => Err(IgnoredBecause::NotUndoing),
        }
    }

    /// Past the deadline a step that can be given up is; everything else is asked again, for as long as it takes.
    fn expire(&mut self, step: P::Step) -> Result<(), IgnoredBecause> {
        let can_be_given_up = matches!(self.kind(step)?, Kind::Check | Kind::Compensatable { .. });
        match self.state.progress(step) {
            Some(Progress::Asked(_)) if can_be_given_up => {
                self.go_back(Cause::TimedOut { step: Some(step) });
                Ok(())
            }
            _ => self.ask_again(step),
        }
    }

    /// Goes back from wherever the saga stands, if there is a way.
    fn call_off(&mut self, cause: Cause<P>) -> Result<(), IgnoredBecause> {
        match self.state.phase {
            Phase::Compensating(_) => return Err(IgnoredBecause::AlreadyCompensating),
            Phase::Compensated(_) => return Err(IgnoredBecause::Final),
            // Only its owner takes back what is complete; neither the clock nor an operator does.
            Phase::Completed if cause != Cause::Cancelled => return Err(IgnoredBecause::Final),
            Phase::New | Phase::Running | Phase::Completed => {}
        }
        // A pivot that was asked may be done. (One that refused has turned the saga round already.)
        if self.state.steps.keys().any(|step| matches!(self.kind(*step), Ok(Kind::Pivot | Kind::Retriable))) {
            return Err(IgnoredBecause::NoWayBack);
        }
        self.go_back(cause);
        Ok(())
    }

    /// Forward: asks the first stage that is not done, once everything before it is; completes the saga when all are.
    fn advance(&mut self) {
        for stage in self.stages.iter() {
            let mut done = true;
            for spec in stage {
                match self.state.progress(spec.step) {
                    None => {
                        self.execute(spec.step, 1);
                        done = false;
                    }
                    Some(Progress::Done(_)) => {}
                    Some(_) => done = false,
                }
            }
            if !done {
                return;
            }
        }
        self.state.phase = Phase::Completed;
        self.notify(Milestone::Completed);
    }

    /// Turns round. Unanswered checks are let go: they leave nothing behind.
    fn go_back(&mut self, cause: Cause<P>) {
        self.state.phase = Phase::Compensating(cause);
        let mut something_to_undo = false;
        for spec in self.stages.iter().flatten() {
            match (&spec.kind, self.state.steps.get_mut(&spec.step)) {
                (Kind::Check, Some(progress @ Progress::Asked(_))) => *progress = Progress::Dropped,
                (Kind::Compensatable { .. }, Some(Progress::Asked(_) | Progress::Done(_))) => something_to_undo = true,
                _ => {}
            }
        }
        if something_to_undo {
            self.notify(Milestone::Compensating);
        }
        self.retreat();
    }

    /// Back: undoes the last stage that left, or may have left, something behind; ends the saga when none has.
    fn retreat(&mut self) {
        let Phase::Compensating(cause) = self.state.phase.clone() else {
            return; // A late compensation of a saga that has ended: its outcome stands.
        };
        for stage in self.stages.iter().rev() {
            let mut clean = true;
            for spec in stage.iter().filter(|spec| matches!(spec.kind, Kind::Compensatable { .. })) {
                match self.state.progress(spec.step) {
                    // An unanswered step may have happened all the same.
                    Some(Progress::Asked(_) | Progress::Done(_)) => {
                        self.compensate(spec.step, 1);
                        clean = false;
                    }
                    Some(Progress::Undoing(_)) => clean = false,
                    _ => {}
                }
            }
            if !clean {
                return;
            }
        }
        self.state.phase = Phase::Compensated(cause);
        self.notify(Milestone::Compensated);
    }

    fn execute(&mut self, step: P::Step, attempt: u32) {
        self.state.steps.insert(step, Progress::Asked(attempt));
        self.effects.push(Effect::Execute { step, attempt });
    }

    fn compensate(&mut self, step: P::Step, attempt: u32) {
        self.state.steps.insert(step, Progress::Undoing(attempt));
        self.effects.push(Effect::Compensate { step, attempt });
    }

    fn notify(&mut self, milestone: Milestone) {
        self.effects.push(Effect::Notify(milestone));
    }

    fn kind(&self, step: P::Step) -> Result<&'static Kind<P>, IgnoredBecause> {
        self.stages.spec(step).map(|spec| &spec.kind).ok_or(IgnoredBecause::Unexpected)
    }
}
