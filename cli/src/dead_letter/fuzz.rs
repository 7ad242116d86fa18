//! Dead letters, whatever their headers say and whatever they hold.

use async_nats::HeaderMap;
use events::dead_letter::{CONSUMER, DELIVERIES, HEADER, INDEX, REASON, REDRIVES, SEQUENCE, STREAM, SUBJECT, TRUNCATED};
use events::streams::TOPOLOGY;
use saga_commands::broker::Stored;
use saga_commands::dead_letter::{Letter, packed};
use saga_commands::output::Tabular as _;

#[test]
fn letters_with_any_headers() {
    fuzz::drive("letters", |input| {
        // The first line is what every header says, the rest the payload.
        let end = input.iter().position(|byte| *byte == b'\n').unwrap_or(input.len());
        let said: String = String::from_utf8_lossy(&input[..end]).chars().filter(|c| !"\r\n".contains(*c)).collect();
        let payload = input.get(end + 1..).unwrap_or_default().to_vec();
        let mut headers = HeaderMap::new();
        for name in [CONSUMER, DELIVERIES, INDEX, REASON, REDRIVES, SEQUENCE, STREAM, SUBJECT, TRUNCATED] {
            headers.insert(name, said.as_str());
        }
        // A letter is a CloudEvent; one of an outbox holds the headers of the message that it keeps, which say the same of an event.
        for name in ["ce-id", "ce-source", "ce-type", "ce-subject", "ce-time", "Content-Type"] {
            headers.insert(name, said.as_str());
            headers.insert(format!("{HEADER}{name}").as_str(), said.as_str());
        }
        for subject in [format!("dead.{said}"), "dead.OUTBOX.order".to_owned(), "dead.PRODUCT_REPLIES.order".to_owned()] {
            let (time, headers) = (chrono::Utc::now(), headers.clone());
            let letter = Letter::from(Stored { subject, sequence: 7, time, headers, payload: payload.clone().into() });
            let shown = saga_commands::output::pairs(&letter.details());
            assert!(!shown.contains('\u{1b}'), "it moves the cursor: {shown:?}");
            let _ = (letter.row(), letter.pretty(), letter.whole().to_string());
            // What goes back goes back whole, under a subject that its stream has.
            if let Ok(packet) = packed(&letter, &TOPOLOGY) {
                assert!(letter.truncated.is_none() && packet.subject == letter.subject, "{letter:?}");
                let kept = packet.payload.windows(payload.len().max(1)).any(|part| part == payload);
                assert!(payload.is_empty() || kept, "{packet:?} is not what was kept: {letter:?}");
            }
        }
    });
}
