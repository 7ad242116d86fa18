//! The spans of a saga, from its history.

use std::collections::BTreeMap;

use chassis::otlp::{Attribute, Span, attribute, ended, nanos, span};
use chrono::{DateTime, Utc};
use envelope::TraceState;
use saga::{Action, Effect, Entry, Input, Outcome, Phase, step_name};

use crate::saga::{LoadedSaga, Record, Saga};

/// Why a trace is told now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It has come to its end.
    Final,
    /// It waits for too long; until then.
    Stuck(DateTime<Utc>),
}

/// A span of the whole, and one for each command with its reply, under it.
pub(crate) fn spans<S: Saga>(saga: &LoadedSaga<S>, end: End) -> Vec<Span> {
    let LoadedSaga { record, history } = saga;
    let entries: Vec<Entry<S>> = history.iter().filter_map(|entry| serde_json::from_str(entry.get()).ok()).collect();
    let mut tree = Tree::new(record);
    entries.iter().for_each(|entry| tree.entry(entry));
    tree.end(end)
}

struct Tree<'a, S: Saga> {
    record: &'a Record<S>,
    root: Span,
    done: Vec<Span>,
    open: BTreeMap<(S::Step, bool), Span>,
}

impl<'a, S: Saga> Tree<'a, S> {
    fn new(record: &'a Record<S>) -> Self {
        let root = Span {
            trace_id: record.trace.parent.trace_id().to_be_bytes().to_vec(),
            span_id: span_id(record, 0),
            // A caller's span is there; that of a trace which began here is this one.
            parent_span_id: record.trace.parent.caller().map(|id| id.to_be_bytes().to_vec()).unwrap_or_default(),
            trace_state: record.trace.state.as_ref().map(TraceState::as_str).unwrap_or_default().to_owned(),
            name: S::NAME.to_owned(),
            kind: span::SpanKind::Server.into(),
            flags: 1,
            start_time_unix_nano: nanos(record.created_at),
            attributes: vec![
                attribute("waybill.saga", S::NAME),
                attribute("waybill.saga.id", record.id().to_string()),
                attribute("waybill.saga.status", record.status()),
                attribute("waybill.saga.plan", record.state.plan_version()),
            ],
            ..Span::default()
        };
        Self { record, root, done: Vec::new(), open: BTreeMap::new() }
    }

    fn entry(&mut self, entry: &Entry<S>) {
        let time = entry.time;
        match &entry.input {
            Input::Start | Input::Due(_) => {}
            Input::Reply(reply) => {
                if let Some((step, outcome)) = self.record.request.outcome(reply) {
                    let (undone, refused) = match outcome {
                        Outcome::Done(_) => (false, None),
                        Outcome::Refused(refusal) => (false, Some(serde_json::to_string(&refusal).unwrap_or_default())),
                        Outcome::Undone => (true, None),
                    };
                    self.close((step, undone), time, refused);
                }
            }
            Input::Expired(step) => self.close((*step, false), time, Some("no reply before its deadline".to_owned())),
            Input::Overdue => self.happened(time, "the deadline of the whole has passed", Vec::new()),
            Input::Cancel => self.happened(time, "cancelled", Vec::new()),
            Input::Operator { action, reason, .. } => {
                let action = match action {
                    Action::Retry => "retry",
                    Action::Cancel => "cancel",
                    Action::Compensate => "compensate",
                    Action::Skip(step) => {
                        self.close((*step, true), time, Some("given up by an operator".to_owned()));
                        "skip"
                    }
                };
                self.happened(
                    time,
                    "operator",
                    vec![("waybill.action", action.into()), ("waybill.reason", reason.as_str().into())],
                );
            }
        }
        for effect in &entry.sent {
            match effect {
                Effect::Execute { step, attempt } => self.sent((*step, false), *attempt, time),
                Effect::Compensate { step, attempt } => self.sent((*step, true), *attempt, time),
                Effect::Notify(_) => {}
            }
        }
    }

    /// A command was sent, for the first time or again.
    fn sent(&mut self, (step, undo): (S::Step, bool), attempt: u32, time: DateTime<Utc>) {
        let (channel, name) = (S::channel(step), step_name::<S>(step));
        if let Some(open) = self.open.get_mut(&(step, undo)).filter(|_| attempt > 1) {
            open.events.push(event(time, "sent again", vec![("waybill.attempt", attempt.into())]));
            return;
        }
        let number = self.done.len() + self.open.len() + 1;
        let subject = if undo { channel.compensate.unwrap_or_default() } else { channel.execute };
        let span = Span {
            trace_id: self.root.trace_id.clone(),
            span_id: span_id(self.record, number as u64),
            parent_span_id: self.root.span_id.clone(),
            trace_state: self.root.trace_state.clone(),
            name: if undo { format!("undo {name}") } else { name.clone() },
            kind: span::SpanKind::Client.into(),
            flags: 1,
            start_time_unix_nano: nanos(time),
            attributes: vec![
                attribute("waybill.step", name),
                attribute("waybill.direction", if undo { "undo" } else { "act" }),
                attribute("peer.service", channel.participant.name),
                attribute("messaging.system", "nats"),
                attribute("messaging.destination.name", subject),
            ],
            ..Span::default()
        };
        // What was sent before and is not answered is over: nobody waits for it any more.
        if let Some(before) = self.open.insert((step, undo), span) {
            self.done.push(ended(before, time, Some("no reply".to_owned())));
        }
    }

    fn close(&mut self, key: (S::Step, bool), time: DateTime<Utc>, failed: Option<String>) {
        if let Some(open) = self.open.remove(&key) {
            self.done.push(ended(open, time, failed));
        }
    }

    fn happened(&mut self, time: DateTime<Utc>, name: &str, attributes: Vec<(&str, Attribute)>) {
        self.root.events.push(event(time, name, attributes));
    }

    fn end(mut self, end: End) -> Vec<Span> {
        let (time, outcome, failed) = match (end, self.record.state.phase()) {
            (End::Stuck(until), _) => (until, "stuck", Some("it waits for a reply for too long".to_owned())),
            (End::Final, Phase::Completed) => (self.record.updated_at, "completed", None),
            (End::Final, _) => (self.record.updated_at, "compensated", Some(self.record.status().to_owned())),
        };
        for (_, open) in std::mem::take(&mut self.open) {
            self.done.push(ended(open, time, Some("no reply".to_owned())));
        }
        self.root.attributes.push(attribute("waybill.saga.outcome", outcome));
        let mut spans = vec![ended(self.root, time, failed)];
        spans.append(&mut self.done);
        spans
    }
}

fn event(time: DateTime<Utc>, name: &str, attributes: Vec<(&str, Attribute)>) -> span::Event {
    let attributes = attributes.into_iter().map(|(key, value)| attribute(key, value)).collect();
    span::Event { time_unix_nano: nanos(time), name: name.to_owned(), attributes, ..span::Event::default() }
}

/// The id of a span: always the same for the same part of the same history, so that who tells it again tells no second one. A saga that goes on after
/// its trace was told has other spans.
fn span_id<S: Saga>(record: &Record<S>, number: u64) -> Vec<u8> {
    // SplitMix64: each bit of what goes in changes half of what comes out.
    let mut mixed = record.seed() ^ (u64::from(record.sequence) << 32 | number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (mixed ^ (mixed >> 31) | 1).to_be_bytes().to_vec()
}
