//! Dead letters of the outbox: a message that the broker never takes is kept as far as it can be, with the broker's own reason.

use std::borrow::Cow;

use bytes::Bytes;
use chrono::{SecondsFormat, Utc};
use envelope::BATCH_MAX_BYTES;
use envelope::dead_letter::OUTBOX;
use envelope::dead_letter::{CONSUMER, DELIVERIES, HEADER, REASON, STREAM, SUBJECT, TRUNCATED, TYPE};
use uuid::Uuid;

use crate::dead_letter::reason_for_header;
use crate::packet::Packet;

/// What headers may take: those of ours are some hundred bytes.
const HEADERS_MAX: usize = 16 * 1024;

/// A message that cannot be published.
pub(super) struct Unpublishable<'a> {
    pub service: &'static str,
    pub row: Uuid,
    /// Its place in the row.
    pub index: usize,
    pub packet: &'a Packet,
    pub attempts: i32,
    pub reason: &'a str,
}

impl Unpublishable<'_> {
    /// The letter with its message id. `max_payload`: what the broker takes, headers included.
    pub(super) fn packed(&self, max_payload: usize) -> (String, Packet) {
        let Packet { subject, headers: own, payload } = self.packet;
        let id = format!("dead-{OUTBOX}-{}-{}", self.row, self.index);
        let mut headers: Vec<(Cow<'static, str>, String)> = vec![
            ("Content-Type".into(), "application/octet-stream".into()),
            ("ce-specversion".into(), "1.0".into()),
            ("ce-id".into(), id.clone()),
            ("ce-source".into(), format!("/waybill/{}", self.service)),
            ("ce-type".into(), TYPE.into()),
            ("ce-time".into(), Utc::now().to_rfc3339_opts(SecondsFormat::Micros, true)),
            ("ce-subject".into(), format!("{OUTBOX}/{}", self.row)),
            (REASON.into(), reason_for_header(self.reason)),
            (STREAM.into(), OUTBOX.into()),
            (CONSUMER.into(), self.service.into()),
            (SUBJECT.into(), reason_for_header(subject)),
            (DELIVERIES.into(), self.attempts.max(1).to_string()),
        ];
        // As it was, so that it can be sent again: but what stands in the way may be its headers.
        let size: usize = own.iter().map(|(name, value)| name.len() + value.len() + 4).sum();
        let sendable = |(name, value): &&(Cow<'static, str>, String)| {
            let name_fits = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':');
            name_fits && !value.contains(['\r', '\n']) && !name.starts_with("Nats-")
        };
        if size <= HEADERS_MAX {
            let kept = |(name, value): &(Cow<'static, str>, String)| (format!("{HEADER}{name}").into(), value.clone());
            headers.extend(own.iter().filter(sendable).map(kept));
        }
        let kept = payload.len().min(BATCH_MAX_BYTES).min(max_payload.saturating_sub(2 * HEADERS_MAX));
        headers.extend((kept < payload.len()).then(|| (TRUNCATED.into(), payload.len().to_string())));
        (id, Packet { subject: format!("dead.{OUTBOX}.{}", self.service), headers, payload: payload.slice(..kept) })
    }
}

/// What is kept of a message that cannot even be made, with whom it would have told of.
pub(super) fn unmade(what: String, about: Option<Uuid>) -> Packet {
    let mut headers: Vec<(Cow<'static, str>, String)> = vec![("Content-Type".into(), "text/plain".to_owned())];
    headers.extend(about.map(|about| ("ce-subject".into(), about.to_string())));
    Packet { subject: String::new(), headers, payload: Bytes::from(what) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(packet: &Packet, max_payload: usize) -> (String, Packet) {
        let reason = "max payload size exceeded:\nPayload size limit of 5 exceeded";
        Unpublishable { service: "order", row: Uuid::from_u128(7), index: 3, packet, attempts: 0, reason }.packed(max_payload)
    }

    fn value<'a>(packet: &'a Packet, name: &str) -> Option<&'a str> {
        packet.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    #[test]
    fn a_letter_holds_the_message_and_the_brokers_reason() {
        let headers = vec![("ce-id".into(), "7".to_owned()), ("Nats-Rollup".into(), "all".to_owned())];
        let packet = Packet { subject: "events.order.confirmed.7".to_owned(), headers, payload: "{}".into() };
        let (id, letter) = packed(&packet, 1 << 20);
        assert_eq!(id, "dead-OUTBOX-00000000-0000-0000-0000-000000000007-3");
        assert_eq!((letter.subject.as_str(), &letter.payload), ("dead.OUTBOX.order", &packet.payload));
        assert_eq!(value(&letter, REASON), Some("max payload size exceeded: Payload size limit of 5 exceeded"));
        assert_eq!((value(&letter, SUBJECT), value(&letter, "ce-id")), (Some("events.order.confirmed.7"), Some(id.as_str())));
        assert_eq!((value(&letter, "Waybill-Header-ce-id"), value(&letter, "ce-type")), (Some("7"), Some(TYPE)));
        assert_eq!((value(&letter, "Waybill-Header-Nats-Rollup"), value(&letter, TRUNCATED)), (None, None));
    }

    #[test]
    fn a_letter_is_never_larger_than_the_broker_takes() {
        let headers = vec![("ce-id".into(), "x".repeat(2_000_000)), ("a\nb".into(), "c\nd".to_owned())];
        let packet = Packet { subject: "a\r\nb".to_owned(), headers, payload: vec![b'x'; 3_000_000].into() };
        for max_payload in [1 << 20, 64 * 1024, 10] {
            let (_, letter) = packed(&packet, max_payload);
            assert!(letter.payload.len() <= BATCH_MAX_BYTES.min(max_payload), "{max_payload}");
            assert_eq!(value(&letter, TRUNCATED), Some("3000000"));
            assert!(letter.headers.iter().all(|(name, value)| !name.contains('\n') && !value.contains(['\r', '\n'])));
        }
    }
}
