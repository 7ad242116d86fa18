//! `waybill saga export`: sagas with their whole histories, a JSON line each, to keep and to replay anywhere.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use anyhow::Context as _;
use clap_complete::ArgValueCandidates;
use events::OrderId;
use reqwest::Method;

use super::place::Place;
use super::select::Select;
use super::source;
use crate::client::{Gateway, Pieces};
use crate::complete;
use crate::output::{tell, write_bytes, write_json};
use crate::problem::Failure;
use crate::progress::Progress;

/// Shown under `waybill saga export --help`.
pub const EXAMPLES: &str =
    "A line is {\"saga\":\"order\",\"order\":{...},\"entries\":[...]}, oldest order first, whatever -o says. In place of what the order service
cannot read stands \"unreadable\", which says why; `saga replay --from` counts and names it.

Exit status: 0 complete, 1 failed or broke off, 2 wrong usage.

Examples:
  waybill saga export $ORDER > order.jsonl
  waybill saga export --all | gzip > sagas.jsonl.gz
  waybill saga export --all --since 24h --status rejected > rejected.jsonl";

/// What to export.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("which").required(true))]
pub struct Args {
    /// The order's id.
    #[arg(group = "which", add = ArgValueCandidates::new(complete::sagas))]
    order: Option<OrderId>,
    /// Every order.
    #[arg(long, group = "which")]
    all: bool,
    #[command(flatten)]
    select: Select,
    #[command(flatten)]
    place: Place,
}

impl Args {
    /// Runs the command.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let service = self.place.service()?;
        match self.order {
            Some(order) => write_json(&source::line_from_service(&service, order).await?)?,
            None => all(&service, &self.select).await?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

async fn all(service: &Gateway, select: &Select) -> anyhow::Result<()> {
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

/// Every saga's line, as the order service streams them.
pub async fn open(service: &Gateway, select: &Select) -> Result<Pieces, Failure> {
    let request = service.request(Method::GET, "/sagas/waybills").query(&select.query());
    service.stream(request, "application/x-ndjson").await
}
