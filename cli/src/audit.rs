//! `waybill audit`: proves over all databases that nothing is lost, stuck or oversold; names every row that says otherwise.
//!
//! The databases are read one after the other while orders move, so what looks wrong is looked at again, some moments later, and only
//! what is still wrong is reported.

mod books;
mod checks;
mod rows;
mod told;

use std::process::ExitCode;
use std::time::Duration;

use chassis::settings::seconds;
use chrono::{DateTime, Utc};
use saga_commands::output::{Format, Output, Tabular as _, plain, table, tell, write_out};
use saga_commands::system::announce;
use saga_commands::{age, broker};
use serde::Serialize;

pub use self::books::{Books, Check};
pub use self::checks::all as checks;
use crate::addresses::Databases;

/// Examples for `--help`.
pub const EXAMPLES: &str = "Examples:
  waybill audit
  waybill audit -o json
  waybill audit --grace 60 || page-someone
  waybill audit --events-since 2026-01-02T03:04:05Z   # after a restore: what is lost?

Exit status: 0 everything adds up, 1 something does not (each row is printed), 2 wrong usage.";

/// How long an audit may wait for a lock before it says so.
const PATIENCE: Duration = Duration::from_secs(5);

/// Findings printed of each check; the count is always whole.
const SHOWN: usize = 100;

/// The flags of `waybill audit`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    databases: Databases,

    /// Seconds an order may take in all; the order service's own setting.
    #[arg(long, alias = "order-deadline", env = "WAYBILL_SAGA_DEADLINE", default_value = "900", value_parser = seconds, value_name = "SECONDS")]
    saga_deadline: Duration,

    /// Seconds by which a deadline may be missed: a sweep and a repetition.
    #[arg(long, default_value = "120", value_parser = seconds, value_name = "SECONDS")]
    grace: Duration,

    /// Also whether all that ORDER_EVENTS told since is in the orders' histories: a moment (2026-01-02T03:04:05Z) or how long ago (10m). After a
    /// database was restored, the moment that it was restored to: what the time since then has lost is listed by order.
    #[arg(long, value_name = "MOMENT", value_parser = age::moment)]
    events_since: Option<DateTime<Utc>>,

    #[command(flatten)]
    broker: broker::Target,
}

/// The answer of the whole audit.
#[derive(Debug, Serialize)]
struct Report {
    clean: bool,
    checks: Vec<Check>,
}

impl Args {
    /// Runs the command.
    pub async fn run(self, out: Output) -> anyhow::Result<ExitCode> {
        let (orders, products) = (self.databases.order()?, self.databases.product()?);
        announce("databases", &[&orders, &products]);
        let mut books = Books::open(&orders, &products).await?;
        (books.patience, books.grace) = (self.saga_deadline, self.grace);
        let mut checks = watched(&books, checks(&books)).await;
        if let Some(since) = self.events_since {
            checks.push(told::told(&books, &self.broker.connect().await?, since).await?);
        }
        let report = Report { clean: checks.iter().all(|check| check.findings.is_empty()), checks };
        match out.format {
            Format::Table => show(&report)?,
            Format::Json => out.document(&report)?,
            Format::Jsonl => report.checks.iter().try_for_each(|check| out.document(check))?,
        }
        Ok(if report.clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// Does the work, and says so where it waits for somebody's lock.
async fn watched<T>(books: &Books, work: impl Future<Output = T>) -> T {
    let (mut work, mut said) = (std::pin::pin!(work), false);
    loop {
        tokio::select! {
            done = &mut work => return done,
            () = tokio::time::sleep(PATIENCE), if !said => {
                for name in books.waits().await {
                    tell(&format!("The audit waits for a lock that somebody holds in the {name} service's database."));
                    said = true;
                }
            }
        }
    }
}

fn show(report: &Report) -> std::io::Result<()> {
    write_out(&table(Check::HEADER, report.checks.iter().map(Check::row)))?;
    for check in &report.checks {
        for finding in check.findings.iter().take(SHOWN) {
            write_out(&plain(format!("{}: {}", finding.id, finding.what)))?;
        }
        if check.findings.len() > SHOWN {
            write_out(&format!("... and {} more: {}", check.findings.len() - SHOWN, check.check))?;
        }
    }
    tell(if report.clean { "Everything adds up." } else { "Something does not add up." });
    Ok(())
}
