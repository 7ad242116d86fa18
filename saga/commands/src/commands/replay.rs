//! `replay`: a history decided again by this build. What it shows is computed from data; there is no way from here to a
//! participant.

use std::process::ExitCode;

use clap_complete::ArgValueCandidates;
use saga::{Change, Divergence, Effect, Exportable as _, Input, Replayed, State, Verdict};
use serde::Serialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::select::{Select, id};
use super::source::{self, Found, From};
use super::target::Target;
use super::{from_nats, gate, offer, phrases};
use crate::broker;
use crate::command_line::CommandLine;
use crate::output::{Format, Output, plain, write_out};
use crate::usage::Usage;
use crate::usage::number;

/// Shown under `replay --help`.
pub const EXAMPLES: &str = "Every entry is decided again and shown with the state before, the state after, their difference, and the messages that would be sent.
Nothing is sent: replay takes data and gives data.

A history comes from the {service}; with --from FILE from what `saga export` wrote (plain or gzip, - is stdin); with
--from nats from the broker's streams alone, where what cannot be known is reported as a gap. A history too large for the broker
is claimed from that service, and compared with the digest that its last event gives.
With --all every history is decided again, in parallel and streaming: the gate before a deployment.

Exit status: 0 no divergence, 1 a divergence, or a history this build cannot read, or failed; 2 wrong usage.

Examples:
  {saga} replay ${id}
  {saga} replay ${id} --until 3 -o json
  {saga} replay ${id} --from nats
  {saga} replay ${id} --from sagas.jsonl.gz
  {saga} replay --all
  {saga} replay --all --since 24h --status {status}
  {saga} export --all | {saga} replay --all --from - --jobs 2";

/// What to replay.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("which").required(true))]
pub struct Args<C: CommandLine> {
    #[arg(help = format!("The {}'s id", C::Saga::NAME), group = "which", value_name = C::ID, value_parser = id, add = ArgValueCandidates::new(offer::newest::<C>))]
    id: Option<Uuid>,
    /// All of them.
    #[arg(long, group = "which")]
    all: bool,
    /// Stop after the entry with this sequence.
    #[arg(long, value_name = "N", conflicts_with = "all", value_parser = number::<u32, 1, { u32::MAX as u64 }>)]
    until: Option<u32>,
    /// Read from a file of exported sagas, or from the broker: `nats`. Else from the service.
    #[arg(long, value_name = "FILE|nats")]
    from: Option<From>,
    /// How many threads decide [default: one a core].
    #[arg(long, value_name = "N", conflicts_with = "id", value_parser = clap::value_parser!(u16).range(1..=256))]
    jobs: Option<u16>,
    #[command(flatten)]
    select: Select<C>,
    #[command(flatten)]
    target: Target<C>,
    #[command(flatten)]
    broker: broker::Target,
}

impl<C: CommandLine> Args<C> {
    /// Runs the command.
    pub async fn run(self, out: Output) -> anyhow::Result<ExitCode> {
        let Some(id) = self.id else {
            let jobs = self.jobs.map_or_else(|| std::thread::available_parallelism().map_or(1, usize::from), usize::from);
            let from = match self.from {
                None => None,
                Some(From::File(path)) => Some(path),
                Some(From::Nats) => {
                    return Err(Usage("--from nats reads one saga; --all reads the service or a file".to_owned()).into());
                }
            };
            return gate::run(self.target, from, self.select, jobs, out).await;
        };
        let found = match &self.from {
            None => Found::whole(source::from_service::<C>(&self.target.service()?, id).await?),
            Some(From::File(path)) => Found::whole(source::from_file::<C>(path, id).await?),
            Some(From::Nats) => from_nats::load::<C>(&self.broker.connect().await?, id, &self.target.service()?).await?,
        };
        one(&found, self.until, out)
    }
}

fn one<C: CommandLine>(found: &Found<C>, until: Option<u32>, out: Output) -> anyhow::Result<ExitCode> {
    let replay = found.transcript.replay(until);
    let saga = &found.transcript.plan;
    match out.format {
        Format::Json => {
            let entries: Vec<Shown<C>> = replay.steps.iter().map(|step| Shown::of(saga, step)).collect();
            let divergence = &replay.divergence;
            let document = json!({C::Saga::NAME: saga, "entries": entries, "gaps": found.gaps, "divergence": divergence});
            out.document(&document)?;
        }
        Format::Jsonl => replay.steps.iter().try_for_each(|step| out.document(&Shown::<C>::of(saga, step)))?,
        Format::Table => {
            replay.steps.iter().try_for_each(|step| write_out(&text::<C>(saga, step)))?;
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
#[serde(bound = "")]
struct Shown<'a, C: CommandLine> {
    sequence: u32,
    time: chrono::DateTime<chrono::Utc>,
    message: &'a Input<C::Saga>,
    decision: Verdict,
    before: &'a State<C::Saga>,
    after: &'a State<C::Saga>,
    changes: &'a [Change],
    would_send: Vec<Value>,
}

impl<'a, C: CommandLine> Shown<'a, C> {
    fn of(saga: &C::Saga, step: &'a Replayed<'a, C::Saga>) -> Self {
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
                .map(|message| json!({"message": message, "command": command::<C>(saga, &now.state, message)}))
                .collect(),
        }
    }
}

/// The command a message stands for; null for what is told to everyone.
fn command<C: CommandLine>(saga: &C::Saga, state: &State<C::Saga>, message: &Effect<C::Saga>) -> Value {
    match state.command(saga, message) {
        Some(command) => json!(command),
        None => Value::Null,
    }
}

/// The same for people.
fn text<C: CommandLine>(saga: &C::Saga, step: &Replayed<C::Saga>) -> String {
    let (entry, now) = (step.entry, &step.now);
    let state = |state: &State<C::Saga>| serde_json::to_string(state).unwrap_or_else(|error| error.to_string());
    let time = entry.time.to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
    let mut text = format!("entry {}  {time}  {}\n", entry.sequence, phrases::came::<C>(saga, &entry.input));
    text += &format!("  decided  {}\n", phrases::decided::<C>(&step.before, now.verdict, &now.state));
    text += &format!("  before   {}\n", state(&step.before));
    text += &format!("  after    {}\n", state(&now.state));
    for change in &step.changes {
        text += &format!("  change   {}\n", plain(change.to_string()));
    }
    for message in &now.effects {
        let command = match command::<C>(saga, &now.state, message) {
            Value::Null => String::new(),
            command => format!(": {} {}", command["type"].as_str().unwrap_or_default(), command["data"]),
        };
        text += &format!("  sends    {}{command}\n", phrases::effect::<C>(message, &now.state));
    }
    text
}

fn verdict<C: CommandLine>(found: &Found<C>, entries: usize, divergence: Option<&Divergence>) -> String {
    let mut text: String = found.gaps.iter().map(|gap| format!("gap: {}\n", plain(gap.clone()))).collect();
    let count = phrases::count(entries as u64, "entry", "entries");
    text += &match divergence {
        Some(divergence) => format!("replayed {count}, and this build decides otherwise:\n{divergence}"),
        None if found.recorded => format!("replayed {count}, no divergence"),
        None => format!("folded {count} from the streams; their decisions are this build's"),
    };
    text
}
