//! One order under decision: what comes to it is decided step by step, and gathered until the batch is written.

use std::collections::VecDeque;

use crate::saga::Order;
use chassis::Outgoing;
use chrono::{DateTime, Utc};
use events::OrderId;
use events::order::Status;
use saga::{Action, Effect, Input, Milestone, Recording, State, Verdict, apply, decide};
use serde_json::value::RawValue;

use crate::advance::Trigger;
use crate::store::HistoryRow;
use crate::tell::say;
use crate::view::Row;
use crate::{HistoryLimit, Timing, timer};

/// What all decisions of a batch share.
pub struct Sitting<'a> {
    /// The time of day.
    pub now: DateTime<Utc>,
    /// What timers go by.
    pub steady: DateTime<Utc>,
    pub timing: &'a Timing,
    pub limit: &'a HistoryLimit,
    /// What the broker takes in one message.
    pub payload_max: usize,
    pub outgoing: Outgoing,
}

/// What became of a trigger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// There was nothing to decide: a timer was not up after all.
    Nothing,
    /// The saga decided.
    Decided(Verdict),
    /// An operator's retry was refused, because the history has reached its limit.
    HistoryFull,
    /// This build cannot read the order's state, and left it alone.
    Unreadable(String),
    /// The cancellation's key was used before, to cancel this order.
    KeyUsed(OrderId),
}

/// An order under decision.
pub struct Open {
    pub row: Row,
    /// Its history, each entry as JSON; `None`: not read, because nothing here tells its end.
    pub history: Option<Vec<Box<RawValue>>>,
    /// Where the saga stood when the batch began.
    pub before: State<Order>,
    /// What is not yet written of its history.
    pub entries: Vec<HistoryRow>,
    /// Of each trigger.
    pub outcomes: VecDeque<Outcome>,
    /// Whether something is to be written.
    pub moved: bool,
    /// Whether its outcome is told now.
    pub ended: bool,
    /// The key of the cancellation that moved it.
    pub cancelled_with: Option<String>,
}

impl Open {
    pub fn new(row: Row, history: Option<Vec<Box<RawValue>>>) -> Self {
        let before = row.state.clone();
        Self {
            row,
            history,
            before,
            entries: Vec::new(),
            outcomes: VecDeque::new(),
            moved: false,
            ended: false,
            cancelled_with: None,
        }
    }

    /// Where the order stands.
    pub fn status(&self) -> Status {
        self.row.status()
    }

    /// Decides triggers one after the other. Returns whether one was a step forward; if none was, nothing is said.
    pub fn decide_all(&mut self, triggers: &[&Trigger], sitting: &mut Sitting<'_>) -> anyhow::Result<bool> {
        let mut forward = false;
        for trigger in triggers {
            let mut outcome = Outcome::Nothing;
            for input in inputs(&self.row, trigger, sitting) {
                outcome = self.decide(input, sitting)?;
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

    fn decide(&mut self, input: Input<Order>, sitting: &mut Sitting<'_>) -> anyhow::Result<Outcome> {
        let Self { row, history, .. } = self;
        let full = sitting.limit.is_reached(row);
        // The one action that can be taken without end. The others lead a saga to its end, and must be possible whatever happened before.
        if full && matches!(input, Input::Operator { action: Action::Retry, .. }) && row.state.outstanding().next().is_some() {
            return Ok(Outcome::HistoryFull);
        }
        let recording = Recording { time: sitting.now, repetitions: !full };
        let applied = apply(&row.order, &mut row.state, row.sequence, input, recording);
        if applied.verdict != Verdict::Moved {
            return Ok(Outcome::Decided(applied.verdict));
        }
        self.moved = true;
        row.updated_at = sitting.now;
        row.note_prices();
        if let Some(entry) = &applied.entry {
            row.sequence = entry.sequence;
            let entry = HistoryRow::new(row.order.id, entry)?;
            row.history_bytes += entry.whole.get().len() as u64;
            if let Some(history) = history {
                history.push(entry.whole.clone());
            }
            self.entries.push(entry);
        }
        let ends = is_end(&applied.effects);
        anyhow::ensure!(!ends || history.is_some(), "the history of order {} was not read", row.order.id);
        self.ended |= ends;
        let history = history.as_deref().unwrap_or_default();
        say(&mut sitting.outgoing, row, history, &applied.effects, sitting.payload_max)?;
        Ok(Outcome::Decided(applied.verdict))
    }
}

/// Whether these triggers tell the end of an order.
pub fn ends(row: &Row, triggers: &[&Trigger], sitting: &Sitting<'_>) -> bool {
    let mut row = row.clone();
    triggers.iter().any(|trigger| {
        inputs(&row, trigger, sitting).iter().any(|input| {
            let decision = decide(&row.order, &row.state, input);
            row.state = decision.state;
            is_end(&decision.effects)
        })
    })
}

/// What a trigger says to a saga: nothing, where a timer is not up after all.
fn inputs(row: &Row, trigger: &Trigger, sitting: &Sitting<'_>) -> Vec<Input<Order>> {
    match trigger {
        Trigger::Reply(reply) => vec![Input::Reply(reply.clone())],
        Trigger::Cancel(_) => vec![Input::Cancel],
        Trigger::Operator { action, by, reason } => {
            vec![Input::Operator { action: *action, by: by.clone(), reason: reason.clone() }]
        }
        // Looked at again: another instance may have been first.
        Trigger::Timer => timer::inputs(row, sitting.steady, sitting.timing),
    }
}

/// Whether a decision tells the end of an order.
fn is_end(effects: &[Effect<Order>]) -> bool {
    effects.iter().any(|effect| matches!(effect, Effect::Notify(Milestone::Completed | Milestone::Compensated)))
}
