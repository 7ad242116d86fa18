//! What a batch sends: events packed into as few messages as may be.

use std::borrow::Cow;

use chrono::{DateTime, Utc};
use envelope::{BATCH_CONTENT_TYPE, BATCH_MAX_BYTES, BATCH_MAX_EVENTS, CloudEvent, Data, Message, TraceContext};
use sqlx::Postgres;
use sqlx::postgres::PgArguments;
use sqlx::query::Query;
use uuid::Uuid;

use crate::note::Note;
use crate::packet::{Packet, headers_to_json};

/// An event to be sent, before its envelope.
pub struct NewEvent<M> {
    /// Unique within the source; the same for a repetition.
    pub id: String,
    /// What it is about.
    pub subject: String,
    /// The trace it belongs to.
    pub trace: Option<TraceContext>,
    /// For commands.
    pub attempt: Option<u32>,
    /// What it says.
    pub message: M,
}

impl<M> NewEvent<M> {
    /// The reply to a command. It bears the command's id, so that the same reply given twice is the same event.
    pub fn reply<C>(command: &CloudEvent<C>, message: impl Into<M>) -> Self {
        Self {
            id: command.id.clone(),
            subject: command.subject.clone(),
            trace: command.trace.clone(),
            attempt: None,
            message: message.into(),
        }
    }

    /// An event for everyone about a thing that has no saga; `id` must be unique.
    pub fn event(id: impl ToString, subject: impl ToString, message: impl Into<M>) -> Self {
        Self { id: id.to_string(), subject: subject.to_string(), trace: None, attempt: None, message: message.into() }
    }
}

/// What a batch sends: written to the outbox with it, and to the broker after it.
pub struct Outgoing {
    source: &'static str,
    now: DateTime<Utc>,
    open: Vec<OpenBatch>,
    packets: Vec<Packet>,
    notes: Vec<u8>,
    /// Of its row in the outbox.
    id: Uuid,
    in_order: bool,
}

/// A JSON array in the making, without its closing bracket.
struct OpenBatch {
    subject: &'static str,
    events: usize,
    json: Vec<u8>,
}

impl Outgoing {
    /// Nothing yet. `source` is the speaker (`/waybill/order`), `now` what the events bear as their time.
    pub fn new(source: &'static str, now: DateTime<Utc>) -> Self {
        Self { source, now, open: Vec::new(), packets: Vec::new(), notes: Vec::new(), id: Uuid::now_v7(), in_order: false }
    }

    /// Adds an event to the batch for a subject; a batch that is full becomes a message.
    pub fn send<M: Message>(&mut self, subject: &'static str, new: NewEvent<M>) -> anyhow::Result<()> {
        let event = self.event(new);
        let position = self.open.iter().position(|batch| batch.subject == subject).unwrap_or_else(|| {
            self.open.push(OpenBatch { subject, events: 0, json: Vec::new() });
            self.open.len() - 1
        });
        let batch = &mut self.open[position];
        if batch.events == BATCH_MAX_EVENTS {
            self.packets.push(batch.take());
        }
        let before = batch.json.len();
        batch.json.push(if batch.events == 0 { b'[' } else { b',' });
        event.encode(&mut batch.json)?;
        // It no longer fits, with the closing bracket: it opens the next message. One too large on its own stays alone.
        if batch.json.len() >= BATCH_MAX_BYTES && batch.events > 0 {
            let mut next = batch.json.split_off(before);
            next[0] = b'[';
            self.packets.push(batch.take());
            batch.json = next;
        }
        batch.events += 1;
        Ok(())
    }

    /// Adds an event for everyone: a message of its own, attributes in the headers, readable with `nats sub`
    /// (CloudEvents NATS binding, binary mode).
    pub fn publish_event<M: Message>(&mut self, subject: String, new: NewEvent<M>) -> anyhow::Result<()> {
        let event = self.event(new);
        let mut headers: Vec<(Cow<'static, str>, String)> = vec![
            ("Content-Type".into(), "application/json".into()),
            ("ce-specversion".into(), "1.0".into()),
            ("ce-id".into(), percent_encoded(&event.id)),
            ("ce-source".into(), event.source.into_owned()),
            ("ce-type".into(), event.message.kind().into()),
            ("ce-time".into(), event.time.to_rfc3339_opts(chrono::SecondsFormat::Micros, true)),
            ("ce-subject".into(), percent_encoded(&event.subject)),
        ];
        if let Some(TraceContext { parent, state }) = event.trace {
            headers.push(("ce-traceparent".into(), parent.as_str().to_owned()));
            headers.push(("traceparent".into(), parent.into()));
            if let Some(state) = state {
                headers.push(("ce-tracestate".into(), percent_encoded(state.as_str())));
                headers.push(("tracestate".into(), state.as_str().to_owned()));
            }
        }
        let payload = serde_json::to_vec(&Data(&event.message))?.into();
        self.packets.push(Packet { subject, headers, payload });
        Ok(())
    }

