//! Dead letters: what of a message cannot be handled is kept as it was, with why, where and how often, before the message is let go.
//!
//! A letter that was redriven and fails again is buried again. Its headers travel with it, so it comes back with its counts.

mod graveyard;

use std::borrow::Cow;
use std::fmt;

use async_nats::HeaderMap;
use async_nats::jetstream::message::Info;
use bytes::Bytes;
use chrono::{SecondsFormat, Utc};
use envelope::BATCH_MAX_BYTES;
use envelope::Consumer;
use envelope::dead_letter::{CONSUMER, DELIVERIES, INDEX, REASON, REDRIVES, SEQUENCE, STREAM, SUBJECT, TRUNCATED, TYPE};

pub(crate) use self::graveyard::Graveyard;
use crate::packet::Packet;

/// The longest reason: it may quote what came, and a message whose headers are too long would never be stored.
const LONGEST_REASON: usize = 500;

/// What is wrong: each kind has its own share of what is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// The message is no batch of events.
    NoBatch,
    /// Some of its events cannot be read.
    Unreadable,
    /// The handler failed on some of its events, each alone.
    Failed,
}

impl Kind {
    /// All of them.
    pub(crate) const ALL: [Self; 3] = [Self::NoBatch, Self::Unreadable, Self::Failed];

    /// As metrics and logs call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::NoBatch => "no_batch",
            Self::Unreadable => "unreadable",
            Self::Failed => "failed",
        }
    }
}

/// An event that could not be handled.
pub(crate) struct BadEvent {
    /// Its place in its message.
    pub index: usize,
    /// The event as it came.
    pub payload: Bytes,
}

/// What of one message could not be handled: its bad events, or the whole.
pub(crate) struct DeadLetter {
    kind: Kind,
    /// Why; of several events the first one's reason.
    reason: String,
    /// Each bad event; none where the whole message is bad.
    events: Vec<BadEvent>,
    /// The whole message.
    message: Bytes,
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

