//! One dead letter, as the services bury it and as people read it.

use anyhow::Context as _;
use async_nats::jetstream::stream::{DirectGetErrorKind, Stream};
use bytes::Bytes;
use chrono::{DateTime, SecondsFormat, Utc};
use envelope::dead_letter::{CONSUMER, DELIVERIES, HEADER, INDEX, REASON, REDRIVES, SEQUENCE, STREAM, SUBJECT, TRUNCATED};
use envelope::split_batch;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::age;
use crate::broker::Stored;
use crate::json_text::spread;
use crate::output::{Tabular, plain};

/// An event that could not be handled, or a whole message.
#[derive(Clone, Debug, Serialize)]
pub struct Letter {
    /// Its sequence among the dead letters.
    pub sequence: u64,
    /// When it was buried.
    pub time: DateTime<Utc>,
    /// The stream it came from.
    pub stream: String,
    /// The consumer that could not handle it.
    pub consumer: String,
    /// The subject it came under.
    pub subject: String,
    /// Its message's sequence in that stream.
    pub source_sequence: Option<u64>,
    /// The event's place in its message; `None`: it is several events, or the whole message.
    pub index: Option<usize>,
    /// The places of its events in their message; none where it is the whole message.
    pub indices: Vec<usize>,
    /// Why it could not be handled.
    pub reason: String,
    /// How often it was delivered, over all its lives.
    pub deliveries: u64,
    /// How often it was sent back.
    pub redrives: u32,
    /// The bytes it had, where only its beginning was kept.
    pub truncated: Option<u64>,
    /// The event's type.
    pub event_type: Option<String>,
    /// The saga it is about.
    #[serde(rename = "order_id")]
    pub saga: Option<Uuid>,
    /// The headers a message had that the broker did not take: it goes back with them.
    #[serde(skip)]
    pub headers: Vec<(String, String)>,
    /// The event, or the message.
    #[serde(skip)]
    pub payload: Bytes,
}

/// What is needed of an event to tell what it is about, even where the rest cannot be read.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Peek {
    r#type: Option<String>,
    subject: Option<String>,
}

impl From<Stored> for Letter {
    fn from(stored: Stored) -> Self {
        let text = |name: &str| stored.header(name).map(str::to_owned);
        // A service can publish under its own subject only, so this is the broker's word; the headers are the service's.
        let mut place = stored.subject.split('.').skip(1).map(str::to_owned);
        let peek = |json: &[u8]| serde_json::from_slice::<Peek>(json).ok();
        let several = || split_batch(&stored.payload).ok()?.into_iter().find_map(|event| peek(event.get().as_bytes()));
        let peek = peek(&stored.payload).or_else(several).unwrap_or_default();
        let indices: Vec<usize> = text(INDEX).iter().flat_map(|text| text.split(',')).flat_map(str::parse).collect();
        Self {
            sequence: stored.sequence,
            time: stored.time,
            stream: place.next().or_else(|| text(STREAM)).unwrap_or_default(),
            consumer: place.next().or_else(|| text(CONSUMER)).unwrap_or_default(),
            subject: text(SUBJECT).unwrap_or_default(),
            source_sequence: text(SEQUENCE).and_then(|text| text.parse().ok()),
            index: (indices.len() == 1).then(|| indices[0]),
            indices,
            reason: text(REASON).unwrap_or_default(),
            deliveries: text(DELIVERIES).and_then(|text| text.parse().ok()).unwrap_or_default(),
            redrives: text(REDRIVES).and_then(|text| text.parse().ok()).unwrap_or_default(),
            truncated: text(TRUNCATED).and_then(|text| text.parse().ok()),
            // An event for everyone says it in its headers.
            event_type: peek.r#type.or_else(|| text(&format!("{HEADER}ce-type"))),
            saga: peek.subject.or_else(|| text(&format!("{HEADER}ce-subject"))).and_then(|subject| id(&subject)),
            headers: own_headers(&stored),
            payload: stored.payload,
        }
    }
}

/// An id as ours are written, and no other way.
fn id(text: &str) -> Option<Uuid> {
    text.parse::<Uuid>().ok().filter(|id| id.to_string() == text)
}

/// The headers the message had.
fn own_headers(stored: &Stored) -> Vec<(String, String)> {
    let own = stored.headers.iter().filter_map(|(name, values)| {
        let name: &str = name.as_ref();
        Some((name.strip_prefix(HEADER)?.to_owned(), values.first()?.as_str().to_owned()))
    });
    own.collect()
}

impl Letter {
    /// What it says, with its lines broken where it is JSON.
    pub fn pretty(&self) -> String {
        let text = String::from_utf8_lossy(&self.payload);
        let is_json = serde_json::from_slice::<Value>(&self.payload).is_ok();
        if is_json { spread(&text) } else { plain(text.into_owned()) }
    }

    /// All of it as one document.
    pub fn whole(&self) -> Value {
        let payload = serde_json::from_slice(&self.payload);
        let payload = payload.unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&self.payload).into_owned()));
        let mut document = serde_json::to_value(self).unwrap_or_default();
        document["payload"] = payload;
        document
    }

    /// The same without what it says: a long list of them stays small.
    pub fn without_payload(self) -> Self {
        Self { payload: Bytes::new(), headers: Vec::new(), ..self }
    }
}

