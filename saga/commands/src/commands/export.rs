//! `export`: sagas with their whole histories, a JSON line each, to keep and to replay anywhere.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use anyhow::Context as _;
use clap_complete::ArgValueCandidates;
use reqwest::Method;
use saga::Exportable as _;
use uuid::Uuid;

use super::select::{Select, id};
use super::target::Target;
use super::{offer, source};
use crate::client::{Gateway, Pieces};
use crate::command_line::CommandLine;
use crate::output::{tell, write_bytes, write_json};
use crate::problem::Failure;
use crate::progress::Progress;

/// Shown under `export --help`.
pub const EXAMPLES: &str =
    "A line is {\"saga\":\"{name}\",\"order\":{...},\"entries\":[...]}, the oldest first, whatever -o says. In place of what the {service}
cannot read stands \"unreadable\", which says why; `saga replay --from` counts and names it.

Exit status: 0 complete, 1 failed or broke off, 2 wrong usage.

Examples:
  {saga} export ${id} > one.jsonl
  {saga} export --all | gzip > sagas.jsonl.gz
  {saga} export --all --since 24h --status {status} > some.jsonl";

/// What to export.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("which").required(true))]
pub struct Args<C: CommandLine> {
    #[arg(help = format!("The {}'s id", C::Saga::NAME), group = "which", value_name = C::ID, value_parser = id, add = ArgValueCandidates::new(offer::newest::<C>))]
    id: Option<Uuid>,
    /// All of them.
    #[arg(long, group = "which")]
    all: bool,
    #[command(flatten)]
    select: Select<C>,
    #[command(flatten)]
    target: Target<C>,
}

impl<C: CommandLine> Args<C> {
    /// Runs the command.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let service = self.target.service()?;
        match self.id {
            Some(id) => write_json(&source::line_from_service(&service, id).await?)?,
            None => all(&service, &self.select).await?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

async fn all<C: CommandLine>(service: &Gateway, select: &Select<C>) -> anyhow::Result<()> {
    let mut pieces = open(service, select).await?;
    let progress = Progress::start("export", None);
    let mut sagas = 0_u64;
    // A terminal is shown what it can be shown, line by line; a file gets every byte as it came.
    let terminal = std::io::stdout().is_terminal();
    let mut whole = Vec::new();
    // Nothing is kept: a piece goes out before the next one is read, so a slow reader slows the service down.
    while let Some(piece) = pieces.next().await.context("the export broke off")? {
        whole.extend_from_slice(&piece);
        if !terminal {
            write_bytes(&std::mem::take(&mut whole))?;
        } else if let Some(end) = whole.iter().rposition(|byte| *byte == b'\n') {
            let lines: Vec<u8> = whole.drain(..=end).collect();
            write_json(String::from_utf8_lossy(&lines).trim_end())?;
        }
        sagas += piece.iter().filter(|byte| **byte == b'\n').count() as u64;
        progress.at(sagas, || format!("{sagas} sagas"));
    }
    drop(progress);
    tell(&format!("{sagas} sagas"));
    Ok(())
}

/// Every saga's line, as the service streams them.
pub async fn open<C: CommandLine>(service: &Gateway, select: &Select<C>) -> Result<Pieces, Failure> {
    let request = service.request(Method::GET, "/sagas/waybills").query(&select.query());
    service.stream(request, "application/x-ndjson").await
}
