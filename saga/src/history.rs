//! The waybill: every input that moved a saga in order, what was decided and what was sent. Folding it through `decide` again is replay.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{Input, Message, Plan, State, Verdict};

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
    /// What became of it. Histories written before inputs that change nothing were left out hold such entries too.
    pub decision: Verdict,
    /// What was sent, in this order.
    pub sent: Vec<Message<P>>,
    /// Where the saga stood afterwards.
    pub state: State<P>,
}

#[cfg(test)]
mod tests;
