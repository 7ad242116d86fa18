//! `waybill events`: what the services tell everyone, as they tell it.

mod rebuild;

use std::process::ExitCode;

use chrono::{DateTime, Utc};
use clap::Subcommand;
use clap_complete::ArgValueCandidates;
use events::OrderId;
use saga_commands::age;
use saga_commands::broker::{self, Stored};
use saga_commands::follow::Follow;
use saga_commands::output::Output;
use saga_commands::tail;
use saga_commands::usage::number;
use serde_json::Value;

use crate::complete;
use crate::order::view;

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
    target: broker::Target,
}

impl Command {
    /// Runs the command.
    pub async fn run(self, out: Output) -> anyhow::Result<ExitCode> {
        let tail = match self {
            Self::Tail(tail) => tail,
            Self::Rebuild(args) => return args.run(out).await,
        };
        let broker = tail.target.connect().await?;
        let streams = &CONTEXTS[..if tail.all_contexts { CONTEXTS.len() } else { 1 }];
        let filter = tail.order.map(|order| format!("events.order.*.{order}")).unwrap_or_default();
        let events = Follow::begin(&broker, streams, filter, tail.since).await?;
        tail::show(events, tail.limit, out, line).await
    }
}

/// The streams of events, the orders' first.
const CONTEXTS: [&str; 3] = ["ORDER_EVENTS", "USER_EVENTS", "PRODUCT_EVENTS"];

/// An event for people, after its time.
fn line(stored: &Stored) -> String {
    let mut words = stored.subject.split('.').skip(1);
    let mut word = || words.next().unwrap_or_default();
    let (context, what, id) = (word(), word(), word());
    let data: Value = serde_json::from_slice(&stored.payload).unwrap_or_default();
    let about = match context {
        "order" => view::gist(&data),
        "user" => if data["active"] == false { "inactive" } else { "active" }.to_owned(),
        "product" => about_product(&data),
        _ => String::new(),
    };
    format!("{context:<7}  {what:<13}  {id}  {about}")
}

fn about_product(data: &Value) -> String {
    let product = data.get("product").unwrap_or(data);
    let delta = data["delta"].as_i64().map(|delta| format!(", {delta:+}")).unwrap_or_default();
    format!("{}, stock {}{delta}", product["name"].as_str().unwrap_or_default(), product["stock"])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn stored(subject: &str, data: Value) -> Stored {
        let (time, headers) = ("2026-01-02T03:04:05.678Z".parse().unwrap(), Default::default());
        Stored { subject: subject.to_owned(), sequence: 1, time, headers, payload: data.to_string().into() }
    }

    #[test]
    fn an_event_is_a_line() {
        let data = json!({"items": [1], "total": {"amount": 1999, "currency": "USD"}, "reason": {"code": "timed_out", "detail": "late"}});
        let text = line(&stored("events.order.rejected.17", data));
        assert_eq!(text, "order    rejected       17  1 line, 19.99 USD, timed_out: late");
        let text = line(&stored("events.product.stock_changed.18", json!({"delta": -2, "product": {"name": "Tea", "stock": 7}})));
        assert!(text.ends_with("product  stock_changed  18  Tea, stock 7, -2"), "{text}");
    }
}
