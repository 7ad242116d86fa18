//! Puts streams and consumers back as they should be.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use async_nats::jetstream;
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use envelope::{Consumer, Stream, Topology};
use serde_json::{Value, json};

use super::config::{TopologySettings, consumer_json, stream_json};
use super::drift::{BEGAN, Difference, PAUSED, differences, list, of_consumer};
use super::info::{Found, Info, info, request};

/// How long what was refused is left alone, unless it changes: a refusal would not be another one a second later.
const REFUSED_FOR: Duration = Duration::from_secs(60);

/// The code of a broker that cannot do it now: without a leader, or without room.
const UNAVAILABLE: usize = 503;

/// What the broker does not change in a stream that is there.
const FIXED: [&str; 11] = [
    "storage",
    "retention",
    "max_consumers",
    "mirror",
    "sealed",
    "deny_delete",
    "deny_purge",
    "first_seq",
    "persist_mode",
    "allow_msg_ttl",
    "allow_msg_counter",
];

/// What was done, and what cannot be.
#[derive(Debug, Default)]
pub(super) struct Put {
    /// What was made or changed.
    pub changes: Vec<String>,
    /// What stays otherwise than it should be, and why.
    pub impossible: Vec<String>,
    /// What somebody paused.
    pub paused: Vec<String>,
}

/// What was refused, how it differed then, and when.
#[derive(Debug, Default)]
pub(super) struct Refused(HashMap<String, (String, Instant)>);

impl Refused {
    /// Says so, once in a while.
    fn tell(&mut self, what: String, why: String, put: &mut Put) {
        if !self.is_recent(&what, &why) {
            put.impossible.push(format!("the {what} {why}"));
            self.0.insert(what, (why, Instant::now()));
        }
    }

    fn is_recent(&self, what: &str, differences: &str) -> bool {
        self.0.get(what).is_some_and(|(then, when)| then == differences && when.elapsed() < REFUSED_FOR)
    }
}

/// Looks at every stream and consumer.
///
/// # Errors
/// Where the broker does not answer.
pub(super) async fn all(
    jetstream: &jetstream::Context,
    topology: &Topology,
    settings: &TopologySettings,
    refused: &mut Refused,
) -> anyhow::Result<Put> {
    let mut put = Put::default();
    for stream in topology.streams {
        one_stream(jetstream, stream, &stream_json(stream, settings), refused, &mut put).await?;
    }
    for consumer in topology.consumers {
        one_consumer(jetstream, consumer, settings, refused, &mut put).await?;
    }
    Ok(put)
}

async fn one_stream(
    jetstream: &jetstream::Context,
    stream: &Stream,
    wanted: &Value,
    refused: &mut Refused,
    put: &mut Put,
) -> anyhow::Result<()> {
    let name = format!("stream {}", stream.name);
    let subject = format!("STREAM.INFO.{}", stream.name);
    let Info::Found(Found { config: found, .. }) = info(jetstream, &subject).await? else {
        match request(jetstream, &format!("STREAM.CREATE.{}", stream.name), wanted).await? {
            Ok(_) => put.changes.push(format!("{name} created")),
            Err(error) => refused.tell(name, format!("cannot be made: {error}"), put),
        }
        return Ok(());
    };
    let before = differences(&found, wanted);
    if before.is_empty() || refused.is_recent(&name, &list(&before)) {
        return Ok(());
    }
    let update = format!("STREAM.UPDATE.{}", stream.name);
    let answer = request(jetstream, &update, wanted).await?;
    if answer.is_err() {
        // One property that cannot be changed must not keep the others from it.
        request(jetstream, &update, &with(wanted, &found, &FIXED)).await?.ok();
    }
    // What the broker says it did is looked at too: an update it took may have left out what it does not change.
    let Info::Found(Found { config: now, .. }) = info(jetstream, &subject).await? else { return Ok(()) };
    // Somebody may have changed something else meanwhile: that is looked at next time.
    let now = differences(&now, wanted);
    let (mut left, done): (Vec<_>, Vec<_>) = before.into_iter().partition(|difference| now.contains(difference));
    if !done.is_empty() {
        put.changes.push(format!("{name} put back: it had {}", list(&done)));
    }
    refused.0.insert(name, (list(&left), Instant::now()));
    left.retain(Difference::is_known);
    if !left.is_empty() {
        let why = answer.err().map(|error| format!(": {error}")).unwrap_or_default();
        let how = match left.iter().all(|difference| FIXED.contains(&&*difference.property)) {
            true => "which can only be changed by deleting it, with all it holds, by hand",
            false => "which the broker does not change",
        };
        put.impossible.push(format!("the stream {} has {}, {how}{why}", stream.name, list(&left)));
    }
    Ok(())
}

