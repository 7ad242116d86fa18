//! What differs between two states: a field each, and the lines of both.

use std::collections::HashSet;

use saga::Change;
use saga_commands::output::plain;
use serde::Serialize;
use serde_json::Value;

use crate::words::json;

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

/// A line of a state as JSON.
#[derive(Debug, PartialEq)]
pub struct Line {
    pub text: String,
    /// Whether the other state has it not.
    pub changed: bool,
}

/// Two states, a line each, with those marked that the other has not at the same place.
pub struct Sides {
    pub before: Vec<Line>,
    pub after: Vec<Line>,
}

impl Sides {
    /// These two.
    pub fn of(before: &impl Serialize, after: &impl Serialize) -> Self {
        let (before, after) = (json(before), json(after));
        let marked = |text: &str, other: &str| {
            let other: HashSet<Vec<&str>> = places(other).map(|(place, _)| place).collect();
            places(text).map(|(place, line)| Line { text: line.to_owned(), changed: !other.contains(&place) }).collect()
        };
        Self { before: marked(&before, &after), after: marked(&after, &before) }
    }
}

/// Each line of JSON with what it is within and what it says.
fn places(text: &str) -> impl Iterator<Item = (Vec<&str>, &str)> {
    let mut within = Vec::new();
    text.lines().map(move |line| {
        let says = line.trim_start();
        let deep = (line.len() - says.len()) / 2;
        // What closes is of what it closes.
        within.truncate(if says.starts_with(['}', ']']) { deep + 1 } else { deep });
        within.push(says.trim_end_matches(','));
        (within.clone(), line)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_lines_that_only_one_of_two_states_has_are_marked() {
        let before = json!({"phase": "running", "steps": {"a": {"asked": 1}}});
        let after = json!({"phase": "running", "steps": {"a": {"done": true}, "b": {"asked": 1}}});
        let sides = Sides::of(&before, &after);
        let marked = |lines: &[Line]| {
            let marked = lines.iter().filter(|line| line.changed).map(|line| line.text.trim().to_owned());
            marked.collect::<Vec<_>>()
        };
        assert_eq!(marked(&sides.before), [r#""asked": 1"#]);
        assert_eq!(marked(&sides.after), [r#""done": true"#, r#""b": {"#, r#""asked": 1"#, "}"]);
        assert_eq!((sides.before.len(), sides.after.len()), (8, 11), "every line is there");
        let same = Sides::of(&after, &after);
        assert_eq!((marked(&same.before), marked(&same.after)), (Vec::new(), Vec::new()));
    }
}
