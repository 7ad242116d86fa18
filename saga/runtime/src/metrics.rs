//! What is measured of sagas and their events.

use metrics::{counter, gauge};

use crate::saga::Saga;

/// Events were looked for in their stream, and published again where they were missing.
pub(crate) fn events_rebuilt(checked: i64, published: i64) {
    counter!("waybill_events_checked_total").increment(checked.unsigned_abs());
    counter!("waybill_events_republished_total").increment(published.unsigned_abs());
}

/// How many sagas a rebuild of the events has still to look at; none where none is under way here.
pub(crate) fn events_rebuild<S: Saga>(left: Option<i64>) {
    gauge!("waybill_events_rebuild_under_way").set(if left.is_some() { 1.0 } else { 0.0 });
    gauge!(format!("waybill_events_rebuild_{}s_left", S::NAME)).set(left.unwrap_or_default() as f64);
}

/// How many sagas are in flight, how many of them wait for too long, how many are of a plan version this build does not know, and how many have
/// a state that cannot be read.
pub(crate) fn sagas(in_flight: i64, stuck: i64, unknown_plan: i64, unreadable: i64) {
    gauge!("waybill_sagas_in_flight").set(in_flight as f64);
    gauge!("waybill_sagas_stuck").set(stuck as f64);
    gauge!("waybill_sagas_unknown_plan").set(unknown_plan as f64);
    gauge!("waybill_sagas_unreadable").set(unreadable as f64);
}

/// How many sagas that are due could not be decided, and wait to be tried again.
pub(crate) fn set_aside(sagas: usize) {
    gauge!("waybill_sagas_set_aside").set(sagas as f64);
}

/// Inputs changed nothing, and why: one of a closed set of words.
pub(crate) fn ignored(reason: &'static str, inputs: u64) {
    counter!("waybill_inputs_ignored_total", "reason" => reason).increment(inputs);
}

/// Replies came for sagas that nobody knows.
pub(crate) fn unknown<S: Saga>(replies: u64) {
    counter!("waybill_inputs_ignored_total", "reason" => format!("unknown_{}", S::NAME)).increment(replies);
}

/// A saga came to an end.
pub(crate) fn ended<S: Saga>(status: String) {
    counter!(format!("waybill_{}s_ended_total", S::NAME), "status" => status).increment(1);
}