/// As it should be, but with these properties as they are.
fn with(wanted: &Value, found: &Value, properties: &[&str]) -> Value {
    let mut merged = wanted.clone();
    for property in properties {
        match (merged.as_object_mut(), found.get(property)) {
            (Some(merged), Some(value)) => drop(merged.insert((*property).to_owned(), value.clone())),
            (Some(merged), None) => drop(merged.remove(*property)),
            _ => {}
        }
    }
    merged
}

async fn one_consumer(
    jetstream: &jetstream::Context,
    consumer: &Consumer,
    settings: &TopologySettings,
    refused: &mut Refused,
    put: &mut Put,
) -> anyhow::Result<()> {
    let Consumer { stream, name: service } = consumer;
    let name = format!("consumer {service} of {stream}");
    let (subject, wanted) = (format!("CONSUMER.INFO.{stream}.{service}"), consumer_json(consumer));
    let create = format!("CONSUMER.CREATE.{stream}.{service}");
    let body = |config: &Value| json!({"stream_name": stream, "config": config, "action": ""});
    let found = match info(jetstream, &subject).await? {
        Info::Found(found) => found,
        Info::Missing => {
            let Some(config) = beginning(jetstream, stream, &wanted, settings).await? else { return Ok(()) };
            match request(jetstream, &create, &body(&config)).await? {
                Ok(_) => put.changes.push(format!("{name} created")),
                Err(error) => refused.tell(name, format!("cannot be made: {error}"), put),
            }
            return Ok(());
        }
    };
    // Somebody paused it on purpose, until a time of their choice. The service that waits says so too.
    put.paused.extend(found.paused(consumer));
    let before = of_consumer(&found.config, &wanted);
    if before.is_empty() || refused.is_recent(&name, &list(&before)) {
        return Ok(());
    }
    let in_place = with(&wanted, &found.config, &[BEGAN.as_slice(), &[PAUSED]].concat());
    let mut answer = request(jetstream, &create, &body(&in_place)).await?;
    let is_right = async || -> anyhow::Result<bool> {
        let Info::Found(now) = info(jetstream, &subject).await? else { return Ok(false) };
        let now = of_consumer(&now.config, &wanted);
        Ok(!before.iter().any(|difference| difference.is_known() && now.contains(difference)))
    };
    // What cannot be changed in place is made anew, which loses nothing: see `beginning`.
    let mut how = "put back";
    if !is_right().await? && answer.as_ref().err().is_none_or(|error| error.code() != UNAVAILABLE) {
        how = "made anew";
        let Some(config) = beginning(jetstream, stream, &wanted, settings).await? else { return Ok(()) };
        // Not answered where an older configuration of the rights forbids it; then it is refused.
        request(jetstream, &format!("CONSUMER.DELETE.{stream}.{service}"), &json!({})).await.ok();
        answer = request(jetstream, &create, &body(&with(&config, &found.config, &[PAUSED]))).await?;
    }
    refused.0.insert(name.clone(), (list(&before), Instant::now()));
    if !is_right().await? {
        let why = answer.err().map(|error| format!(": {error}")).unwrap_or_default();
        put.impossible.push(format!("the {name} has {}, which cannot be changed{why}", list(&before)));
    } else if before.iter().any(Difference::is_known) {
        refused.0.remove(&name);
        put.changes.push(format!("{name} {how}: it had {}", list(&before)));
    }
    Ok(())
}

/// A consumer that begins where sagas can still be waiting for something, and not with all that its stream holds: everybody would wait until
/// it had caught up. What is older is asked again by the sagas' timers, and was handled or is of no use any more. Reckoned by the clock that
/// dated the messages. `None` where the stream is missing.
async fn beginning(
    jetstream: &jetstream::Context,
    stream: &str,
    wanted: &Value,
    settings: &TopologySettings,
) -> anyhow::Result<Option<Value>> {
    let mut config = wanted.clone();
    let Ok(info) = request(jetstream, &format!("STREAM.INFO.{stream}"), &json!({})).await? else { return Ok(None) };
    let now = info["ts"].as_str().and_then(|time| DateTime::parse_from_rfc3339(time).ok());
    let back = TimeDelta::from_std(settings.consumer_look_back).unwrap_or(TimeDelta::MAX);
    let start = now.unwrap_or_else(|| Utc::now().fixed_offset()).checked_sub_signed(back);
    if let (Some(start), Some(config)) = (start, config.as_object_mut()) {
        config.insert("deliver_policy".to_owned(), "by_start_time".into());
        config.insert("opt_start_time".to_owned(), start.to_utc().to_rfc3339_opts(SecondsFormat::Nanos, true).into());
    }
    Ok(Some(config))
}
