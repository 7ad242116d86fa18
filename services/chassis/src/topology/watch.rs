//! What a service sees of the topology. It has no right to change it; it says in `/readyz` what is not as it must be.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use envelope::dead_letter::DEAD_LETTERS;
use envelope::{Consumer, Topology};
use serde_json::Value;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::config::{TopologySettings, consumer_json, stream_json};
use super::drift::{Difference, Drift, differences, list, of_consumer};
use super::info::{Found, Info, info};
use crate::broker::Broker;
use crate::health::Health;
use crate::metrics::Metrics;

/// How often a service looks. What differs twice in a row is said: a provisioner puts back what it can within a second.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// How long a stream is left alone whose state the broker does not tell: an older configuration of its rights forbids it.
const FORBIDDEN_FOR: Duration = Duration::from_secs(300);

/// What whoever deployed the streams may choose; the services need none of it.
const CHOSEN: [&str; 10] = [
    "num_replicas",
    "max_bytes",
    "max_age",
    "duplicate_window",
    "placement",
    "compression",
    "description",
    "metadata",
    "max_consumers",
    "persist_mode",
];

/// With these otherwise than they must be, a stream refuses, loses or hides messages, or never acknowledges one.
const NEEDED: [&str; 9] = [
    "subjects",
    "sealed",
    "mirror",
    "no_ack",
    "discard",
    "max_msgs",
    "max_msgs_per_subject",
    "max_msg_size",
    "subject_transform",
];

/// With these otherwise than they must be, a consumer hides or loses messages, or refuses to bring them. The others make it slower, or bring a
/// message twice.
const NEEDED_OF_CONSUMER: [&str; 11] = [
    "filter_subject",
    "filter_subjects",
    "ack_policy",
    "max_deliver",
    "headers_only",
    "deliver_subject",
    "deliver_group",
    "priority_policy",
    "priority_groups",
    "max_batch",
    "max_expires",
];

/// Compares what the service depends on with how it would be made, until shutdown.
pub(crate) async fn watch(
    metrics: &Metrics,
    topology: &Topology,
    broker: &Broker,
    health: &Health,
    backlog_noted: u64,
    shutdown: &CancellationToken,
) {
    let mut forbidden: BTreeMap<&'static str, Instant> = BTreeMap::new();
    let mut before = BTreeSet::new();
    loop {
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            () = shutdown.cancelled() => return,
        }
        if !broker.is_connected() {
            continue;
        }
        let mut now = BTreeSet::new();
        for (name, Seen { drift, pending }) in look(metrics, topology, broker, &mut forbidden).await {
            if let Some(pending) = pending {
                health.behind(name, (pending > backlog_noted).then_some(pending));
            }
            let Some(drift) = drift else {
                health.drifted(name, None);
                continue;
            };
            if before.contains(name) {
                health.drifted(name, Some(drift));
            }
            now.insert(name);
        }
        before = now;
    }
}

/// What was seen of a stream and the consumer of it that the service reads.
struct Seen {
    drift: Option<Drift>,
    /// Messages the consumer has still to bring; unknown where it could not be looked at.
    pending: Option<u64>,
}

/// Each stream that could be looked at, and what is wrong with it or its consumer.
async fn look(
    metrics: &Metrics,
    topology: &Topology,
    broker: &Broker,
    forbidden: &mut BTreeMap<&'static str, Instant>,
) -> BTreeMap<&'static str, Seen> {
    let (mut seen, service) = (BTreeMap::new(), metrics.service());
    for stream in topology.streams {
        let consumer = topology.consumers.iter().find(|consumer| consumer.stream == stream.name && consumer.name == service);
        let concerned = consumer.is_some() || stream.producer == service || stream.name == DEAD_LETTERS;
        if !concerned {
            continue;
        }
        let (mut drift, mut pending) = (None, None);
        if forbidden.get(stream.name).is_none_or(|until| *until < Instant::now()) {
            match info(broker.jetstream(), &format!("STREAM.INFO.{}", stream.name)).await {
                Ok(Info::Found(Found { config, .. })) => {
                    drift = of_stream(stream.name, &config, &stream_json(stream, &TopologySettings::default()));
                }
                Ok(Info::Missing) => drift = Some(Drift { what: format!("the stream {} is missing", stream.name), fatal: true }),
                Err(_) => {
                    forbidden.insert(stream.name, Instant::now() + FORBIDDEN_FOR);
                }
            }
        }
        if let Some(consumer) = consumer {
            // A missing one is said by the loop that wants to read it.
            if let Ok(Info::Found(found)) =
                info(broker.jetstream(), &format!("CONSUMER.INFO.{}.{}", consumer.stream, consumer.name)).await
            {
                metrics.consumer(stream.name, found.pending, found.unacknowledged, found.redelivered);
                pending = Some(found.pending);
                drift = of_this_consumer(consumer, &found).or(drift);
            }
        }
        seen.insert(stream.name, Seen { drift, pending });
    }
    seen
}

fn of_stream(name: &str, found: &Value, wanted: &Value) -> Option<Drift> {
    let mut differences = differences(found, wanted);
    differences.retain(|difference| !CHOSEN.contains(&&*difference.property));
    let fatal = differences.iter().any(|difference| NEEDED.contains(&&*difference.property));
    said(format!("the stream {name}"), &differences, fatal)
}

fn of_this_consumer(consumer: &Consumer, found: &Found) -> Option<Drift> {
    let mut differences = of_consumer(&found.config, &consumer_json(consumer));
    differences.retain(|difference| !["description", "metadata", "num_replicas"].contains(&&*difference.property));
    let fatal = differences.iter().any(|difference| NEEDED_OF_CONSUMER.contains(&&*difference.property));
    let drift = said(format!("the consumer {} of {}", consumer.name, consumer.stream), &differences, fatal);
    match (found.paused(consumer), drift) {
        (Some(paused), Some(drift)) => Some(Drift { what: format!("{paused}; {}", drift.what), ..drift }),
        (Some(what), None) => Some(Drift { what, fatal: false }),
        (None, drift) => drift,
    }
}

fn said(whose: String, differences: &[Difference], fatal: bool) -> Option<Drift> {
    let what = || format!("{whose} has {}; `waybill provision` puts back what it can", list(differences));
    (!differences.is_empty()).then(|| Drift { what: what(), fatal })
}
