//! Dead letters: an event that cannot be handled is kept as it was, with why, where and how often, before it is let go.
//!
//! A letter that was redriven and fails again is buried again. Its headers travel with it, so it comes back with its counts.

use std::borrow::Cow;
use std::fmt;

use async_nats::HeaderMap;
use async_nats::jetstream::message::Info;
use bytes::Bytes;
use events::BATCH_MAX_BYTES;
use events::dead_letter::{CONSUMER, DELIVERIES, INDEX, REASON, REDRIVES, SEQUENCE, STREAM, SUBJECT, TRUNCATED};
use events::streams::Consumer;

use crate::broker::Broker;
use crate::outgoing::Packet;

/// Letters awaiting their acknowledgement at once: a flood of them is stored at the broker's pace, and takes no more memory than this.
const AT_ONCE: usize = 128;

/// The longest reason: it may quote what came, and a message whose headers are too long would never be stored.
const LONGEST_REASON: usize = 500;

/// Something that could not be handled.
pub(crate) struct DeadLetter {
    /// The event, or the whole message.
    pub payload: Bytes,
    /// The event's place in the message; `None`: the whole message, which is no batch.
    pub index: Option<usize>,
    /// Why.
    pub reason: String,
}

/// Where a message came from.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    consumer: Consumer,
    subject: String,
    sequence: u64,
    deliveries: i64,
    published: i64,
    redrives: u32,
    delivered_before: i64,
}

impl Origin {
    pub(crate) fn of(consumer: Consumer, subject: &str, info: &Info, headers: Option<&HeaderMap>) -> Self {
        Self {
            consumer,
            subject: subject.to_owned(),
            sequence: info.stream_sequence,
            deliveries: info.delivered,
            published: info.published.timestamp_micros(),
            redrives: number(headers, REDRIVES),
            delivered_before: number(headers, DELIVERIES),
        }
    }

    /// How often this message was delivered; a message that was redriven counts from one again.
    pub(crate) fn deliveries(&self) -> i64 {
        self.deliveries
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.consumer.stream, self.sequence)
    }
}

/// Stores letters and waits until they are. The same letter stored again within the window is absorbed by its message id.
pub(crate) async fn bury(broker: &Broker, letters: &[(&Origin, &DeadLetter)]) -> anyhow::Result<()> {
    let Some((origin, first)) = letters.first() else { return Ok(()) };
    for some in letters.chunks(AT_ONCE) {
        broker.publish_as(some.iter().map(|(origin, letter)| letter.packed(origin)).collect()).await?;
    }
    tracing::error!(
        stream = origin.consumer.stream,
        letters = letters.len(),
        sequence = origin.sequence,
        index = first.index,
        reason = first.reason,
        "to the dead letters"
    );
    Ok(())
}

impl DeadLetter {
    fn packed(&self, origin: &Origin) -> (String, Packet) {
        let consumer = &origin.consumer;
        let reason = self.reason.chars().take(LONGEST_REASON).map(|c| if c.is_control() { ' ' } else { c }).collect();
        let mut headers: Vec<(Cow<'static, str>, String)> = vec![
            ("Content-Type".into(), "application/json".into()),
            (REASON.into(), reason),
            (STREAM.into(), consumer.stream.into()),
            (CONSUMER.into(), consumer.name.into()),
            (SUBJECT.into(), origin.subject.clone()),
            (SEQUENCE.into(), origin.sequence.to_string()),
            (DELIVERIES.into(), origin.delivered_before.saturating_add(origin.deliveries).to_string()),
        ];
        headers.extend(self.index.map(|index| (INDEX.into(), index.to_string())));
        headers.extend((origin.redrives > 0).then(|| (REDRIVES.into(), origin.redrives.to_string())));
        // Nothing of ours is longer. What somebody else put there must leave room for the headers, or it could not be stored at all.
        let kept = self.payload.len().min(BATCH_MAX_BYTES);
        headers.extend((kept < self.payload.len()).then(|| (TRUNCATED.into(), self.payload.len().to_string())));
        // The time tells a message from its namesake in a stream that was wiped and counts from one again.
        let place = self.index.map_or_else(|| "whole".to_owned(), |index| index.to_string());
        let id = format!("dead-{}-{}-{}-{place}", consumer.stream, origin.sequence, origin.published);
        (id, Packet { subject: consumer.dead_subject(), headers, payload: self.payload.slice(..kept) })
    }
}

/// A header that counts; zero where there is none.
fn number<N: std::str::FromStr + Default>(headers: Option<&HeaderMap>, name: &str) -> N {
    headers.and_then(|headers| headers.get(name)).and_then(|value| value.as_str().parse().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use events::streams::USER_REPLIES_CONSUMER;

    use super::*;

    fn origin(headers: &[(&str, &str)]) -> Origin {
        let mut map = HeaderMap::new();
        headers.iter().for_each(|(name, value)| map.insert(*name, *value));
        Origin {
            consumer: USER_REPLIES_CONSUMER,
            subject: "replies.user".to_owned(),
            sequence: 7,
            deliveries: 3,
            published: 1,
            redrives: number(Some(&map), REDRIVES),
            delivered_before: number(Some(&map), DELIVERIES),
        }
    }

    fn packed(letter: &DeadLetter, origin: &Origin) -> (String, impl Fn(&str) -> Option<String> + use<>, Bytes) {
        let (id, packet) = letter.packed(origin);
        let headers = packet.headers;
        let header = move |name: &str| headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.clone());
        (id, header, packet.payload)
    }

    #[test]
    fn a_letter_that_comes_back_brings_its_counts() {
        let letter = DeadLetter { payload: "{}".into(), index: Some(4), reason: "no\nsuch\u{0}thing".to_owned() };
        let (id, header, _) = packed(&letter, &origin(&[]));
        assert_eq!(id, "dead-USER_REPLIES-7-1-4");
        assert_eq!((header(DELIVERIES).as_deref(), header(REDRIVES), header(INDEX).as_deref()), (Some("3"), None, Some("4")));
        assert_eq!(header(REASON).as_deref(), Some("no such thing"));
        let (_, header, _) = packed(&letter, &origin(&[(REDRIVES, "2"), (DELIVERIES, "6")]));
        assert_eq!((header(DELIVERIES).as_deref(), header(REDRIVES).as_deref()), (Some("9"), Some("2")));
        let (_, header, _) = packed(&letter, &origin(&[(REDRIVES, "many")]));
        assert_eq!(header(REDRIVES), None);
    }

    #[test]
    fn what_is_too_long_to_be_stored_is_cut_and_says_so() {
        let payload = Bytes::from(vec![b'x'; BATCH_MAX_BYTES + 1]);
        let letter = DeadLetter { payload, index: None, reason: "é".repeat(100_000) };
        let (id, header, kept) = packed(&letter, &origin(&[]));
        assert_eq!((id.as_str(), kept.len()), ("dead-USER_REPLIES-7-1-whole", BATCH_MAX_BYTES));
        assert_eq!((header(INDEX), header(TRUNCATED)), (None, Some((BATCH_MAX_BYTES + 1).to_string())));
        assert_eq!(header(REASON).unwrap().chars().count(), LONGEST_REASON);
    }
}
