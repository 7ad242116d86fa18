//! Spans of batches, told while the work is done: one for what a handler makes of a batch, one for what the outbox publishes, each linked to those of
//! its members whose traces are told. A batch is nobody's alone, so its span begins a trace of its own.

use std::collections::{BTreeMap, BTreeSet};

use chrono::Utc;
use envelope::{TraceContext, TraceParent, TraceState};
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
        let linked = members.clone().flat_map(|member| told(traces, member.payload));
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
        let of_batch = |packet: &'a Packet| packet.is_batch().then(|| told(traces, &packet.payload));
        let of_event = |packet: &'a Packet| {
            let header = |wanted| packet.headers.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str());
            let parent = TraceParent::parse(header("traceparent")?).filter(|parent| traces.tells(parent))?;
            Some(TraceContext { parent, state: header("tracestate").and_then(TraceState::parse) })
        };
        let linked = packets.clone().flat_map(of_batch).flatten().chain(packets.clone().filter_map(of_event));
        let mut batch = Self::new(traces, ("publish", "send"), span::SpanKind::Producer, linked)?;
        batch.of(packets.map(|packet| without_id(&packet.subject)));
        Some(batch)
    }

    fn new(
        traces: &Traces,
        (name, kind): (&str, &str),
        of: span::SpanKind,
        linked: impl Iterator<Item = TraceContext>,
    ) -> Option<Self> {
        // Several messages of a batch may be of one trace.
        let apart = |TraceContext { parent, state }: TraceContext| ((parent.trace_id(), parent.span_id()), state);
        let linked: BTreeMap<(u128, u64), Option<TraceState>> = linked.map(apart).collect();
        if linked.is_empty() {
            return None;
        }
        let link = |((trace, span), state): (&(u128, u64), &Option<TraceState>)| span::Link {
            trace_id: trace.to_be_bytes().to_vec(),
            span_id: span.to_be_bytes().to_vec(),
            trace_state: state.as_ref().map(TraceState::as_str).unwrap_or_default().to_owned(),
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

/// The traces that are told of those that events in a batch say they belong to, each with what others keep in it.
fn told(traces: &Traces, payload: &[u8]) -> impl Iterator<Item = TraceContext> {
    let told = mentioned(payload).filter(|(parent, _)| traces.tells(parent));
    told.map(|(parent, rest)| TraceContext { parent, state: state(rest) })
}

/// The traces that events in a batch say they belong to, each with the text after it. Only the text is looked at, which is a tenth of the work of
/// reading it: that is for whoever handles them.
fn mentioned(payload: &[u8]) -> impl Iterator<Item = (TraceParent, &[u8])> {
    const NAME: &[u8] = b"\"traceparent\"";
    const LENGTH: usize = 55;
    memmem::find_iter(payload, NAME).filter_map(|at| {
        let (parent, rest) = value(&payload[at + NAME.len()..])?.strip_prefix(b"\"")?.split_at_checked(LENGTH)?;
        Some((TraceParent::parse(std::str::from_utf8(parent).ok()?)?, rest.strip_prefix(b"\"")?))
    })
}

/// The `tracestate` right after a `traceparent`, which is where whoever writes events puts it.
fn state(after: &[u8]) -> Option<TraceState> {
    let next = after.trim_ascii_start().strip_prefix(b",")?.trim_ascii_start().strip_prefix(b"\"tracestate\"")?;
    let mut texts = serde_json::Deserializer::from_slice(value(next)?).into_iter::<String>();
    TraceState::parse(&texts.next()?.ok()?)
}

/// What begins with a member's value, after its name.
fn value(after: &[u8]) -> Option<&[u8]> {
    Some(after.trim_ascii_start().strip_prefix(b":")?.trim_ascii_start())
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
        let found = |text: &str| mentioned(text.as_bytes()).map(|(parent, _)| String::from(parent)).collect::<Vec<_>>();
        assert_eq!(found(&compact), [one]);
        assert_eq!(found(&format!("[{{ \"traceparent\" :\n\"{two}\" }}, {{\"traceparent\": \"{one}\"}}]")), [two, one]);
        for torn in ["\"traceparent\"", "\"traceparent\":", "\"traceparent\":\"00-4bf9", &format!("\"traceparent\":\"{one}-1\"")]
        {
            assert_eq!(found(torn), Vec::<String>::new(), "{torn}");
        }
    }

    #[test]
    fn a_link_bears_what_others_keep_in_its_trace() {
        let settings = TraceSettings { otlp_url: Some("http://127.0.0.1:9".to_owned().into()), traces_share: 1.0 };
        let traces = Traces::new(Metrics::new("test"), &settings).expect("a client").expect("a receiver").0;
        let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let states = |packet: Packet| {
            let span = BatchSpan::publish(&traces, [&packet].into_iter()).expect("it is sampled").span;
            span.links.into_iter().map(|link| link.trace_state).collect::<Vec<_>>()
        };
        let batch = |rest: &str| {
            let payload = format!(r#"[{{"traceparent":"{parent}"{rest}}}]"#);
            states(Packet { payload: payload.into(), ..packet(1, "01") })
        };
        assert_eq!(batch(r#","tracestate":"congo=a\"b,rojo=1","data":{}"#), [r#"congo=a"b,rojo=1"#]);
        assert_eq!(batch(" ,\n\"tracestate\" : \"congo=1\" "), ["congo=1"]);
        let none = [
            "",
            r#","data":{"tracestate":"congo=1"}"#,
            r#","tracestate":null"#,
            r#","tracestate":"no list""#,
            r#","tracestate":"congo="#,
        ];
        for none in none {
            assert_eq!(batch(none), [""], "{none}");
        }
        let headers = [("traceparent", parent), ("tracestate", "congo=1")].map(|(name, value)| (name.into(), value.to_owned()));
        let event = Packet { subject: "events.order.placed.1".to_owned(), headers: headers.into(), payload: "{}".into() };
        assert_eq!(states(event), ["congo=1"]);
    }

    #[test]
    fn what_an_event_is_about_is_no_part_of_its_kind() {
        assert_eq!(without_id("events.order.placed.01a20330-cba4-71a6-847b-2ab2ab83aaa2"), "events.order.placed.*");
        assert_eq!(without_id("commands.user.validate"), "commands.user.validate");
    }
}
