//! `waybill events rebuild`: has the order service publish again what ORDER_EVENTS lacks, and shows how far that has come.

use std::process::ExitCode;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use events::OrderId;
use saga_commands::output::{Output, Tabular, tell};
use saga_commands::progress::Progress;
use saga_commands::{age, confirm};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::saga;

/// Shown under `waybill events rebuild --help`.
pub const EXAMPLES: &str = "The order service notices by itself what the broker lost, and publishes it again; this is for what it cannot notice: a database that was
restored, a stream that was edited. Only events that the stream does not hold are published, with the ids that they had and the header
ce-republished. Events older than the stream's limits are left out.

Exit status: 0 complete, 1 some orders could not be read or their events were not taken (the first hundred are named), or not confirmed;
2 wrong usage, or nobody to ask.

Examples:
  waybill events rebuild --dry-run
  waybill events rebuild --since 2h
  waybill events rebuild --since 2026-01-02T03:04:05Z --yes";

/// How often is asked how far it has come.
const LOOK_EVERY: Duration = Duration::from_millis(300);

/// What is looked for.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only events since: a moment (2026-01-02T03:04:05Z) or how long ago (10m) [default: all that the stream's limits allow].
    #[arg(long, value_name = "MOMENT", value_parser = age::moment)]
    since: Option<DateTime<Utc>>,
    /// Only say how many are missing.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    by: confirm::By,
    #[command(flatten)]
    confirm: confirm::Args,
    #[command(flatten)]
    target: saga::Target,
}

/// A rebuild as the order service describes it.
#[derive(Debug, Serialize, Deserialize)]
struct Rebuild {
    id: uuid::Uuid,
    reason: String,
    asked_by: Option<String>,
    dry_run: bool,
    since: DateTime<Utc>,
    checked: u64,
    missing: u64,
    unreadable: u64,
    /// The first of them.
    #[serde(default)]
    unreadable_orders: Vec<OrderId>,
    begun_at: DateTime<Utc>,
    ended_at: Option<DateTime<Utc>>,
}

impl Args {
    /// Runs the command.
    pub async fn run(self, out: Output) -> anyhow::Result<ExitCode> {
        let service = self.target.service()?;
        // A look needs nobody's name.
        let by = match self.dry_run {
            true => self.by.name(service.subject()).ok(),
            false => {
                self.confirm.check()?;
                Some(self.by.name(service.subject())?)
            }
        };
        if !self.dry_run && !self.confirm.ask("Publish again what ORDER_EVENTS lacks?")? {
            return Ok(ExitCode::FAILURE);
        }
        let body = json!({"by": by, "since": self.since, "dry_run": self.dry_run});
        let mut rebuild: Rebuild = service.post("/events/rebuild", &body).await?;
        let progress = Progress::start("events", None);
        while rebuild.ended_at.is_none() {
            tokio::time::sleep(LOOK_EVERY).await;
            rebuild = service.get(&format!("/events/rebuild/{}", rebuild.id)).await?;
            progress.at(rebuild.checked, || format!("{} looked for, {} missing", rebuild.checked, rebuild.missing));
        }
        drop(progress);
        if self.dry_run && !rebuild.dry_run {
            tell(&format!("The order service noticed a loss meanwhile ({}) and published again itself.", rebuild.reason));
        }
        out.one(&rebuild)?;
        Ok(if rebuild.unreadable == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

impl Tabular for Rebuild {
    const HEADER: &'static [&'static str] = &["SINCE", "CHECKED", "MISSING", "UNREADABLE"];

    fn row(&self) -> Vec<String> {
        let since = self.since.to_rfc3339_opts(SecondsFormat::Secs, true);
        vec![since, self.checked.to_string(), self.missing.to_string(), self.unreadable.to_string()]
    }

    fn details(&self) -> Vec<(String, String)> {
        let missing = if self.dry_run { "missing" } else { "published again" };
        let pairs = [
            ("since", self.since.to_rfc3339_opts(SecondsFormat::Secs, true)),
            ("looked for", self.checked.to_string()),
            (missing, self.missing.to_string()),
            ("unreadable", self.unreadable.to_string()),
        ];
        let unreadable = self.unreadable_orders.iter().map(|order| ("", order.to_string()));
        pairs.into_iter().chain(unreadable).map(|(name, value)| (name.to_owned(), value)).collect()
    }
}
