//! `tail`: the events of sagas as they come, a line each.

use std::process::ExitCode;

use chrono::{DateTime, Utc};
use clap_complete::ArgValueCandidates;
use saga::Exportable as _;
use saga_runtime::Saga;
use serde_json::Value;
use uuid::Uuid;

use super::offer;
use super::select::id;
use crate::command_line::CommandLine;
use crate::follow::Follow;
use crate::output::Output;
use crate::usage::number;
use crate::{age, broker, tail};

/// Shown under `tail --help`.
pub const EXAMPLES: &str =
    "New events only, unless --since says from when. Where the broker is away, the command waits for it and goes on after the last event:
none is left out, none is shown twice. Nothing is taken from any service. -o jsonl prints each event as a CloudEvent.

Examples:
  {saga} tail
  {saga} tail ${id} --since 1h
  {saga} tail -o jsonl | jq -r .type";

/// Which events.
#[derive(Debug, clap::Args)]
pub struct Args<C: CommandLine> {
    #[arg(help = format!("Only this {}'s", C::Saga::NAME), value_name = C::ID, value_parser = id, add = ArgValueCandidates::new(offer::newest::<C>))]
    id: Option<Uuid>,
    /// Also those since: a moment (2026-01-02T03:04:05Z) or how long ago (10m).
    #[arg(long, value_name = "MOMENT", value_parser = age::moment)]
    since: Option<DateTime<Utc>>,
    /// End after so many.
    #[arg(long, value_name = "N", value_parser = number::<u64, 1, { u64::MAX }>)]
    limit: Option<u64>,
    #[command(flatten)]
    broker: broker::Target,
    #[arg(skip)]
    line: std::marker::PhantomData<C>,
}

impl<C: CommandLine> Args<C> {
    /// Runs the command.
    pub async fn run(self, out: Output) -> anyhow::Result<ExitCode> {
        let broker = self.broker.connect().await?;
        let filter = self.id.map(|id| format!("events.{}.*.{id}", C::Saga::NAME)).unwrap_or_default();
        let events = Follow::begin(&broker, &[C::Saga::EVENTS.name], filter, self.since).await?;
        let line = |stored: &broker::Stored| {
            let mut words = stored.subject.split('.').skip(2);
            let (word, id) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
            let data: Value = serde_json::from_slice(&stored.payload).unwrap_or_default();
            format!("{word:<13}  {id}  {}", C::gist(&data))
        };
        tail::show(events, self.limit, out, line).await
    }
}
