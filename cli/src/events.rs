//! `waybill events`: what the services tell everyone, as they tell it.

mod follow;
mod rebuild;

use std::process::ExitCode;

use chassis::broker::Broker;
use chrono::{DateTime, SecondsFormat, Utc};
use clap::Subcommand;
use clap_complete::ArgValueCandidates;
use events::{Money, OrderId};
use serde_json::{Value, json};

use self::follow::Follow;
use crate::broker::{self, Stored};
use crate::output::{Format, Output, plain, write_out};
use crate::signal::stop_signal;
use crate::usage::number;
use crate::{age, complete, price};

/// Shown under `waybill events --help`.
pub const EXAMPLES: &str = "Examples:
  waybill events tail
  waybill events tail $ORDER --since 1h";

/// What can be done with events.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Follow events live, a line each, until interrupted.
    #[command(
        after_help = "New events only, unless --since says from when. Where the broker is away, the command waits for it and goes on after the last event:
none is left out, none is shown twice. Events that the broker had lost and that are published again are shown unless they are older than
what was asked for. Nothing is taken from any service. -o jsonl prints each event as a CloudEvent.

Examples:
  waybill events tail
  waybill events tail $ORDER --since 1h
  waybill events tail --since 10m --all-contexts --limit 100
  waybill events tail -o jsonl | jq -r .data.status"
    )]
    Tail(Tail),
    /// Publish again what the stream of order events lacks.
    #[command(after_help = rebuild::EXAMPLES)]
    Rebuild(rebuild::Args),
}

/// Which events.
#[derive(Debug, clap::Args)]
pub struct Tail {
    /// Only this order's.
    #[arg(add = ArgValueCandidates::new(complete::orders))]
    order: Option<OrderId>,
    /// Also those since: a moment (2026-01-02T03:04:05Z) or how long ago (10m).
    #[arg(long, value_name = "MOMENT", value_parser = age::moment)]
    since: Option<DateTime<Utc>>,
    /// Users' and products' events too, not only orders'.
    #[arg(long, conflicts_with = "order")]
    all_contexts: bool,
    /// End after so many.
    #[arg(long, value_name = "N", value_parser = number::<u64, 1, { u64::MAX }>)]
    limit: Option<u64>,
    #[command(flatten)]
    place: broker::Place,
}

impl Command {
    /// Runs the command.
    pub async fn run(self, out: Output) -> anyhow::Result<ExitCode> {
        let tail = match self {
            Self::Tail(tail) => tail,
            Self::Rebuild(args) => return args.run(out).await,
        };
        let broker = tail.place.connect().await?;
        tokio::select! {
            ended = tail.show(&broker, out) => ended?,
            stopped = stop_signal() => stopped?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Tail {
    async fn show(&self, broker: &Broker, out: Output) -> anyhow::Result<()> {
        let streams = &CONTEXTS[..if self.all_contexts { CONTEXTS.len() } else { 1 }];
        let filter = self.order.map(|order| format!("events.order.*.{order}")).unwrap_or_default();
        let mut events = Follow::begin(broker, streams, filter, self.since).await?;
        for _ in 0..self.limit.unwrap_or(u64::MAX) {
            let stored = events.next().await?;
            match out.format {
                Format::Table => write_out(&line(&stored))?,
                Format::Json | Format::Jsonl => out.document(&cloud_event(&stored))?,
            }
        }
        Ok(())
    }
}

/// The streams of events, the orders' first.
const CONTEXTS: [&str; 3] = ["ORDER_EVENTS", "USER_EVENTS", "PRODUCT_EVENTS"];

/// An event for people.
fn line(stored: &Stored) -> String {
    let mut words = stored.subject.split('.').skip(1);
    let mut word = || words.next().unwrap_or_default();
    let (context, what, id) = (word(), word(), word());
    let data: Value = serde_json::from_slice(&stored.payload).unwrap_or_default();
    let about = match context {
        "order" => about_order(&data),
        "user" => if data["active"] == false { "inactive" } else { "active" }.to_owned(),
        "product" => about_product(&data),
        _ => String::new(),
    };
    let time = stored.time.to_rfc3339_opts(SecondsFormat::Millis, true);
    plain(format!("{time}  {context:<7}  {what:<13}  {id}  {about}").trim_end().to_owned())
}

fn about_order(data: &Value) -> String {
    let items = data["items"].as_array().map_or(0, Vec::len);
    let mut text = format!("{items} {}", if items == 1 { "line" } else { "lines" });
    if let Ok(total) = serde_json::from_value::<Money>(data["total"].clone()) {
        text += &format!(", {}", price::show(total));
    }
    if let (Some(code), Some(detail)) = (data["reason"]["code"].as_str(), data["reason"]["detail"].as_str()) {
        text += &format!(", {code}: {detail}");
    }
    text
}

fn about_product(data: &Value) -> String {
    let product = data.get("product").unwrap_or(data);
    let delta = data["delta"].as_i64().map(|delta| format!(", {delta:+}")).unwrap_or_default();
    format!("{}, stock {}{delta}", product["name"].as_str().unwrap_or_default(), product["stock"])
}

/// The event in the JSON format: what the headers say of it (binary mode), and its data.
fn cloud_event(stored: &Stored) -> Value {
    let mut event = json!({});
    for (name, values) in stored.headers.iter() {
        let name: &str = name.as_ref();
        if let (Some(attribute), Some(value)) = (name.strip_prefix("ce-"), values.first()) {
            event[attribute] = percent_decoded(value.as_str()).into();
        }
    }
    event["data"] = serde_json::from_slice(&stored.payload).unwrap_or_default();
    event
}

/// Undoes what a header needed (CloudEvents NATS binding, section 3.1.3.2).
fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let hex = tail.get(..2).and_then(|two| std::str::from_utf8(two).ok()).and_then(|two| u8::from_str_radix(two, 16).ok());
        match hex.filter(|_| *first == b'%') {
            Some(byte) => (bytes.push(byte), rest = &tail[2..]).0,
            None => (bytes.push(*first), rest = tail).0,
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use async_nats::HeaderMap;

    use super::*;

    fn stored(subject: &str, data: Value) -> Stored {
        let mut headers = HeaderMap::new();
        headers.insert("ce-id", "a%20b%");
        headers.insert("ce-type", "waybill.order.rejected.v1");
        headers.insert("Content-Type", "application/json");
        let time = "2026-01-02T03:04:05.678Z".parse().unwrap();
        Stored { subject: subject.to_owned(), sequence: 1, time, headers, payload: data.to_string().into() }
    }

    #[test]
    fn an_event_is_a_line() {
        let data = json!({"items": [1], "total": {"amount": 1999, "currency": "USD"}, "reason": {"code": "timed_out", "detail": "a\u{1b}b"}});
        let text = line(&stored("events.order.rejected.17", data));
        assert_eq!(text, "2026-01-02T03:04:05.678Z  order    rejected       17  1 line, 19.99 USD, timed_out: a b");
        let text = line(&stored("events.product.stock_changed.18", json!({"delta": -2, "product": {"name": "Tea", "stock": 7}})));
        assert!(text.ends_with("product  stock_changed  18  Tea, stock 7, -2"), "{text}");
    }

    #[test]
    fn an_event_is_a_cloud_event() {
        let event = cloud_event(&stored("events.order.rejected.17", json!({"a": 1})));
        assert_eq!(event, json!({"id": "a b%", "type": "waybill.order.rejected.v1", "data": {"a": 1}}));
    }
}
