//! Moments, lengths of time and JSON as pages show them.

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use saga_commands::age;
use saga_commands::output::visible_json;
use serde::Serialize;

/// A moment, to the millisecond.
pub fn exact(moment: DateTime<Utc>) -> String {
    moment.to_rfc3339_opts(SecondsFormat::Millis, true)
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

/// A length of time.
pub fn length(length: TimeDelta) -> String {
    age::show(length)
}

/// JSON with its lines broken, in which everything shows.
pub fn json(value: &impl Serialize) -> String {
    serde_json::to_string_pretty(value).map_or_else(|error| error.to_string(), |text| visible_json(&text))
}
