//! Moments, lengths of time and JSON as pages show them.

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
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
    length(Utc::now() - moment)
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

/// A length of time, without a second unit that is nothing.
pub fn length(length: TimeDelta) -> String {
    let text = age::show(length);
    [" 0 s", " 0 min", " 0 h"].iter().find_map(|nothing| text.strip_suffix(nothing)).map(str::to_owned).unwrap_or(text)
}

/// JSON with its lines broken, in which everything shows.
pub fn json(value: &impl Serialize) -> String {
    serde_json::to_string_pretty(value).map_or_else(|error| error.to_string(), |text| visible_json(&text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_of_time_names_no_unit_of_which_there_is_none() {
        assert_eq!(
            [300, 90, 3_600, 2].map(|seconds| length(TimeDelta::seconds(seconds))),
            ["5 min", "1 min 30 s", "1 h", "2.0 s"]
        );
    }
}