    /// Notes what everything sent here can be made from again: then the outbox keeps these notes, in their order, and not the messages.
    /// For a service whose messages say nothing that its database does not hold; see [`RebuildMessages`](crate::RebuildMessages).
    pub fn note(&mut self, note: Note) {
        self.notes.extend_from_slice(&note.bytes());
    }

    /// Keeps its place in the order of the outbox: it goes out after every earlier row that tells of the same, of whatever instance. For
    /// what comes of itself (a timer, a person). What answers a message needs it not: that message went out after what was said before it.
    pub fn keep_order(&mut self) {
        self.in_order = true;
    }

    /// Whether nothing is sent.
    pub(crate) fn is_empty(&self) -> bool {
        self.packets.is_empty() && self.open.is_empty()
    }

    /// Binds the outbox row, the first five parameters of a statement. Nothing is added after it.
    pub(crate) fn bind<'q>(&mut self, query: Query<'q, Postgres, PgArguments>) -> Query<'q, Postgres, PgArguments> {
        self.seal();
        // Nobody needs the messages where there are notes to make them again from.
        let kept = if self.notes.is_empty() { self.packets.as_slice() } else { &[] };
        query
            .bind((!self.packets.is_empty()).then_some(self.id))
            .bind(kept.iter().map(|packet| packet.subject.as_str()).collect::<Vec<_>>())
            .bind(headers_to_json(kept))
            .bind(kept.iter().map(|packet| &*packet.payload).collect::<Vec<_>>())
            .bind(self.notes.as_slice())
    }

    /// The id of its row in the outbox.
    pub(crate) fn id(&self) -> Uuid {
        self.id
    }

    pub(crate) fn is_in_order(&self) -> bool {
        self.in_order
    }

    /// The messages. Their places are part of their ids, so they stay: the batches that were open at the end, then what came before.
    pub fn into_packets(self) -> Vec<Packet> {
        self.into_notes_and_packets().1
    }

    pub(crate) fn into_notes_and_packets(mut self) -> (Vec<u8>, Vec<Packet>) {
        self.seal();
        (self.notes, self.packets)
    }

    /// Closes the open batches.
    fn seal(&mut self) {
        let open = self.open.drain(..).filter(|batch| batch.events > 0).map(|mut batch| batch.take());
        self.packets.splice(0..0, open);
    }

    fn event<M>(&self, new: NewEvent<M>) -> CloudEvent<M> {
        CloudEvent {
            id: new.id,
            source: self.source.into(),
            time: self.now,
            subject: new.subject,
            trace: new.trace,
            attempt: new.attempt,
            message: new.message,
        }
    }
}

impl OpenBatch {
    fn take(&mut self) -> Packet {
        let mut payload = std::mem::take(&mut self.json);
        payload.push(b']');
        self.events = 0;
        Packet {
            subject: self.subject.to_owned(),
            headers: vec![("Content-Type".into(), BATCH_CONTENT_TYPE.into())],
            payload: payload.into(),
        }
    }
}

/// Percent-encodes what a header cannot hold (CloudEvents NATS binding, section 3.1.3.2).
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' ' | b'"' | b'%' | 0..=0x1f | 0x7f.. => encoded.push_str(&format!("%{byte:02X}")),
            _ => encoded.push(byte.into()),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::{Deserialize, Serialize};

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    pub struct Validate {
        user_id: Uuid,
    }

    envelope::vocabulary! {
        /// What is asked.
        pub enum Command {
            /// May this user order?
            "waybill.user.validate.v1" => Validate(Validate),
        }
    }

    fn new_event(number: u64) -> NewEvent<Command> {
        let (id, subject) = (number.to_string(), Uuid::from_u128(number.into()).to_string());
        NewEvent { id, subject, trace: None, attempt: Some(1), message: Validate { user_id: Uuid::nil() }.into() }
    }

    #[test]
    fn events_for_one_subject_are_packed() {
        let mut outgoing = Outgoing::new("/waybill/test", Utc::now());
        for number in 0..600 {
            outgoing.send("a", new_event(number)).unwrap();
        }
        outgoing.send("b", new_event(600)).unwrap();
        let packets = outgoing.into_packets();
        let mut sizes: Vec<(String, usize)> = packets
            .iter()
            .map(|packet| (packet.subject.clone(), envelope::split_batch(&packet.payload).unwrap().len()))
            .collect();
        sizes.sort();
        assert_eq!(sizes, [("a".to_owned(), 88), ("a".to_owned(), 256), ("a".to_owned(), 256), ("b".to_owned(), 1)]);
        assert!(packets.iter().all(|packet| packet.payload.len() <= BATCH_MAX_BYTES));
    }

    #[test]
    fn headers_are_encoded() {
        assert_eq!(percent_encoded("a b\"c%\n\u{e9}"), "a%20b%22c%25%0A%C3%A9");
    }
}
