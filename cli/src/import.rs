//! `waybill import`: real shopping baskets become products, users and orders. Each is made under an idempotency key of its
//! own, so that an import can be stopped anywhere and run again.

pub mod lines;
mod load;
mod settle;
mod summary;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use events::Currency;
use saga_commands::client::Gateway;
use saga_commands::output::{Format, Output, pairs, write_out};
use saga_commands::usage::{Usage, number};

use self::lines::Lines;
use self::load::Loader;
use self::settle::Settle;
use self::summary::Summary;
use crate::price;

/// Shown under `waybill import -h`.
pub const EXAMPLES: &str = "Examples:
  waybill import --products products.ndjson.gz --baskets baskets.ndjson.gz
  waybill import --products products.ndjson --baskets baskets.ndjson --limit 1000 --no-wait
  zcat baskets-*.gz | waybill import --products products.ndjson.gz --baskets - -o json";

/// Shown under `waybill import --help`.
pub const LONG_HELP: &str = "Both files hold one JSON object a line, plain or gzip:
  products  {\"product\":27479,\"name\":\"White bread\",\"package\":\"20 OZ\",\"cents\":100}
  baskets   {\"basket\":31198570044,\"household\":900,\"lines\":[[27479,2]]}

Each product becomes a product, each household a user (household-<n>@baskets.example), each basket an order.
All are made under idempotency keys: a second run makes nothing twice and counts it as already there, and a run that was
stopped continues when the same command is run again.
What the server does not accept, such as a quantity of 0, is counted by reason and is no error.

Exit status: 0 done, 1 failed or some lines could not be read, 2 wrong usage.

Examples:
  waybill import --products products.ndjson.gz --baskets baskets.ndjson.gz
  waybill import --products products.ndjson --baskets baskets.ndjson --limit 1000 --no-wait
  zcat baskets-*.gz | waybill import --products products.ndjson.gz --baskets - -o json";

/// What to import, and how.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The products; `-` is stdin.
    #[arg(long, value_name = "FILE")]
    products: PathBuf,
    /// The baskets; `-` is stdin.
    #[arg(long, value_name = "FILE")]
    baskets: PathBuf,
    /// Pieces in stock of every product.
    #[arg(long, value_name = "N", default_value = "100000000", value_parser = number::<i64, 0, 1_000_000_000>)]
    stock: i64,
    /// The currency of the prices, ISO 4217.
    #[arg(long, default_value = "USD", value_parser = price::currency)]
    currency: Currency,
    /// How many requests at a time.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=4096))]
    concurrency: u16,
    /// Only so many baskets, from the start of the file.
    #[arg(long, value_name = "N", value_parser = number::<usize, 1, { u64::MAX }>)]
    limit: Option<usize>,
    /// How many seconds to try again while the server is busy or away.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(0..=31_536_000))]
    patience: u64,
    /// Do not wait until the orders are final.
    #[arg(long)]
    no_wait: bool,
    /// Whether to count what became of the orders at the end.
    #[arg(
        long,
        value_name = "true|false",
        default_value_t = true,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        action = clap::ArgAction::Set
    )]
    outcomes: bool,
}

/// Said where it stops after the last basket.
const WAITING: &str = "All baskets were sent, but what became of the orders is not known. The same command again tells.";

impl Args {
    /// Runs the command.
    pub async fn run(self, gateway: &Gateway, out: Output) -> anyhow::Result<ExitCode> {
        if self.products.as_os_str() == "-" && self.baskets.as_os_str() == "-" {
            return Err(Usage("only one of --products and --baskets can be stdin".to_owned()).into());
        }
        let patience = Duration::from_secs(self.patience);
        let loader = Loader { gateway, concurrency: self.concurrency.into(), patience, retries: AtomicU64::new(0) };
        let settle = Settle { gateway, patience };
        let mut summary = Summary::default();

        // Both are opened before anything is sent: a name mistyped should not show after twenty thousand products.
        let (products, baskets) = (Lines::open(&self.products)?, Lines::open(&self.baskets)?);
        let started = Instant::now();
        let products = loader.products(products, self.currency, self.stock, &mut summary).await?;
        let first_basket = Instant::now();
        let orders = loader.baskets(baskets, self.limit.unwrap_or(usize::MAX), &products, &mut summary).await?;
        if !self.no_wait {
            settle.until_final(&orders).await.context(WAITING)?;
        }
        summary.retries = loader.retries.into_inner();
        summary.seconds = started.elapsed().as_secs_f64();
        summary.orders_seconds = first_basket.elapsed().as_secs_f64();
        summary.orders_per_s = summary.orders.created as f64 / summary.orders_seconds;
        if self.outcomes && !self.no_wait {
            summary.outcomes = Some(settle.outcomes(orders).await.context(WAITING)?);
        }

        match out.format {
            Format::Table => write_out(&pairs(&summary.lines()))?,
            Format::Json | Format::Jsonl => out.document(&summary)?,
        }
        Ok(if summary.malformed_lines == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}