impl Tabular for Letter {
    const HEADER: &'static [&'static str] =
        &["SEQUENCE", "AGE", "STREAM", "CONSUMER", "DELIVERIES", "REDRIVES", "ORDER", "REASON"];

    fn row(&self) -> Vec<String> {
        vec![
            self.sequence.to_string(),
            age::show(Utc::now() - self.time),
            self.stream.clone(),
            self.consumer.clone(),
            self.deliveries.to_string(),
            self.redrives.to_string(),
            self.saga.map(|saga| saga.to_string()).unwrap_or_default(),
            self.reason.clone(),
        ]
    }

    fn details(&self) -> Vec<(String, String)> {
        let places: Vec<String> = self.indices.iter().map(|index| (index + 1).to_string()).collect();
        let place = match places.as_slice() {
            [] => "the whole message".to_owned(),
            [only] => format!("event {only} of its message"),
            [rest @ .., last] => format!("events {} and {last} of its message", rest.join(", ")),
        };
        let mut pairs = vec![
            ("sequence", self.sequence.to_string()),
            (
                "buried",
                format!("{}, {} ago", self.time.to_rfc3339_opts(SecondsFormat::Secs, true), age::show(Utc::now() - self.time)),
            ),
            ("reason", self.reason.clone()),
            ("stream", self.stream.clone()),
            ("consumer", self.consumer.clone()),
            ("subject", self.subject.clone()),
            ("message", self.source_sequence.map(|sequence| sequence.to_string()).unwrap_or_default()),
            ("what", place),
            ("deliveries", self.deliveries.to_string()),
            ("redrives", self.redrives.to_string()),
        ];
        pairs.extend(self.truncated.map(|bytes| ("truncated", format!("it had {bytes} bytes: it cannot be sent back"))));
        pairs.extend(self.event_type.clone().map(|kind| ("type", kind)));
        pairs.extend(self.saga.map(|saga| ("order", saga.to_string())));
        pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

/// One letter; `None` if it is not there, or no longer.
///
/// # Errors
/// Where the broker cannot be asked.
pub async fn get(stream: &Stream, sequence: u64) -> anyhow::Result<Option<Letter>> {
    match stream.direct_get(sequence).await {
        Ok(message) => {
            let async_nats::jetstream::message::StreamMessage { subject, sequence, headers, payload, time } = message;
            Ok(Some(Stored { subject: subject.into_string(), sequence, time, headers, payload }.into()))
        }
        Err(error) if error.kind() == DirectGetErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).context("the dead letters cannot be read"),
    }
}

#[cfg(test)]
mod tests {
    use async_nats::HeaderMap;

    use super::*;

    fn stored(headers: &[(&str, &str)], payload: &str) -> Stored {
        let mut map = HeaderMap::new();
        headers.iter().for_each(|(name, value)| map.insert(*name, *value));
        let (subject, time) = ("dead.PRODUCT_REPLIES.order".to_owned(), Utc::now());
        Stored { subject, sequence: 7, time, headers: map, payload: payload.to_owned().into() }
    }

    #[test]
    fn a_letter_tells_what_it_is_about_even_where_it_cannot_be_read() {
        let order = "01920000-0000-7000-8000-000000000003";
        let event = format!(r#"{{"type":"waybill.product.lost.v9","subject":"{order}","data":7}}"#);
        let headers = [(REASON, "unknown"), (STREAM, "USER_REPLIES"), (INDEX, "3"), (DELIVERIES, "6"), (REDRIVES, "1")];
        let letter = Letter::from(stored(&headers, &event));
        assert_eq!((letter.stream.as_str(), letter.consumer.as_str()), ("PRODUCT_REPLIES", "order"), "the broker's word counts");
        assert_eq!(letter.row()[4..], ["6", "1", order, "unknown"]);
        assert!(letter.pretty().contains("\n  \"data\": 7"));
        assert_eq!(letter.whole()["payload"]["data"], 7);
        let text = crate::output::pairs(&letter.details());
        assert!(text.contains("event 4 of its message") && text.contains("waybill.product.lost.v9"), "{text}");
    }

    #[test]
    fn a_letter_of_several_events_tells_of_the_first_that_can_be_read() {
        let order = "01920000-0000-7000-8000-000000000003";
        let events = format!(r#"[7,{{"type":"waybill.product.lost.v9","subject":"{order}"}},null]"#);
        let letter = Letter::from(stored(&[(INDEX, "1,2,4")], &events));
        assert_eq!((letter.index, letter.indices.as_slice()), (None, [1, 2, 4].as_slice()));
        assert_eq!(letter.event_type.as_deref(), Some("waybill.product.lost.v9"));
        let text = crate::output::pairs(&letter.details());
        assert!(text.contains("events 2, 3 and 5 of its message") && text.contains(order), "{text}");
    }

    #[test]
    fn what_is_no_event_is_shown_without_moving_the_cursor() {
        let letter = Letter::from(stored(&[], "\u{1b}[2Jgarbage"));
        assert_eq!((letter.index, letter.indices.len(), letter.saga, letter.deliveries), (None, 0, None, 0));
        assert_eq!(letter.pretty(), " [2Jgarbage");
    }
}
