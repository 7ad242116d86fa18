//! The waybill: every input of a saga in order, what was decided and what was sent. Folding it through `decide` again is replay.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{Decision, Input, Message, Plan, State, Verdict, decide};

/// One line of the waybill. Append-only.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(bound = "")]
pub struct Entry<P: Plan> {
    /// From 1, without gaps.
    pub sequence: u32,
    /// When it was decided, by the database's clock.
    pub time: DateTime<Utc>,
    /// What came.
    pub message: Input<P>,
    /// What became of it.
    pub decision: Verdict,
    /// What was sent, in this order.
    pub sent: Vec<Message<P>>,
    /// Where the saga stood afterwards.
    pub state: State<P>,
}

/// The first place where a history and this build disagree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Divergence {
    /// The entry's sequence.
    pub sequence: u32,
    /// The field of the entry.
    pub field: String,
    /// What the history says, as JSON.
    pub recorded: String,
    /// What this build decides, as JSON.
    pub now: String,
}

/// Folds a history through this build's `decide` and returns each decision, up to the first that differs from what is recorded.
pub fn replay<P: Plan>(plan: &P, entries: &[Entry<P>]) -> (Vec<Decision<P>>, Option<Divergence>) {
    let version = entries.first().map_or_else(P::current, |entry| entry.state.plan_version());
    let mut state = State::of_version(version);
    let mut decisions = Vec::with_capacity(entries.len());
    for (expected, entry) in (1..).zip(entries) {
        if entry.sequence != expected {
            let divergence = divergence(entry.sequence, "sequence", &entry.sequence, &expected);
            return (decisions, Some(divergence));
        }
        let decision = decide(plan, &state, &entry.message);
        let found = if decision.verdict != entry.decision {
            Some(divergence(expected, "decision", &entry.decision, &decision.verdict))
        } else if decision.messages != entry.sent {
            Some(divergence(expected, "sent", &entry.sent, &decision.messages))
        } else if decision.state != entry.state {
            Some(divergence(expected, "state", &entry.state, &decision.state))
        } else {
            None
        };
        state = decision.state.clone();
        decisions.push(decision);
        if found.is_some() {
            return (decisions, found);
        }
    }
    (decisions, None)
}

fn divergence(sequence: u32, field: &str, recorded: &impl Serialize, now: &impl Serialize) -> Divergence {
    let json = |value: serde_json::Result<String>| value.unwrap_or_else(|error| format!("unwritable: {error}"));
    Divergence {
        sequence,
        field: field.to_owned(),
        recorded: json(serde_json::to_string(recorded)),
        now: json(serde_json::to_string(now)),
    }
}

#[cfg(test)]
mod tests;
