//! `waybill audit`: proves over all databases that nothing is lost, stuck or oversold; names every row that says otherwise.
//!
//! The databases are read one after the other while orders move, so what looks wrong is looked at again, some moments later, and only
//! what is still wrong is reported.

mod checks;
mod rows;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use chassis::settings::seconds;
use serde::Serialize;
use sqlx::postgres::{PgPool, PgPoolOptions};

use crate::output::{Format, Output, Tabular, plain, table, tell, write_out};
use crate::system::{Databases, announce};

/// Examples for `--help`.
pub const EXAMPLES: &str = "Examples:
  waybill audit
  waybill audit -o json
  waybill audit --grace 60 || page-someone

Exit status: 0 everything adds up, 1 something does not (each row is printed), 2 wrong usage.";

/// Findings printed of each check; the count is always whole.
const SHOWN: usize = 100;

/// The flags of `waybill audit`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    databases: Databases,

    /// Seconds an order may take in all; the order service's own setting.
    #[arg(long, env = "WAYBILL_ORDER_DEADLINE", default_value = "900", value_parser = seconds, value_name = "SECONDS")]
    order_deadline: Duration,

    /// Seconds by which a deadline may be missed: a sweep and a repetition.
    #[arg(long, default_value = "120", value_parser = seconds, value_name = "SECONDS")]
    grace: Duration,
}

/// What one check found.
#[derive(Debug, Serialize)]
pub struct Check {
    /// What was to be proved.
    pub check: &'static str,
    /// How many rows were looked at.
    pub rows: u64,
    /// What contradicts it.
    pub findings: Vec<Finding>,
}

/// A row that contradicts a check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The order, reservation or product.
    pub id: String,
    /// What is wrong with it.
    pub what: String,
}

impl Tabular for Check {
    const HEADER: &'static [&'static str] = &["CHECK", "ROWS", "WRONG"];

    fn row(&self) -> Vec<String> {
        vec![self.check.to_owned(), self.rows.to_string(), self.findings.len().to_string()]
    }
}

/// The answer of the whole audit.
#[derive(Debug, Serialize)]
struct Report {
    clean: bool,
    checks: Vec<Check>,
}

/// The databases under audit.
pub struct Books {
    /// The order service's.
    pub orders: PgPool,
    /// The product service's.
    pub products: PgPool,
    /// How long an order may be under way.
    pub patience: Duration,
    /// By how much a deadline may be missed.
    pub grace: Duration,
}

impl Books {
    /// Opens the databases of the order and the product service; patience and grace are the usual ones.
    pub async fn open(order_url: &str, product_url: &str) -> anyhow::Result<Self> {
        let (orders, products) = (connect(order_url, "order").await?, connect(product_url, "product").await?);
        Ok(Self { orders, products, patience: Duration::from_secs(900), grace: Duration::from_secs(120) })
    }

    /// Every check. One that cannot be made is a finding; the others are made all the same.
    pub async fn checks(&self) -> Vec<Check> {
        let made = |check, made: anyhow::Result<Check>| {
            made.unwrap_or_else(|error| {
                let what = format!("it could not be made: {error:#}");
                Check { check, rows: 0, findings: vec![Finding { id: "this check".to_owned(), what }] }
            })
        };
        vec![
            made(checks::IN_TIME, checks::in_time(self).await),
            made(checks::CONSERVED, checks::conserved(self).await),
            made(checks::HELD, checks::held(self).await),
            made(checks::MATCHED, checks::matched(self).await),
        ]
    }
}

impl Args {
    /// Runs the command.
    pub async fn run(self, out: Output) -> anyhow::Result<ExitCode> {
        let (orders, products) = (self.databases.order()?, self.databases.product()?);
        announce("databases", &[&orders, &products]);
        let mut books = Books::open(&orders, &products).await?;
        (books.patience, books.grace) = (self.order_deadline, self.grace);
        let checks = books.checks().await;
        let report = Report { clean: checks.iter().all(|check| check.findings.is_empty()), checks };
        match out.format {
            Format::Table => show(&report)?,
            Format::Json => out.document(&report)?,
            Format::Jsonl => report.checks.iter().try_for_each(|check| out.document(check))?,
        }
        Ok(if report.clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
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

async fn connect(url: &str, name: &str) -> anyhow::Result<PgPool> {
    let options = PgPoolOptions::new().max_connections(2).acquire_timeout(Duration::from_secs(10));
    options
        .connect_with(chassis::database::options(url)?)
        .await
        .with_context(|| format!("the {name} service's database does not answer"))
}
