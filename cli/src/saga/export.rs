//! `waybill saga export`: sagas with their whole histories, a JSON line each, to keep and to replay anywhere.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Context as _;
use events::OrderId;
use reqwest::Method;

use super::select::Select;
use super::{Place, source};
use crate::client::{Gateway, Pieces};
use crate::output::{tell, write_json};
use crate::problem::Failure;
use crate::progress::Progress;

/// Shown under `waybill saga export --help`.
pub const EXAMPLES: &str =
    "A line is {\"saga\":\"order\",\"order\":{...},\"entries\":[...]}, oldest order first, whatever -o says.

Exit status: 0 complete, 1 failed or broke off, 2 wrong usage.

Examples:
  waybill saga export $ORDER > order.jsonl
  waybill saga export --all | gzip > sagas.jsonl.gz
  waybill saga export --all --since 24h --status rejected > rejected.jsonl";

/// What to export.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The order's id.
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    order: Option<OrderId>,
    /// Every order.
    #[arg(long)]
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
    // Nothing is kept: a piece goes out before the next one is read, so a slow reader slows the service down.
    while let Some(piece) = pieces.next().await.context("the export broke off")? {
        std::io::stdout().lock().write_all(&piece)?;
        sagas += piece.iter().filter(|byte| **byte == b'\n').count() as u64;
        progress.at(sagas, || format!("{sagas} sagas"));
    }
    drop(progress);
    std::io::stdout().lock().flush()?;
    tell(&format!("{sagas} sagas"));
    Ok(())
}

/// Every saga's line, as the order service streams them.
pub async fn open(service: &Gateway, select: &Select) -> Result<Pieces, Failure> {
    let request = service.request(Method::GET, "/sagas/waybills").query(&select.query());
    service.stream(request, "application/x-ndjson").await
}
