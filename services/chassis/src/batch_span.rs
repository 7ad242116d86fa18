//! Spans of batches, told while the work is done: one for what a handler makes of a batch, one for what the outbox publishes, each linked to those of
//! its members whose traces are told. A batch is nobody's alone, so its span begins a trace of its own.

use std::collections::BTreeSet;

use chrono::Utc;
use envelope::TraceParent;
use memchr::memmem;
use uuid::Uuid;

use crate::otlp::{Span, Traces, attribute, ended, new_span, span};
use crate::packet::{Packet, subject_id};

/// The most links of one span, as many as SDKs keep; how many more there were is told with them.
const LINKS_MAX: usize = 128;

/// A batch under way, of which somebody is told.
pub(crate) struct BatchSpan {
    traces: Traces,
    span: Span,
}

/// A message that a handler's batch is made of.
pub(crate) struct Member<'a> {
    /// Its subject.
    pub subject: &'a str,
    /// The consumer that brought it.
    pub consumer: &'static str,
    /// How many of its events are in the batch.
    pub events: usize,
    /// The events.
    pub payload: &'a [u8],
}

impl BatchSpan {
    /// What a handler makes of these messages; `None` where nobody is told of any member's trace.
    pub fn process<'a>(traces: &Traces, handler: &str, members: impl Iterator<Item = Member<'a>> + Clone) -> Option<Self> {
        let linked = members.clone().flat_map(|member| mentioned(member.payload)).filter(|trace| traces.tells(trace));
        let mut batch = Self::new(traces, ("process", "process"), span::SpanKind::Consumer, linked)?;
        batch.of(members.clone().map(|member| member.subject.to_owned()));
        let consumers: BTreeSet<&str> = members.clone().map(|member| member.consumer).collect();
        if let (Some(consumer), 1) = (consumers.first(), consumers.len()) {
            batch.span.attributes.push(attribute("messaging.consumer.group.name", *consumer));
        }
        let events: usize = members.map(|member| member.events).sum();
        batch.span.attributes.extend([attribute("waybill.handler", handler), attribute("waybill.batch.events", events)]);
        Some(batch)
    }

    /// What is put on the wire together; `None` as above.
    pub fn publish<'a>(traces: &Traces, packets: impl Iterator<Item = &'a Packet> + Clone) -> Option<Self> {
        let of_batch = |packet: &'a Packet| packet.is_batch().then(|| mentioned(&packet.payload));
        let of_event = |packet: &'a Packet| {
            let (_, value) = packet.headers.iter().find(|(name, _)| name == "traceparent")?;
            TraceParent::parse(value)
        };
        let linked = packets.clone().flat_map(of_batch).flatten().chain(packets.clone().filter_map(of_event));
        let mut batch =
            Self::new(traces, ("publish", "send"), span::SpanKind::Producer, linked.filter(|trace| traces.tells(trace)))?;
        batch.of(packets.map(|packet| without_id(&packet.subject)));
        Some(batch)
    }

    fn new(
        traces: &Traces,
        (name, kind): (&str, &str),
        of: span::SpanKind,
        linked: impl Iterator<Item = TraceParent>,
    ) -> Option<Self> {
        // Several messages of a batch may be of one trace.
        let linked: BTreeSet<(u128, u64)> = linked.map(|trace| (trace.trace_id(), trace.span_id())).collect();
        if linked.is_empty() {
            return None;
        }
        let link = |&(trace, span): &(u128, u64)| span::Link {
            trace_id: trace.to_be_bytes().to_vec(),
            span_id: span.to_be_bytes().to_vec(),
            ..span::Link::default()
        };
        let span = Span {
            trace_id: Uuid::new_v4().into_bytes().to_vec(),
            name: name.to_owned(),
            kind: of.into(),
            links: linked.iter().take(LINKS_MAX).map(link).collect(),
            dropped_links_count: linked.len().saturating_sub(LINKS_MAX) as u32,
            attributes: vec![
                attribute("messaging.system", "nats"),
                attribute("messaging.operation.name", name),
                attribute("messaging.operation.type", kind),
            ],
            ..new_span(Utc::now())
        };
        Some(Self { traces: traces.clone(), span })
    }

    /// How many messages it is made of, by their subjects; and where they are sent to, if that is one place.
    fn of(&mut self, subjects: impl Iterator<Item = String>) {
        let (mut messages, mut places) = (0_usize, BTreeSet::new());
        subjects.for_each(|subject| {
            messages += 1;
            places.insert(subject);
        });
        self.span.attributes.push(attribute("messaging.batch.message_count", messages));
        if let (Some(subject), 1) = (places.first(), places.len()) {
            let name = if subject.ends_with('*') { "messaging.destination.template" } else { "messaging.destination.name" };
            self.span.attributes.push(attribute(name, subject.as_str()));
            self.span.name = format!("{} {subject}", self.span.name);
        }
    }

    /// It is over. `failed`: of what kind its failure is, and what there is to say of it.
    pub fn end(mut self, failed: Option<(&str, String)>) {
        self.span.attributes.extend(failed.as_ref().map(|(kind, _)| attribute("error.type", *kind)));
        self.traces.tell(vec![ended(self.span, Utc::now(), failed.map(|(_, why)| why))]);
    }
}

