//! `causes`: sagas in flight by what they wait for, however many there are.

use std::process::ExitCode;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::target::Target;
use super::view::View;
use crate::age;
use crate::client::Gateway;
use crate::command_line::CommandLine;
use crate::output::{Format, Output, table, tell, write_out};
use crate::problem::Failure;

/// Shown under `causes --help`.
pub const EXAMPLES: &str = "Those that are stuck come first, of these those whose compensation does not come through. However many there are, all are counted; `list --cause`
has each of those of one cause, and `retry --stuck --cause` takes it too, or a part of it.

Examples:
  {saga} causes
  {saga} causes -o json | jq -r '.groups[] | select(.stuck) | [.sagas, .cause] | @tsv'";

/// Whom to ask.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub struct Args<C: CommandLine> {
    #[command(flatten)]
    target: Target<C>,
}

/// What was counted.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(bound = "")]
pub struct Causes<C> {
    /// When: a moment ago, where there are very many.
    pub counted_at: DateTime<Utc>,
    /// All.
    pub in_flight: u64,
    /// Those that are stuck.
    pub stuck: u64,
    /// Those that are stuck first, of these those that go back.
    pub groups: Vec<Group<C>>,
}

/// Sagas that wait for the same.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(bound = "")]
pub struct Group<C> {
    /// What they wait for, in words.
    pub cause: String,
    /// How many.
    pub sagas: u64,
    /// Whether they have waited too long, or cannot be continued.
    pub stuck: bool,
    /// Whether the service can go on with them.
    pub readable: bool,
    /// The plan version they began with.
    pub plan: Option<u32>,
    /// The step they wait for.
    pub step: Option<String>,
    /// `act` or `undo`.
    pub direction: Option<String>,
    /// Since when the first of them waits.
    pub since: Option<DateTime<Utc>>,
    /// Some of them.
    pub newest: Vec<View<C>>,
}

impl<C: CommandLine> Causes<C> {
    /// Asks for them.
    ///
    /// # Errors
    /// Where the service does not say.
    pub async fn of(service: &Gateway) -> Result<Self, Failure> {
        service.get("/sagas/causes").await
    }
}

impl<C> Group<C> {
    /// Whether they go back: a compensation does not come through.
    pub fn is_undoing(&self) -> bool {
        self.direction.as_deref() == Some("undo")
    }
}

impl<C: CommandLine> Args<C> {
    /// Runs the command.
    pub async fn run(self, out: Output) -> anyhow::Result<ExitCode> {
        let causes = Causes::<C>::of(&self.target.service()?).await?;
        match out.format {
            Format::Json => out.document(&causes)?,
            Format::Jsonl => causes.groups.iter().try_for_each(|group| out.document(group))?,
            Format::Table => {
                let row = |group: &Group<C>| {
                    vec![
                        group.sagas.to_string(),
                        if group.stuck { "STUCK" } else { "" }.to_owned(),
                        group.plan.map(|plan| plan.to_string()).unwrap_or_default(),
                        group.since.map(|since| age::show(Utc::now() - since)).unwrap_or_default(),
                        group.cause.clone(),
                    ]
                };
                write_out(&table(&["SAGAS", "", "PLAN", "FIRST WAITS", "CAUSE"], causes.groups.iter().map(row)))?;
                let Causes { in_flight, stuck, .. } = causes;
                tell(&format!("{in_flight} in flight, {stuck} stuck"));
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}
