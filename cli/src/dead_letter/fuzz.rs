//! Dead letters, whatever their headers say and whatever they hold.

use async_nats::HeaderMap;
use events::dead_letter::{CONSUMER, DELIVERIES, INDEX, REASON, REDRIVES, SEQUENCE, STREAM, SUBJECT, TRUNCATED};

use super::Letter;
use crate::broker::Stored;
use crate::output::Tabular as _;

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
        let (time, subject) = (chrono::Utc::now(), format!("dead.{said}"));
        let letter = Letter::from(Stored { subject, sequence: 7, time, headers, payload: payload.into() });
        let shown = crate::output::pairs(&letter.details());
        assert!(!shown.contains('\u{1b}'), "it moves the cursor: {shown:?}");
        let _ = (letter.row(), letter.pretty(), letter.whole().to_string());
    });
}
