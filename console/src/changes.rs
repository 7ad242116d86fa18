//! What differs between two states, a field each.

use saga::Change;
use saga_commands::output::plain;
use serde_json::Value;

/// A field that differs.
pub struct Changed {
    pub path: String,
    pub before: String,
    pub after: String,
}

impl Changed {
    /// Each of these.
    pub fn all(changes: &[Change]) -> Vec<Self> {
        let changed =
            |change: &Change| Self { path: change.path.clone(), before: short(&change.before), after: short(&change.after) };
        changes.iter().map(changed).collect()
    }
}

fn short(value: &Value) -> String {
    if value.is_null() { "–".to_owned() } else { plain(value.to_string()) }
}
