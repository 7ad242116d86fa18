//! What answers must look like.

use chrono::{DateTime, Utc};
use serde_json::Value;
use uuid::Uuid;

/// The names of an object's fields must be exactly these.
#[track_caller]
pub fn fields(object: &Value, names: &[&str]) {
    let found: Vec<&str> =
        object.as_object().unwrap_or_else(|| panic!("no object: {object:#}")).keys().map(String::as_str).collect();
    let mut wanted = names.to_vec();
    wanted.sort_unstable();
    assert_eq!(found, wanted, "{object:#}");
}

/// A UUID of version 7, in its usual form.
#[track_caller]
pub fn v7(value: &Value) -> Uuid {
    let text = value.as_str().unwrap_or_else(|| panic!("no id: {value}"));
    let id = Uuid::parse_str(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    assert_eq!((id.get_version_num(), id.to_string().as_str()), (7, text));
    id
}

/// An RFC 3339 time in UTC, of the last hour.
#[track_caller]
pub fn recent(value: &Value) -> DateTime<Utc> {
    let text = value.as_str().unwrap_or_else(|| panic!("no time: {value}"));
    let time = DateTime::parse_from_rfc3339(text).unwrap_or_else(|error| panic!("{text}: {error}")).to_utc();
    assert!(text.ends_with('Z'), "{text} is not UTC");
    let age = (Utc::now() - time).num_seconds();
    assert!((-60..3600).contains(&age), "{text} is {age} s ago");
    time
}

/// `letter` so many times.
pub fn long(letter: &str, times: usize) -> String {
    letter.repeat(times)
}
