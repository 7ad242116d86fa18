//! Moments, numbers and JSON as pages show them.

use chrono::{DateTime, SecondsFormat, Utc};
use saga_commands::age;
use saga_commands::output::visible_json;
use serde::Serialize;

/// A moment, to the millisecond.
pub fn exact(moment: DateTime<Utc>) -> String {
    moment.to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// A moment as people read it, to the second.
pub fn clock(moment: DateTime<Utc>) -> String {
    moment.format("%-d %b %Y, %H:%M:%S UTC").to_string()
}

/// How long ago.
pub fn ago(moment: DateTime<Utc>) -> String {
    age::show(Utc::now() - moment)
}

/// A moment as a table shows it: how long ago, and the moment itself for whoever points at it.
#[derive(Clone, Debug)]
pub struct When {
    /// How long ago.
    pub ago: String,
    /// The moment.
    pub at: String,
}

impl When {
    /// A moment.
    pub fn at(moment: DateTime<Utc>) -> Self {
        Self { ago: ago(moment), at: exact(moment) }
    }
}

/// A number with room between its thousands.
pub fn count(value: f64) -> String {
    let digits = format!("{value:.0}");
    let groups: Vec<&str> = digits.as_bytes().rchunks(3).rev().filter_map(|group| std::str::from_utf8(group).ok()).collect();
    groups.join("\u{202f}")
}

/// JSON with its lines broken, in which everything shows.
pub fn json(value: &impl Serialize) -> String {
    serde_json::to_string_pretty(value).map_or_else(|error| error.to_string(), |text| visible_json(&text))
}