    /// The stream it came from.
    pub(crate) fn stream(&self) -> &'static str {
        self.consumer.stream
    }

    /// The consumer that brought it.
    pub(crate) fn consumer(&self) -> &'static str {
        self.consumer.name
    }

    /// What tells its message from others.
    pub(crate) fn message(&self) -> (&'static str, u64) {
        (self.consumer.stream, self.sequence)
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

impl DeadLetter {
    /// A message that is no batch.
    pub(crate) fn whole(message: Bytes, reason: String) -> Self {
        Self { kind: Kind::NoBatch, reason, events: Vec::new(), message }
    }

    /// A bad event of a message.
    pub(crate) fn event(kind: Kind, event: BadEvent, reason: String) -> Self {
        Self { kind, reason, events: vec![event], message: Bytes::new() }
    }

    /// Another bad event of the same message.
    pub(crate) fn add(&mut self, event: BadEvent) {
        self.events.push(event);
    }

    /// The whole message of so many events, because all that were read are bad.
    pub(crate) fn of_all(self, message: Bytes, events: usize) -> Self {
        let reason = format!("none of the first {} of {events} events can be read: {}", self.events.len(), self.reason);
        Self { kind: self.kind, reason, events: Vec::new(), message }
    }

    /// What is kept: the event as it was, several of them as an array, or the whole message.
    fn payload(&self) -> Bytes {
        match self.events.as_slice() {
            [] => self.message.clone(),
            [only] => only.payload.clone(),
            events => {
                let events: Vec<&[u8]> = events.iter().map(|event| event.payload.as_ref()).collect();
                [b"[".as_slice(), &events.join(b",".as_slice()), b"]"].concat().into()
            }
        }
    }

    /// The letter as it is published: a CloudEvent in binary mode, whose data is what is kept.
    fn packed(&self, origin: &Origin) -> (String, Packet) {
        let consumer = &origin.consumer;
        let reason = reason_for_header(&self.reason);
        let indices: Vec<String> = self.events.iter().map(|event| event.index.to_string()).collect();
        // The time tells a message from its namesake in a stream that was wiped and counts from one again.
        let place = match indices.as_slice() {
            [] => "whole".to_owned(),
            [only] => only.clone(),
            [first, ..] => format!("{first}+{}", indices.len() - 1),
        };
        let id = format!("dead-{}-{}-{}-{place}", consumer.stream, origin.sequence, origin.published);
        let content_type = if self.events.is_empty() { "application/octet-stream" } else { "application/json" };
        let mut headers: Vec<(Cow<'static, str>, String)> = vec![
            ("Content-Type".into(), content_type.into()),
            ("ce-specversion".into(), "1.0".into()),
            ("ce-id".into(), id.clone()),
            ("ce-source".into(), format!("/waybill/{}", consumer.name)),
            ("ce-type".into(), TYPE.into()),
            ("ce-time".into(), Utc::now().to_rfc3339_opts(SecondsFormat::Micros, true)),
            ("ce-subject".into(), origin.to_string()),
            (REASON.into(), reason),
            (STREAM.into(), consumer.stream.into()),
            (CONSUMER.into(), consumer.name.into()),
            (SUBJECT.into(), origin.subject.clone()),
            (SEQUENCE.into(), origin.sequence.to_string()),
            (DELIVERIES.into(), origin.delivered_before.saturating_add(origin.deliveries).to_string()),
        ];
        headers.extend((!indices.is_empty()).then(|| (INDEX.into(), indices.join(","))));
        headers.extend((origin.redrives > 0).then(|| (REDRIVES.into(), origin.redrives.to_string())));
        // Nothing of ours is longer. What somebody else put there must leave room for the headers, or it could not be stored at all.
        let payload = self.payload();
        let kept = payload.len().min(BATCH_MAX_BYTES);
        headers.extend((kept < payload.len()).then(|| (TRUNCATED.into(), payload.len().to_string())));
        (id, Packet { subject: consumer.dead_subject(), headers, payload: payload.slice(..kept) })
    }
}

/// A reason as a header can hold it: on one line, and not too long.
pub(crate) fn reason_for_header(reason: &str) -> String {
    reason.chars().take(LONGEST_REASON).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// A header that counts; zero where there is none.
fn number<N: std::str::FromStr + Default>(headers: Option<&HeaderMap>, name: &str) -> N {
    headers.and_then(|headers| headers.get(name)).and_then(|value| value.as_str().parse().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPLIES: Consumer = Consumer { stream: "USER_REPLIES", name: "order" };

    fn origin(headers: &[(&str, &str)]) -> Origin {
        let mut map = HeaderMap::new();
        headers.iter().for_each(|(name, value)| map.insert(*name, *value));
        Origin {
            consumer: REPLIES,
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

    fn event(index: usize, payload: &'static str) -> BadEvent {
        BadEvent { index, payload: payload.into() }
    }

    #[test]
    fn a_letter_that_comes_back_brings_its_counts() {
        let letter = DeadLetter::event(Kind::Unreadable, event(4, "{}"), "no\nsuch\u{0}thing".to_owned());
        let (id, header, payload) = packed(&letter, &origin(&[]));
        assert_eq!((id.as_str(), payload.as_ref()), ("dead-USER_REPLIES-7-1-4", b"{}".as_slice()));
        assert_eq!((header(DELIVERIES).as_deref(), header(REDRIVES), header(INDEX).as_deref()), (Some("3"), None, Some("4")));
        assert_eq!(header(REASON).as_deref(), Some("no such thing"));
        let (_, header, _) = packed(&letter, &origin(&[(REDRIVES, "2"), (DELIVERIES, "6")]));
        assert_eq!((header(DELIVERIES).as_deref(), header(REDRIVES).as_deref()), (Some("9"), Some("2")));
        let (_, header, _) = packed(&letter, &origin(&[(REDRIVES, "many")]));
        assert_eq!(header(REDRIVES), None);
    }

    #[test]
    fn bad_events_of_one_message_share_a_letter() {
        let mut letter = DeadLetter::event(Kind::Unreadable, event(1, "7"), "a number".to_owned());
        letter.add(event(3, "{\"a\":1}"));
        letter.add(event(12, "null"));
        let (id, header, payload) = packed(&letter, &origin(&[]));
        assert_eq!((id.as_str(), payload.as_ref()), ("dead-USER_REPLIES-7-1-1+2", b"[7,{\"a\":1},null]".as_slice()));
        assert_eq!((header(INDEX).as_deref(), header(REASON).as_deref()), (Some("1,3,12"), Some("a number")));
    }

    #[test]
    fn a_letter_is_a_cloud_event() {
        let (id, header, _) = packed(&DeadLetter::event(Kind::Failed, event(4, "{}"), "no".to_owned()), &origin(&[]));
        let named = ["ce-specversion", "ce-source", "ce-type", "ce-subject", "Content-Type"].map(|name| header(name).unwrap());
        assert_eq!(named, ["1.0", "/waybill/order", "waybill.dead_letter.v1", "USER_REPLIES/7", "application/json"]);
        assert_eq!(header("ce-id"), Some(id));
        assert!(header("ce-time").unwrap().parse::<chrono::DateTime<Utc>>().is_ok());
        let (_, header, _) = packed(&DeadLetter::whole("\u{0}".into(), "no".to_owned()), &origin(&[]));
        assert_eq!(header("Content-Type").as_deref(), Some("application/octet-stream"));
    }

    #[test]
    fn what_is_too_long_to_be_stored_is_cut_and_says_so() {
        let payload = Bytes::from(vec![b'x'; BATCH_MAX_BYTES + 1]);
        let letter = DeadLetter::whole(payload, "é".repeat(100_000));
        let (id, header, kept) = packed(&letter, &origin(&[]));
        assert_eq!((id.as_str(), kept.len()), ("dead-USER_REPLIES-7-1-whole", BATCH_MAX_BYTES));
        assert_eq!((header(INDEX), header(TRUNCATED)), (None, Some((BATCH_MAX_BYTES + 1).to_string())));
        assert_eq!(header(REASON).unwrap().chars().count(), LONGEST_REASON);
    }
}
