//! What differs between two states, field by field.

use std::collections::BTreeSet;
use std::fmt;

use serde::Serialize;
use serde_json::Value;

use crate::stages::step_name;
use crate::{Plan, State};

/// One field that differs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Change {
    /// The field, as the state's JSON names it: `phase`, `steps.reserve_stock`.
    pub path: String,
    /// What stood there; null where nothing did.
    pub before: Value,
    /// What stands there now.
    pub after: Value,
}

/// Every field in which two states differ: the phase first, then the steps in their own order.
pub fn changes<P: Plan>(before: &State<P>, after: &State<P>) -> Vec<Change> {
    let mut changes = Vec::new();
    let mut note = |path: &str, before: Value, after: Value| changes.push(Change { path: path.to_owned(), before, after });
    if before.plan != after.plan {
        note("plan", json(&before.plan), json(&after.plan));
    }
    if before.phase != after.phase {
        note("phase", json(&before.phase), json(&after.phase));
    }
    let steps: BTreeSet<P::Step> = before.steps.keys().chain(after.steps.keys()).copied().collect();
    for step in steps {
        let (was, is) = (before.progress(step), after.progress(step));
        if was != is {
            note(&format!("steps.{}", step_name::<P>(step)), json(&was), json(&is));
        }
    }
    changes
}

/// In short: `steps.reserve_stock: asked(1) → done(prices…)`.
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} → {}", self.path, brief(&self.before), brief(&self.after))
    }
}

/// A variant with as much of its content as fits in a word: `running`, `asked(1)`, `done(prices…)`.
fn brief(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(word) => word.clone(),
        Value::Object(fields) => fields.iter().map(|(name, content)| format!("{name}({})", gist(content))).collect(),
        other => other.to_string(),
    }
}

fn gist(content: &Value) -> String {
    match content {
        Value::Object(fields) => fields.keys().next().map_or_else(String::new, |first| format!("{first}…")),
        Value::Array(_) => "…".to_owned(),
        leaf => brief(leaf),
    }
}

/// What is persisted can be written, or it could not be.
pub(crate) fn json(value: &impl Serialize) -> Value {
    serde_json::to_value(value).unwrap_or_else(|error| format!("unwritable: {error}").into())
}
