//! `waybill saga show`: one order's story as a timeline.

use std::process::ExitCode;

use chrono::Utc;
use clap_complete::ArgValueCandidates;
use events::OrderId;
use order::saga::Order;
use saga::Transcript;

use super::follow::Live;
use super::place::Place;
use super::source;
use super::timeline::Timeline;
use crate::client::Gateway;
use crate::complete;
use crate::output::{Format, Output, write_out};

/// Shown under `waybill saga show --help`.
pub const EXAMPLES: &str =
    "One line an entry: its sequence, when it was decided, how long after the one before, what came, what was decided
and what was sent. `ask` is a command to do a step, `undo` one to undo it, `tell` an event for everyone.
-o json prints the whole waybill, -o jsonl an entry a line.

Exit status: 0 shown, 1 no such order or not readable by this build, 2 wrong usage.

Examples:
  waybill saga show $ORDER
  waybill saga show $ORDER --follow
  waybill saga show $ORDER -o jsonl | jq -c .message";

/// Which one.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The order's id.
    #[arg(add = ArgValueCandidates::new(complete::sagas))]
    order: OrderId,
    /// Stay, and show each entry as it comes, until the order is final.
    #[arg(long, short)]
    follow: bool,
    #[command(flatten)]
    place: Place,
}

impl Args {
    /// Runs the command.
    pub async fn run(self, out: Output) -> anyhow::Result<ExitCode> {
        let service = self.place.service()?;
        let waybill = source::from_service(&service, self.order).await?;
        match out.format {
            Format::Json if !self.follow => out.document(&serde_json::from_str::<serde_json::Value>(&waybill.write()?)?)?,
            Format::Json | Format::Jsonl => {
                waybill.entries.iter().try_for_each(|entry| out.document(entry))?;
                if self.follow {
                    follow(&service, &waybill, |entry| Ok(out.document(entry)?)).await?;
                }
            }
            Format::Table => {
                let mut timeline = Timeline::new(waybill.plan.clone());
                write_out(&Timeline::head(&waybill))?;
                waybill.entries.iter().try_for_each(|entry| write_out(&timeline.line(entry)))?;
                if self.follow && !timeline.is_final() {
                    follow(&service, &waybill, |entry| Ok(write_out(&timeline.line(entry))?)).await?;
                }
                write_out(&format!("\n{}", timeline.end(Utc::now())))?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Every entry after those already there, until the order is final.
async fn follow(
    service: &Gateway,
    waybill: &Transcript<Order>,
    mut each: impl FnMut(&saga::Entry<Order>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let last = waybill.entries.last().map_or(0, |entry| entry.sequence);
    let mut live = Live::new(service, waybill.plan.id, last);
    if waybill.state().is_some_and(|state| super::view::is_final(state.phase())) {
        return Ok(());
    }
    while let Some(entry) = live.next().await? {
        each(&entry)?;
    }
    Ok(())
}
