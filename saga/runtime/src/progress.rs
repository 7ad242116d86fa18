//! One saga under decision: what comes to it is decided step by step, and gathered until the batch is written.

use std::collections::VecDeque;

use chassis::Outgoing;
use chrono::{DateTime, Utc};
use saga::{Action, Cause, Effect, Entry, Input, Milestone, Phase, Recording, State, Timing, Verdict, apply, decide};
use serde_json::value::RawValue;

use crate::item::{Outcome, Trigger};
use crate::messages::enqueue;
use crate::saga::{Layout as _, Record, Saga};
use crate::settings::HistoryLimit;
use crate::store::NewEntry;

/// What all decisions of a batch share.
pub(crate) struct BatchContext<'a, S: Saga> {
    /// The time of day.
    pub now: DateTime<Utc>,
    /// What timers go by.
    pub steady: DateTime<Utc>,
    pub timing: &'a Timing<S>,
    pub limit: &'a HistoryLimit,
    /// What the broker takes in one message.
    pub payload_max: usize,
    pub outgoing: Outgoing,
}

/// A saga under decision.
pub(crate) struct SagaInProgress<S: Saga> {
    pub record: Record<S>,
    /// Its history, each entry as JSON; `None`: not read, because nothing here tells its end.
    pub history: Option<Vec<Box<RawValue>>>,
    /// Where the saga stood when the batch began.
    pub before: State<S>,
    /// What is not yet written of its history.
    pub entries: Vec<NewEntry>,
    /// Of each trigger.
    pub outcomes: VecDeque<Outcome>,
    /// Whether something is to be written.
    pub moved: bool,
    /// Since when its outcome, which is told now, was waited for.
    pub ended: Option<DateTime<Utc>>,
    /// The key of the cancellation that moved it.
    pub cancelled_with: Option<String>,
}

impl<S: Saga> SagaInProgress<S> {
    pub fn new(record: Record<S>, history: Option<Vec<Box<RawValue>>>) -> Self {
        let before = record.state.clone();
        Self {
            record,
            history,
            before,
            entries: Vec::new(),
            outcomes: VecDeque::new(),
            moved: false,
            ended: None,
            cancelled_with: None,
        }
    }

    /// Decides triggers one after the other. Returns whether one was a step forward; if none was, nothing is sent.
    pub fn decide_all(&mut self, triggers: &[&Trigger<S>], context: &mut BatchContext<'_, S>) -> anyhow::Result<bool> {
        let mut forward = false;
        for trigger in triggers {
            let mut outcome = Outcome::Nothing;
            for input in inputs(&self.record, trigger, context) {
                outcome = self.decide(input, context)?;
                forward |= outcome == Outcome::Decided(Verdict::Moved);
            }
            if let Trigger::Cancel(Some(key)) = trigger
                && outcome == Outcome::Decided(Verdict::Moved)
            {
                self.cancelled_with = Some(key.clone());
            }
            self.outcomes.push_back(outcome);
        }
        Ok(forward)
    }

    /// Decides one input, records it and sends what it decides.
    pub fn decide(&mut self, input: Input<S>, context: &mut BatchContext<'_, S>) -> anyhow::Result<Outcome> {
        let Self { record, history, .. } = self;
        let full = context.limit.is_reached(record);
        // The one action that can be taken without end. The others lead a saga to its end, and must be possible whatever happened before.
        let retry = matches!(input, Input::Operator { action: Action::Retry, .. });
        if full && retry && record.state.outstanding().next().is_some() {
            return Ok(Outcome::HistoryFull);
        }
        let recording = Recording { time: context.now, repetitions: !full };
        let applied = apply(&record.request, &mut record.state, record.sequence, input, recording);
        if applied.verdict != Verdict::Moved {
            return Ok(Outcome::Decided(applied.verdict));
        }
        self.moved = true;
        record.updated_at = context.now;
        S::Layout::project(&mut record.projection, &record.state);
        if let Some(entry) = &applied.entry {
            let first = record.sequence == 0;
            record.sequence = entry.sequence;
            let entry = NewEntry::new(record.id(), entry)?;
            if !first {
                record.history_bytes += entry.whole.get().len() as u64;
            }
            if let Some(history) = history {
                history.push(entry.whole.clone());
            }
            self.entries.push(entry);
        }
        let ends = is_end(&applied.effects);
        anyhow::ensure!(!ends || history.is_some(), "the history of {} {} was not read", S::NAME, record.id());
        let history = history.as_deref().unwrap_or_default();
        if ends {
            self.ended = Some(awaited_since(record, history));
        }
        enqueue(&mut context.outgoing, record, history, &applied.effects, context.payload_max)?;
        Ok(Outcome::Decided(applied.verdict))
    }

    /// Sets its timers, once everything that came is decided.
    pub fn set_timers(&mut self, context: &BatchContext<'_, S>) {
        let seed = self.record.seed();
        let record = &mut self.record;
        record.timers.set(&self.before, &record.state, context.steady, record.began_at, seed, context.timing);
    }
}

/// Since when the outcome of a saga was waited for: since it began or, where it was completed and then called off, since that.
fn awaited_since<S: Saga>(record: &Record<S>, history: &[Box<RawValue>]) -> DateTime<Utc> {
    // Only these can follow on a completed one; nobody else's history is read again for this.
    if !matches!(record.state.phase(), Phase::Compensated(Cause::Cancelled | Cause::Withdrawn { .. })) {
        return record.created_at;
    }
    let entries = history.iter().filter_map(|entry| serde_json::from_str::<Entry<S>>(entry.get()).ok());
    let mut since_completed = entries.skip_while(|entry| !matches!(entry.state.phase(), Phase::Completed));
    let called_off = since_completed.find(|entry| matches!(entry.state.phase(), Phase::Compensating(_)));
    called_off.map_or(record.created_at, |entry| entry.time)
}

/// Whether these triggers tell the end of a saga.
pub(crate) fn ends<S: Saga>(record: &Record<S>, triggers: &[&Trigger<S>], context: &BatchContext<'_, S>) -> bool {
    let mut record = record.clone();
    triggers.iter().any(|trigger| {
        inputs(&record, trigger, context).iter().any(|input| {
            let decision = decide(&record.request, &record.state, input);
            record.state = decision.state;
            is_end(&decision.effects)
        })
    })
}

/// What a trigger is to a saga: nothing, where a timer is not up after all.
fn inputs<S: Saga>(record: &Record<S>, trigger: &Trigger<S>, context: &BatchContext<'_, S>) -> Vec<Input<S>> {
    match trigger {
        Trigger::Reply(reply) => vec![Input::Reply(reply.clone())],
        Trigger::Cancel(_) => vec![Input::Cancel],
        Trigger::Operator { action, by, reason } => {
            vec![Input::Operator { action: *action, by: by.clone(), reason: reason.clone() }]
        }
        // Looked at again: another instance may have been first.
        Trigger::Timer => record.timers.inputs(&record.state, context.steady, record.began_at, context.timing),
    }
}

/// Whether a decision tells the end of a saga.
fn is_end<S: Saga>(effects: &[Effect<S>]) -> bool {
    effects.iter().any(|effect| matches!(effect, Effect::Notify(Milestone::Completed | Milestone::Compensated)))
}
