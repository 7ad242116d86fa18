//! The waybill: every input that moved a saga in order, what was decided and what was sent. Folding it through `decide` again is replay.
//!
//! A command that nobody answers is repeated for as long as it takes, and each repetition changes nothing but its attempt. The first
//! [`EACH_RECORDED`] have an entry each; after them only every doubling has one ([`is_recorded`]), so that a history grows with what
//! happens and not with how long somebody is away. The entry that follows says how far the attempts were (`attempts`), and replay takes
//! the repetitions between as they were.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{Decision, Effect, Input, Plan, State, Verdict};

/// How many attempts of a command have an entry each: enough to see the waits grow.
pub const EACH_RECORDED: u32 = 8;

/// One line of the waybill. Append-only.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(bound = "")]
pub struct Entry<P: Plan> {
    /// From 1, without gaps.
    pub sequence: u32,
    /// When it was decided, by the database's clock.
    pub time: DateTime<Utc>,
    /// What came.
    #[serde(rename = "message")]
    pub input: Input<P>,
    /// What became of it. Histories written before inputs that change nothing were left out hold such entries too.
    #[serde(rename = "decision", alias = "verdict")]
    pub verdict: Verdict,
    /// What was sent, in this order.
    pub sent: Vec<Effect<P>>,
    /// How often each unanswered command had been sent when this came, of those sent more than once: not every repetition has an entry.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attempts: BTreeMap<P::Step, u32>,
    /// Where the saga stood afterwards.
    pub state: State<P>,
}

/// The attempt, where an input did nothing but have an unanswered command sent again because its time was up.
pub fn repetition<P: Plan>(input: &Input<P>, decision: &Decision<P>) -> Option<u32> {
    let (Input::Due(due) | Input::Expired(due)) = input else {
        return None;
    };
    match decision.effects.as_slice() {
        [Effect::Execute { step, attempt } | Effect::Compensate { step, attempt }] if step == due && *attempt > 1 => {
            Some(*attempt)
        }
        _ => None,
    }
}

/// Whether the repetition with this attempt has an entry of its own.
pub fn is_recorded(attempt: u32) -> bool {
    attempt <= EACH_RECORDED || attempt.is_power_of_two()
}

/// What the next entry says of repetitions before it.
pub fn attempts<P: Plan>(state: &State<P>) -> BTreeMap<P::Step, u32> {
    state.outstanding().filter(|(.., attempt)| *attempt > 1).map(|(step, _, attempt)| (step, attempt)).collect()
}
