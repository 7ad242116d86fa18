//! What differs between a stream or consumer as it is and as it would be made, property by property.

use std::fmt;

use serde_json::{Map, Value};

/// One property that is not as it would be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Difference {
    /// The broker's name of it.
    pub property: String,
    found: Value,
    wanted: Value,
}

/// Something that is not as it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Drift {
    /// What it is.
    pub what: String,
    /// Whether the service cannot work with it.
    pub fatal: bool,
}

/// Every property that this build's client knows, of streams and of consumers.
const KNOWN: [&str; 65] = [
    // streams
    "name",
    "max_bytes",
    "max_msgs",
    "max_msgs_per_subject",
    "discard",
    "discard_new_per_subject",
    "subjects",
    "retention",
    "max_consumers",
    "max_age",
    "max_msg_size",
    "storage",
    "num_replicas",
    "no_ack",
    "duplicate_window",
    "template_owner",
    "sealed",
    "description",
    "allow_rollup_hdrs",
    "deny_delete",
    "deny_purge",
    "republish",
    "allow_direct",
    "mirror_direct",
    "mirror",
    "sources",
    "metadata",
    "subject_transform",
    "compression",
    "consumer_limits",
    "first_seq",
    "placement",
    "persist_mode",
    "allow_msg_ttl",
    "subject_delete_marker_ttl",
    "allow_atomic",
    "allow_msg_schedules",
    "allow_msg_counter",
    // consumers
    "deliver_subject",
    "durable_name",
    "deliver_group",
    "deliver_policy",
    "opt_start_seq",
    "opt_start_time",
    "ack_policy",
    "ack_wait",
    "max_deliver",
    "filter_subject",
    "filter_subjects",
    "replay_policy",
    "rate_limit_bps",
    "sample_freq",
    "max_waiting",
    "max_ack_pending",
    "headers_only",
    "flow_control",
    "idle_heartbeat",
    "max_batch",
    "max_expires",
    "inactive_threshold",
    "mem_storage",
    "backoff",
    "priority_policy",
    "priority_groups",
    PAUSED,
];

/// Until when a consumer brings nothing: an operator's hand, no part of how it is made.
pub(super) const PAUSED: &str = "pause_until";

/// Where a consumer began to read: it has no meaning any more once it has begun, and the broker never changes it.
pub(super) const BEGAN: [&str; 3] = ["deliver_policy", "opt_start_seq", "opt_start_time"];

impl Difference {
    /// Whether this build knows the property. A newer broker may fill in others by itself, and then nobody changed anything.
    pub(super) fn is_known(&self) -> bool {
        KNOWN.contains(&&*self.property)
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |value: &Value| if value.is_null() { "none".to_owned() } else { value.to_string() };
        write!(f, "{} {} instead of {}", self.property, shown(&self.found), shown(&self.wanted))
    }
}

/// Compares two configurations as the broker writes them. Everything counts, also what this build has never heard of; a property that says
/// nothing (absent, zero, empty, without limit) is as good as absent, because the broker fills such in.
pub(super) fn differences(found: &Value, wanted: &Value) -> Vec<Difference> {
    let (found, wanted) = (significant(found), significant(wanted));
    let mut properties: Vec<&String> = found.keys().chain(wanted.keys()).collect();
    properties.sort_unstable();
    properties.dedup();
    let of = |map: &Map<String, Value>, property| map.get(property).cloned().unwrap_or_default();
    let differs = properties.into_iter().filter(|property| found.get(*property) != wanted.get(*property));
    differs
        .map(|property| Difference { property: property.clone(), found: of(&found, property), wanted: of(&wanted, property) })
        .collect()
}

/// The same for a consumer that is there: where it began, and whether somebody paused it, is no part of how it should be.
pub(super) fn of_consumer(found: &Value, wanted: &Value) -> Vec<Difference> {
    let mut differences = differences(found, wanted);
    differences.retain(|difference| difference.property != PAUSED && !BEGAN.contains(&&*difference.property));
    differences
}

/// Several of them, for a sentence.
pub(super) fn list(differences: &[Difference]) -> String {
    differences.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn significant(config: &Value) -> Map<String, Value> {
    let entries = config.as_object().into_iter().flatten();
    // The broker keeps its own remarks among the metadata.
    let entries = entries.filter(|(name, _)| !name.starts_with("_nats."));
    let nested = |value: &Value| if value.is_object() { Value::Object(significant(value)) } else { value.clone() };
    entries.map(|(name, value)| (name.clone(), nested(value))).filter(|(_, value)| !says_nothing(value)).collect()
}

fn says_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(set) => !set,
        Value::Number(number) => matches!(number.as_i64(), Some(0 | -1)),
        Value::String(text) => matches!(text.as_str(), "" | "none" | "default"),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn where_a_consumer_began_and_that_it_is_paused_is_no_difference() {
        let began = json!({"deliver_policy": "by_start_time", "opt_start_time": "2026-01-02T03:04:05Z", "pause_until": "2026-01-02T03:04:05Z"});
        assert_eq!(of_consumer(&began, &json!({"deliver_policy": "all", "opt_start_seq": 7})), []);
        assert_eq!(of_consumer(&json!({"max_deliver": 3}), &json!({})).len(), 1);
    }

    #[test]
    fn every_property_counts_and_what_says_nothing_does_not() {
        let wanted = json!({"name": "A", "max_age": 5, "sources": null});
        let same = json!({
            "name": "A", "max_age": 5, "max_msgs": -1, "sealed": false, "compression": "none", "consumer_limits": {"max_ack_pending": 0},
            "metadata": {"_nats.ver": "2.15"}, "template_owner": "", "sources": [],
        });
        assert_eq!(differences(&same, &wanted), []);
        let mut other = same;
        for (property, value) in [("max_age", json!(6)), ("metadata", json!({"a": "b"})), ("of_the_future", json!("x"))] {
            other[property] = value;
        }
        let names: Vec<String> = differences(&other, &wanted).into_iter().map(|difference| difference.property).collect();
        assert_eq!(names, ["max_age", "metadata", "of_the_future"]);
        assert_eq!(list(&differences(&json!({"a": 1}), &json!({"b": "c"}))), r#"a 1 instead of none, b none instead of "c""#);
    }
}
