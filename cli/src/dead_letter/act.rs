//! Sending dead letters back, and deleting them.

use std::process::ExitCode;

use async_nats::jetstream::stream::Stream;
use chassis::broker::Broker;
use chassis::causes;
use events::streams::TOPOLOGY;
use futures_util::StreamExt as _;
use futures_util::stream;
use saga_commands::bulk::Outcome;
use saga_commands::dead_letter::{self, Action};
use saga_commands::output::{Format, Output, plain, tell, write_out};
use saga_commands::progress::Progress;
use serde::Serialize;

use super::select::Chosen;

/// Letters at work at once.
const AT_ONCE: usize = 32;

/// What became of them.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// Sent back, or deleted.
    done: u64,
    /// No longer there: somebody else was faster.
    gone: u64,
    /// Left where they are.
    refused: Vec<Refused>,
}

#[derive(Debug, Serialize)]
struct Refused {
    sequence: u64,
    why: String,
}

/// Does it with each. What was done before an error stays done; the same command again goes on.
pub async fn run(broker: &Broker, stream: &Stream, action: &Action, chosen: Chosen) -> (Report, Option<anyhow::Error>) {
    let progress = Progress::start("letters", Some(chosen.sequences.len() as u64));
    let mut report = Report::default();
    let mut outcomes = stream::iter(chosen.sequences)
        .map(|sequence| {
            let action = action.clone();
            async move { (sequence, dead_letter::act(broker, stream, &TOPOLOGY, action, sequence).await) }
        })
        .buffer_unordered(AT_ONCE);
    let mut at = 0;
    while let Some((sequence, outcome)) = outcomes.next().await {
        match outcome {
            Ok(Outcome::Done) => report.done += 1,
            Ok(Outcome::Gone) => report.gone += 1,
            Ok(Outcome::Left(why)) => report.refused.push(Refused { sequence, why }),
            Err(error) => return (report, Some(error)),
        }
        at += 1;
        progress.at(at, || format!("{at} letters"));
    }
    (report, None)
}

impl Report {
    fn counts(&self, action: &Action) -> String {
        let gone = if self.gone > 0 { format!(", {} gone already", self.gone) } else { String::new() };
        format!("{} {}, {} left{gone}", self.done, action.done(), self.refused.len())
    }

    /// What came of it, in a line. `failed`: what ended it.
    pub fn words(&self, action: &Action, failed: Option<&anyhow::Error>) -> String {
        let ended = failed.map(|error| format!("; ended by: {}", causes(error)));
        let left = self.refused.first().map(|Refused { sequence, why }| format!("; {sequence} is left: {why}"));
        format!("{}{}", self.counts(action), ended.or(left).unwrap_or_default())
    }

    /// Tells it whoever asked for it.
    pub fn tell(&self, action: &Action, out: Output) -> anyhow::Result<ExitCode> {
        let left =
            |Refused { sequence, why }: &Refused| tell(&plain(format!("dead letter {sequence} is left where it is: {why}")));
        self.refused.iter().for_each(left);
        match out.format {
            Format::Table => write_out(&self.counts(action))?,
            Format::Json | Format::Jsonl => out.document(self)?,
        }
        Ok(if self.refused.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

#[cfg(test)]
mod tests {
    use async_nats::HeaderMap;
    use chassis::Packet;
    use events::dead_letter::{DELIVERIES, INDEX, REDRIVES, SUBJECT, TRUNCATED};
    use saga_commands::broker::Stored;
    use saga_commands::dead_letter::Letter;

    use super::*;

    fn packed(letter: &Letter) -> Result<Packet, String> {
        dead_letter::packed(letter, &TOPOLOGY)
    }

    fn letter(headers: &[(&str, &str)]) -> Letter {
        let mut map = HeaderMap::new();
        headers.iter().for_each(|(name, value)| map.insert(*name, *value));
        let (subject, time) = ("dead.PRODUCT_REPLIES.order".to_owned(), chrono::DateTime::UNIX_EPOCH);
        Stored { subject, sequence: 7, time, headers: map, payload: "{\"a\":1}".into() }.into()
    }

    #[test]
    fn an_event_goes_back_as_a_batch_of_one_with_its_counts() {
        let packet = packed(&letter(&[(SUBJECT, "replies.product"), (INDEX, "3"), (DELIVERIES, "3"), (REDRIVES, "1")])).unwrap();
        assert_eq!((packet.subject.as_str(), packet.payload.as_ref()), ("replies.product", b"[{\"a\":1}]".as_slice()));
        assert!(packet.headers.contains(&(REDRIVES.into(), "2".to_owned())), "{packet:?}");
        assert!(packet.headers.contains(&(DELIVERIES.into(), "3".to_owned())), "{packet:?}");
    }

    #[test]
    fn several_events_go_back_as_one_batch() {
        let mut several = letter(&[(SUBJECT, "replies.product"), (INDEX, "0,3")]);
        several.payload = "[{\"a\":1},{\"b\":2}]".into();
        assert_eq!(packed(&several).unwrap().payload.as_ref(), b"[{\"a\":1},{\"b\":2}]");
    }

    #[test]
    fn a_whole_message_goes_back_as_it_was() {
        let packet = packed(&letter(&[(SUBJECT, "replies.product")])).unwrap();
        assert_eq!(packet.payload.as_ref(), b"{\"a\":1}");
    }

    #[test]
    fn a_letter_goes_nowhere_but_home_and_never_in_part() {
        for subject in ["", "replies.user", "commands.product.release", "replies.product.x", "$JS.API.STREAM.DELETE.X"] {
            assert!(packed(&letter(&[(SUBJECT, subject)])).is_err(), "{subject}");
        }
        assert!(packed(&letter(&[(SUBJECT, "replies.product"), (TRUNCATED, "1000000")])).is_err());
    }

    #[test]
    fn a_message_the_broker_did_not_take_goes_out_as_it_was_and_only_where_its_service_publishes() {
        let unpublished = |service: &str, subject: &str| {
            let mut headers = HeaderMap::new();
            [
                (SUBJECT, subject),
                ("Waybill-Header-ce-id", "7"),
                ("Waybill-Header-ce-subject", "8"),
                ("ce-id", "dead-1"),
                ("Nats-Msg-Id", "dead-1"),
            ]
            .iter()
            .for_each(|(name, value)| headers.insert(*name, *value));
            let stored = Stored {
                subject: format!("dead.OUTBOX.{service}"),
                sequence: 7,
                time: chrono::DateTime::UNIX_EPOCH,
                headers,
                payload: "{\"a\":1}".into(),
            };
            packed(&stored.into())
        };
        let mut packet = unpublished("order", "events.order.confirmed.7").unwrap();
        packet.headers.sort();
        assert_eq!((packet.subject.as_str(), packet.payload.as_ref()), ("events.order.confirmed.7", b"{\"a\":1}".as_slice()));
        assert_eq!(packet.headers, [("ce-id".into(), "7".to_owned()), ("ce-subject".into(), "8".to_owned())]);
        assert!(unpublished("user", "replies.user").is_ok() && unpublished("order", "commands.product.release").is_ok());
        for (service, subject) in [
            ("user", "commands.product.release"),
            ("product", "replies.user"),
            ("nobody", "replies.user"),
            ("order", "dead.OUTBOX.order"),
            ("order", ""),
        ] {
            assert!(unpublished(service, subject).is_err(), "{service} {subject}");
        }
    }
}
