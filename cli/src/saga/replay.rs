//! `waybill saga replay`: a history decided again by this build. What it shows is computed from data; there is no way from here to a
//! participant.

use std::process::ExitCode;

use clap_complete::ArgValueCandidates;
use events::OrderId;
use order::saga::Order;
use saga::{Change, Divergence, Effect, Input, Replayed, State, Verdict};
use serde::Serialize;
use serde_json::{Value, json};

use super::place::Place;
use super::select::Select;
use super::source::{self, Found, From};
use super::{gate, jetstream, words};
use crate::output::{Format, Output, plain, write_out};
use crate::usage::Usage;
use crate::usage::number;
use crate::{broker, complete};

/// Shown under `waybill saga replay --help`.
pub const EXAMPLES: &str = "Every entry is decided again and shown with the state before, the state after, their difference, and the messages that would be sent.
Nothing is sent: replay takes data and gives data.

A history comes from the order service; with --from FILE from what `saga export` wrote (plain or gzip, - is stdin); with
--from nats from the broker's streams alone, where what cannot be known is reported as a gap. A history too large for the broker
is claimed from the order service, and compared with the digest that its last event gives.
With --all every history is decided again, in parallel and streaming: the gate before a deployment.

Exit status: 0 no divergence, 1 a divergence, or a history this build cannot read, or failed; 2 wrong usage.

Examples:
  waybill saga replay $ORDER
  waybill saga replay $ORDER --until 3 -o json
  waybill saga replay $ORDER --from nats
  waybill saga replay $ORDER --from sagas.jsonl.gz
  waybill saga replay --all
  waybill saga replay --all --since 24h --status rejected
  waybill saga export --all | waybill saga replay --all --from - --jobs 2";

/// What to replay.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("which").required(true))]
pub struct Args {
    /// The order's id.
    #[arg(group = "which", add = ArgValueCandidates::new(complete::sagas))]
    order: Option<OrderId>,
    /// Every order.
    #[arg(long, group = "which")]
    all: bool,
    /// Stop after the entry with this sequence.
    #[arg(long, value_name = "N", conflicts_with = "all", value_parser = number::<u32, 1, { u32::MAX as u64 }>)]
    until: Option<u32>,
    /// Read from a file of exported sagas, or from the broker: `nats`. Else from the order service.
    #[arg(long, value_name = "FILE|nats")]
    from: Option<From>,
    /// How many threads decide [default: one a core].
    #[arg(long, value_name = "N", conflicts_with = "order", value_parser = clap::value_parser!(u16).range(1..=256))]
    jobs: Option<u16>,
    #[command(flatten)]
    select: Select,
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    broker: broker::Place,
}

impl Args {
    /// Runs the command.
    pub async fn run(self, out: Output) -> anyhow::Result<ExitCode> {
        let Some(order) = self.order else {
            let jobs = self.jobs.map_or_else(|| std::thread::available_parallelism().map_or(1, usize::from), usize::from);
            let from = match self.from {
                None => None,
                Some(From::File(path)) => Some(path),
                Some(From::Nats) => {
                    return Err(Usage("--from nats reads one order; --all reads the service or a file".to_owned()).into());
                }
            };
            return gate::run(self.place, from, self.select, jobs, out).await;
        };
        let found = match &self.from {
            None => Found::whole(source::from_service(&self.place.service()?, order).await?),
            Some(From::File(path)) => Found::whole(source::from_file(path, order).await?),
            Some(From::Nats) => jetstream::load(&self.broker.connect().await?, order, &self.place.service()?).await?,
        };
        one(&found, self.until, out)
    }
}

fn one(found: &Found, until: Option<u32>, out: Output) -> anyhow::Result<ExitCode> {
    let replay = found.waybill.replay(until);
    let order = &found.waybill.plan;
    match out.format {
        Format::Json => {
            let entries: Vec<Shown> = replay.steps.iter().map(|step| Shown::of(order, step)).collect();
            let divergence = &replay.divergence;
            out.document(&json!({"order": order, "entries": entries, "gaps": found.gaps, "divergence": divergence}))?;
        }
        Format::Jsonl => replay.steps.iter().try_for_each(|step| out.document(&Shown::of(order, step)))?,
        Format::Table => {
            replay.steps.iter().try_for_each(|step| write_out(&text(order, step)))?;
            write_out(&verdict(found, replay.steps.len(), replay.divergence.as_ref()))?;
        }
    }
    if out.format == Format::Jsonl {
        found.gaps.iter().for_each(|gap| crate::output::tell(&format!("gap: {}", plain(gap.clone()))));
        replay.divergence.iter().for_each(|divergence| crate::output::tell(&format!("divergence: {divergence}")));
    }
    Ok(if replay.divergence.is_some() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// One entry decided again, for machines.
#[derive(Serialize)]
struct Shown<'a> {
    sequence: u32,
    time: chrono::DateTime<chrono::Utc>,
    message: &'a Input<Order>,
    decision: Verdict,
    before: &'a State<Order>,
    after: &'a State<Order>,
    changes: &'a [Change],
    would_send: Vec<Value>,
}

impl<'a> Shown<'a> {
    fn of(order: &Order, step: &'a Replayed<'a, Order>) -> Self {
        let now = &step.now;
        Self {
            sequence: step.entry.sequence,
            time: step.entry.time,
            message: &step.entry.input,
            decision: now.verdict,
            before: &step.before,
            after: &now.state,
            changes: &step.changes,
            would_send: now
                .effects
                .iter()
                .map(|message| json!({"message": message, "command": command(order, &now.state, message)}))
                .collect(),
        }
    }
}

/// The command a message stands for; null for what is told to everyone.
fn command(order: &Order, state: &State<Order>, message: &Effect<Order>) -> Value {
    match state.command(order, message) {
        Some(command) => json!(command),
        None => Value::Null,
    }
}

/// The same for people.
fn text(order: &Order, step: &Replayed<Order>) -> String {
    let (entry, now) = (step.entry, &step.now);
    let state = |state: &State<Order>| serde_json::to_string(state).unwrap_or_else(|error| error.to_string());
    let time = entry.time.to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
    let mut text = format!("entry {}  {time}  {}\n", entry.sequence, words::came(&entry.input));
    text += &format!("  decided  {}\n", words::decided(&step.before, now.verdict, &now.state));
    text += &format!("  before   {}\n", state(&step.before));
    text += &format!("  after    {}\n", state(&now.state));
    for change in &step.changes {
        text += &format!("  change   {}\n", plain(change.to_string()));
    }
    for message in &now.effects {
        let command = match command(order, &now.state, message) {
            Value::Null => String::new(),
            command => format!(": {} {}", command["type"].as_str().unwrap_or_default(), command["data"]),
        };
        text += &format!("  sends    {}{command}\n", words::say(message, &now.state));
    }
    text
}

fn verdict(found: &Found, entries: usize, divergence: Option<&Divergence>) -> String {
    let mut text: String = found.gaps.iter().map(|gap| format!("gap: {}\n", plain(gap.clone()))).collect();
    let count = words::count(entries as u64, "entry", "entries");
    text += &match divergence {
        Some(divergence) => format!("replayed {count}, and this build decides otherwise:\n{divergence}"),
        None if found.recorded => format!("replayed {count}, no divergence"),
        None => format!("folded {count} from the streams; their decisions are this build's"),
    };
    text
}
