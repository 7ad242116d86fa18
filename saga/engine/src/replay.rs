//! Replay: a history folded through this build's `decide` again, to see why a saga went as it did and whether this build would do the
//! same. It takes data and returns data; there is nothing here that could cause an effect.

use std::fmt;

use serde::Serialize;
use serde_json::Value;

use crate::change::json;
use crate::decide::repeat;
use crate::history::attempts;
use crate::{Change, Decision, Entry, Plan, State, changes, decide};

/// A history as this build sees it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(bound = "")]
pub struct Replay<'a, P: Plan> {
    /// Each entry, up to the first that diverges.
    pub steps: Vec<Replayed<'a, P>>,
    /// The first place where the history and this build disagree.
    pub divergence: Option<Divergence>,
}

/// One entry, decided again.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(bound = "")]
pub struct Replayed<'a, P: Plan> {
    /// The entry as it is recorded.
    pub entry: &'a Entry<P>,
    /// Where the saga stood before, repetitions that have no entry included.
    pub before: State<P>,
    /// What this build decides: the verdict, where the saga stands afterwards, and what it would send.
    pub now: Decision<P>,
    /// What the decision changes.
    pub changes: Vec<Change>,
}

/// The first place where a history and this build disagree.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Divergence {
    /// The entry's sequence.
    pub sequence: u32,
    /// The field of the entry: `sequence`, `attempts`, `decision`, `sent`, or the part of the state: `state.steps.reserve_stock`.
    pub field: String,
    /// What the history says.
    pub recorded: Value,
    /// What this build decides.
    pub now: Value,
}

impl fmt::Display for Divergence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sequence, field, recorded, now } = self;
        write!(f, "entry {sequence}, {field}: recorded {recorded}, now {now}")
    }
}

/// Folds a history through this build's `decide`, and shows each entry up to the first that diverges. With `until`, entries after that
/// sequence are not looked at.
pub fn replay<'a, P: Plan>(plan: &P, entries: &'a [Entry<P>], until: Option<u32>) -> Replay<'a, P> {
    let mut fold = Fold::new(plan, entries);
    let mut steps = Vec::new();
    let wanted = entries.iter().take_while(|entry| until.is_none_or(|until| entry.sequence <= until));
    for entry in wanted {
        let now = match fold.decide(entry) {
            Ok(now) => now,
            Err(gap) => return Replay { steps, divergence: Some(gap) },
        };
        let divergence = diverges(entry, &now);
        let before = std::mem::replace(&mut fold.state, now.state.clone());
        steps.push(Replayed { entry, changes: changes(&before, &now.state), before, now });
        if divergence.is_some() {
            return Replay { steps, divergence };
        }
    }
    Replay { steps, divergence: None }
}

/// The first place where a history and this build disagree. The same as [`replay`] finds, for those who want only that, many times over.
pub fn divergence<P: Plan>(plan: &P, entries: &[Entry<P>]) -> Option<Divergence> {
    let mut fold = Fold::new(plan, entries);
    for entry in entries {
        let now = match fold.decide(entry) {
            Ok(now) => now,
            Err(gap) => return Some(gap),
        };
        if let Some(divergence) = diverges(entry, &now) {
            return Some(divergence);
        }
        fold.state = now.state;
    }
    None
}

/// A replay under way.
struct Fold<'a, P: Plan> {
    plan: &'a P,
    state: State<P>,
    sequence: u32,
}

impl<'a, P: Plan> Fold<'a, P> {
    /// A saga keeps the plan version it began with, so the first entry says where to begin.
    fn new(plan: &'a P, entries: &[Entry<P>]) -> Self {
        let version = entries.first().map_or_else(P::current, |entry| entry.state.plan_version());
        Self { plan, state: State::of_version(version), sequence: 0 }
    }

    /// Decides an entry; a gap before it cannot be decided across.
    fn decide(&mut self, entry: &Entry<P>) -> Result<Decision<P>, Divergence> {
        self.sequence += 1;
        if entry.sequence != self.sequence {
            return Err(diverged(entry, "sequence", json(&entry.sequence), json(&self.sequence)));
        }
        if !entry.attempts.is_empty() {
            let repeated = repeat(&self.state, &entry.attempts);
            let impossible = || diverged(entry, "attempts", json(&entry.attempts), json(&attempts(&self.state)));
            self.state = repeated.ok_or_else(impossible)?;
        }
        Ok(decide(self.plan, &self.state, &entry.input))
    }
}

fn diverges<P: Plan>(entry: &Entry<P>, now: &Decision<P>) -> Option<Divergence> {
    if now.verdict != entry.verdict {
        Some(diverged(entry, "decision", json(&entry.verdict), json(&now.verdict)))
    } else if now.effects != entry.sent {
        Some(diverged(entry, "sent", json(&entry.sent), json(&now.effects)))
    } else if now.state != entry.state {
        let Change { path, before, after } = changes(&entry.state, &now.state).into_iter().next()?;
        Some(diverged(entry, &format!("state.{path}"), before, after))
    } else {
        None
    }
}

fn diverged<P: Plan>(entry: &Entry<P>, field: &str, recorded: Value, now: Value) -> Divergence {
    Divergence { sequence: entry.sequence, field: field.to_owned(), recorded, now }
}
