//! The envelope: CloudEvents 1.0 in JSON, one event or a batch of them.
//!
//! A batch is the unit on the wire between services. It is taken apart lazily, so that one bad event spoils none of the others.

use std::borrow::Cow;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{Data, DecodeError, Message, TraceContext, TraceState};

/// The content type of a batch (CloudEvents JSON format, section 4).
pub const BATCH_CONTENT_TYPE: &str = "application/cloudevents-batch+json";

/// The most events in one batch: beyond some hundred the cost per event no longer falls, while latency and memory grow.
pub const BATCH_MAX_EVENTS: usize = 256;

/// The most bytes in one batch: half of what a nats-server accepts by default, leaving room for headers.
pub const BATCH_MAX_BYTES: usize = 512 * 1024;

/// One event and what CloudEvents says about it.
#[derive(Clone, Debug, PartialEq)]
pub struct CloudEvent<T> {
    /// Unique within its source. A repetition of the same event bears the same id.
    pub id: String,
    /// Who says it, as a URI reference: `/waybill/product`.
    pub source: Cow<'static, str>,
    /// When, by the sender's clock. For people; nothing is decided by it.
    pub time: DateTime<Utc>,
    /// What it is about: the order's id, or the user's or product's.
    pub subject: String,
    /// The trace of the request that began it.
    pub trace: Option<TraceContext>,
    /// For commands: which attempt this is, from 1.
    pub attempt: Option<u32>,
    /// What is said.
    pub message: T,
}

/// The JSON form as it is written: the data in place, without a copy.
#[derive(Serialize)]
#[serde(bound = "T: Message")]
struct Written<'a, T> {
    specversion: &'static str,
    id: &'a str,
    source: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    time: DateTime<Utc>,
    subject: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    traceparent: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tracestate: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attempt: Option<u32>,
    data: Data<'a, T>,
}

/// The JSON form as it is read: the data kept raw until its type is known.
#[derive(Deserialize)]
struct Read<'a> {
    #[serde(borrow, rename = "specversion")]
    _specversion: Cow<'a, str>,
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    source: Cow<'a, str>,
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    time: DateTime<Utc>,
    #[serde(borrow)]
    subject: Cow<'a, str>,
    #[serde(borrow, default)]
    traceparent: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    tracestate: Option<Cow<'a, str>>,
    #[serde(default)]
    attempt: Option<u32>,
    #[serde(borrow)]
    data: &'a RawValue,
}

impl<T: Message> CloudEvent<T> {
    /// Writes the event in the JSON format, at the end of what is there.
    ///
    /// # Errors
    /// Where the data cannot be JSON. What was written until then stays.
    pub fn encode(&self, buffer: &mut Vec<u8>) -> serde_json::Result<()> {
        serde_json::to_writer(
            buffer,
            &Written {
                specversion: "1.0",
                id: &self.id,
                source: &self.source,
                kind: self.message.kind(),
                time: self.time,
                subject: &self.subject,
                traceparent: self.trace.as_ref().map(|trace| trace.parent.as_str()),
                tracestate: self.trace.as_ref().and_then(|trace| trace.state.as_ref()).map(TraceState::as_str),
                attempt: self.attempt,
                data: Data(&self.message),
            },
        )
    }

    /// Reads an event in the JSON format. An invalid `traceparent` is dropped with its `tracestate`, an invalid `tracestate` alone, as their
    /// specification says.
    pub fn decode(json: &RawValue) -> Result<Self, DecodeError> {
        let wire: Read = serde_json::from_str(json.get())?;
        Ok(Self {
            message: T::decode(&wire.kind, wire.data)?,
            id: wire.id.into_owned(),
            source: wire.source.into_owned().into(),
            time: wire.time,
            subject: wire.subject.into_owned(),
            trace: wire.traceparent.and_then(|parent| TraceContext::parse(&parent, wire.tracestate.as_deref())),
            attempt: wire.attempt,
        })
    }
}

/// Takes a batch apart without reading its events.
pub fn split_batch(payload: &[u8]) -> Result<Vec<&RawValue>, DecodeError> {
    Ok(serde_json::from_slice(payload)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    pub struct Validate {
        order_id: String,
    }

    crate::vocabulary! {
        /// What is asked.
        pub enum Command {
            /// May this user order?
            "waybill.user.validate.v1" => Validate(Validate),
        }
    }

    fn event() -> CloudEvent<Command> {
        CloudEvent {
            id: "7/validate_user/1".to_owned(),
            source: "/waybill/order".into(),
            time: "2026-01-02T03:04:05Z".parse().unwrap(),
            subject: "7".to_owned(),
            trace: TraceContext::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", Some("congo=\"t61\"")),
            attempt: Some(1),
            message: Validate { order_id: "7".to_owned() }.into(),
        }
    }

    fn json(event: &CloudEvent<Command>) -> String {
        let mut json = Vec::new();
        event.encode(&mut json).unwrap();
        String::from_utf8(json).unwrap()
    }

    fn raw(json: &str) -> Box<RawValue> {
        RawValue::from_string(json.to_owned()).unwrap()
    }

    #[test]
    fn an_event_survives_the_wire() {
        let event = event();
        assert_eq!(CloudEvent::<Command>::decode(&raw(&json(&event))).unwrap(), event);
    }

    #[test]
    fn a_trace_state_that_is_none_is_dropped_alone_and_goes_with_a_trace_that_is_none() {
        let bad = json(&event()).replace("congo=", "Congo=");
        assert_eq!(CloudEvent::<Command>::decode(&raw(&bad)).unwrap().trace.map(|trace| trace.state), Some(None));
        let bad = json(&event()).replace("00-4bf9", "99-4bf9");
        assert_eq!(CloudEvent::<Command>::decode(&raw(&bad)).unwrap().trace, None);
        let none = CloudEvent { trace: None, ..event() };
        assert!(!json(&none).contains("trace"), "nothing is written where there is nothing");
    }

    #[test]
    fn one_bad_event_does_not_spoil_the_batch() {
        let good = json(&event());
        let batch = format!(r#"[{good}, {{"no": "event"}}, 7, {good}]"#);
        let events = split_batch(batch.as_bytes()).unwrap();
        let read: Vec<bool> = events.iter().map(|json| CloudEvent::<Command>::decode(json).is_ok()).collect();
        assert_eq!(read, [true, false, false, true]);
    }

    #[test]
    fn what_is_no_batch_is_refused() {
        assert!(split_batch(b"not json").is_err());
        assert!(split_batch(b"{}").is_err());
    }

    #[test]
    fn an_unknown_type_is_named() {
        let json = json(&event()).replace("waybill.user.validate.v1", "waybill.user.validate.v9");
        let error = CloudEvent::<Command>::decode(&raw(&json)).unwrap_err();
        assert_eq!(error.to_string(), "the event type `waybill.user.validate.v9` is not known here");
    }

    #[test]
    fn escaped_and_added_fields_are_read() {
        let json = json(&event()).replace("/waybill/order", "\\/waybill\\/order").replacen('{', r#"{"added":[1,{"more":2}],"#, 1);
        assert_eq!(CloudEvent::<Command>::decode(&raw(&json)).unwrap(), event());
    }
}