/// A subject as its kind is called: an event's own ends in what it is about.
fn without_id(subject: &str) -> String {
    match (subject_id(subject), subject.rsplit_once('.')) {
        (Some(_), Some((kind, _))) => format!("{kind}.*"),
        _ => subject.to_owned(),
    }
}

/// The traces that events in a batch say they belong to. Only the text is looked at, which is a tenth of the work of reading it: that is for whoever
/// handles them.
fn mentioned(payload: &[u8]) -> impl Iterator<Item = TraceParent> {
    const NAME: &[u8] = b"\"traceparent\"";
    const LENGTH: usize = 55;
    memmem::find_iter(payload, NAME).filter_map(|at| {
        let value = payload[at + NAME.len()..].trim_ascii_start().strip_prefix(b":")?.trim_ascii_start().strip_prefix(b"\"")?;
        let (value, end) = value.split_at_checked(LENGTH)?;
        TraceParent::parse(std::str::from_utf8(value).ok()?).filter(|_| end.starts_with(b"\""))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;
    use crate::otlp::TraceSettings;

    /// A batch of so many members, each of a trace of its own whose flags are these.
    fn packet(members: u128, flags: &str) -> Packet {
        let member =
            |trace: u128| format!(r#"{{"traceparent":"00-{:032x}-00f067aa0ba902b7-{flags}"}}"#, (trace << 64) | ((1 << 56) - 1));
        let payload = format!("[{}]", (1..=members).map(member).collect::<Vec<_>>().join(","));
        let headers = vec![("Content-Type".into(), envelope::BATCH_CONTENT_TYPE.to_owned())];
        Packet { subject: "commands.user.validate".to_owned(), headers, payload: payload.into() }
    }

    #[test]
    fn a_batch_is_linked_to_each_sampled_trace_once_and_to_so_many_at_most() {
        let receiver = Some("http://127.0.0.1:9".to_owned().into());
        let traces = |traces_share| {
            let settings = TraceSettings { otlp_url: receiver.clone(), traces_share };
            Traces::new(Metrics::new("test"), &settings).expect("a client").expect("a receiver").0
        };
        let links = |share: f64, packets: &[Packet]| {
            let span = BatchSpan::publish(&traces(share), packets.iter())?.span;
            Some((span.links.len(), span.dropped_links_count))
        };
        assert_eq!(links(1.0, &[packet(3, "01"), packet(2, "03")]), Some((3, 0)));
        assert_eq!(links(1.0, &[packet(200, "01")]), Some((128, 72)));
        assert_eq!(links(1.0, &[packet(200, "00")]), None, "nobody is told of any of them");
        assert_eq!(links(100.0, &[packet(200, "00")]), Some((128, 72)), "all are in the share");
    }

    #[test]
    fn the_traces_of_a_batch_are_found_however_it_is_written() {
        let (one, two) = (
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00",
        );
        let compact = format!(
            r#"[{{"id":"1","traceparent":"{one}","data":{{"note":"\"traceparent\":\"{two}\""}}}},{{"traceparent":null}}]"#
        );
        let found = |text: &str| mentioned(text.as_bytes()).map(String::from).collect::<Vec<_>>();
        assert_eq!(found(&compact), [one]);
        assert_eq!(found(&format!("[{{ \"traceparent\" :\n\"{two}\" }}, {{\"traceparent\": \"{one}\"}}]")), [two, one]);
        for torn in ["\"traceparent\"", "\"traceparent\":", "\"traceparent\":\"00-4bf9", &format!("\"traceparent\":\"{one}-1\"")]
        {
            assert_eq!(found(torn), Vec::<String>::new(), "{torn}");
        }
    }

    #[test]
    fn what_an_event_is_about_is_no_part_of_its_kind() {
        assert_eq!(without_id("events.order.placed.01a20330-cba4-71a6-847b-2ab2ab83aaa2"), "events.order.placed.*");
        assert_eq!(without_id("commands.user.validate"), "commands.user.validate");
    }
}
