//! `waybill bench`: how many orders a second, how long each takes, and what it costs in CPU and memory, part by part.
//!
//! The driver shares the machine with what it measures, so it is lean, and its own CPU is told apart. It hears of each order's end
//! through one subscription and polls nothing.

mod baskets;
mod drive;
mod finals;
mod fleet;
mod floor;
mod http;
pub mod listeners;
mod live;
mod machine;
mod meter;
mod proc;
mod report;
mod result;
mod run;
mod schedule;
mod tally;
mod target;
mod workload;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use chassis::settings::seconds;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use saga_commands::client::Gateway;
use saga_commands::confirm;
use saga_commands::output::{Format, Output, plain, tell, write_out};
use saga_commands::signal::stop_signal;
use saga_commands::system::announce;
use saga_commands::usage::Usage;

use self::drive::Mode;
use self::floor::{Baseline, Traffic};
use self::machine::Machine;
use self::result::{Context, Run, RunInContext};
use self::run::{Bench, Pace};
use self::target::{Target, Where};
use self::workload::{Load, Workload};
use crate::audit::{self, Books, Check};

/// Shown under `waybill bench -h`.
pub const EXAMPLES: &str = "Examples:
  waybill bench --up
  waybill bench --up --concurrency 1,64,256,1024 --report bench.html
  waybill bench --up --rate 1000,2000,4000,8000 --report overload.html
  waybill bench --order-url http://127.0.0.1:8083 --seconds 30 --yes -o jsonl";

/// Shown under `waybill bench --help`.
pub const LONG_HELP: &str =
    "Posts orders, and hears through one subscription when each is final. Latency is from submission to the final state.

Closed loop (--concurrency): so many clients, each with one order at a time. Says what the system can carry.
Open loop (--rate): so many orders a second, whatever the answers. Latency counts from the moment an order was due, so a system
that stalls cannot hide it by slowing the load down. Says how long customers wait.

The default load is two lines an order over 100 products, with 1,000 users of whom 1% are inactive, and stock that is never short.
--hot makes it one line of one product: every order wants the same row.

CPU is what each process used in the measured seconds, divided by the orders that became final in them; the driver's own is told
apart. The floor is what the same messages and rows cost with no service around them.
On the machine of a running system the processes are found by the ports they listen on; elsewhere they are left out.

Users, products and orders are made and stay: measure a system you can throw away. Of a running system it says what will stay, and asks.

Exit status: 0 done, 1 failed or the audit found something, 2 wrong usage.

Examples:
  waybill bench --up
  waybill bench --up --concurrency 1,64,256,1024 --report bench.html
  waybill bench --up --rate 1000,2000,4000,8000 --report overload.html
  waybill bench --up --hot --seconds 20 --runs 3
  waybill bench --up --sync always --instances 2 -o jsonl
  waybill bench --up --baskets baskets.ndjson.gz --basket-products products.ndjson.gz
  waybill bench --order-url http://127.0.0.1:8083 --seconds 30 --yes -o jsonl
  waybill bench --via-gateway --concurrency 64 --audit=false --yes";

/// What to measure, and how.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    place: Where,
    /// Closed loop: so many clients; several numbers for several runs.
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "256", value_parser = clap::value_parser!(u16).range(1..=16384))]
    concurrency: Vec<u16>,
    /// Open loop: so many orders a second; several numbers for several runs.
    #[arg(long, value_name = "R,...", value_delimiter = ',', conflicts_with = "concurrency", value_parser = rate)]
    rate: Vec<f64>,
    /// Seconds measured in each run.
    #[arg(long, default_value = "10", value_parser = seconds, value_name = "SECONDS")]
    seconds: Duration,
    /// Seconds of load before that, not measured.
    #[arg(long, default_value = "3", value_parser = warmup, value_name = "SECONDS")]
    warmup: Duration,
    /// How often each is run.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    runs: u16,
    /// Products to order from.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    products: u32,
    /// One product in every order.
    #[arg(long, conflicts_with = "products")]
    hot: bool,
    /// Real baskets, as `waybill import` reads them; the first 50,000.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["products", "hot"])]
    baskets: Option<PathBuf>,
    /// The names and prices of their products.
    #[arg(long, value_name = "FILE", requires = "baskets")]
    basket_products: Option<PathBuf>,
    /// Users who order.
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    users: u32,
    /// The share of them who may not.
    #[arg(long, value_name = "0 TO 1", default_value = "0.01", value_parser = share)]
    inactive: f64,
    /// Open loop: the most requests under way; those beyond count as errors.
    #[arg(long, value_name = "N", default_value_t = 4_000, value_parser = clap::value_parser!(u32).range(1..=60_000))]
    in_flight: u32,
    /// Seconds an order may take before it is looked up and counted as an error.
    #[arg(long, default_value = "30", value_parser = seconds, value_name = "SECONDS")]
    deadline: Duration,
    /// Whether to measure the floor [default: with --up].
    #[arg(long, value_name = "true|false", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    floor: Option<bool>,
    /// Whether to audit the databases at the end.
    #[arg(
        long,
        value_name = "true|false",
        default_value_t = true,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        action = clap::ArgAction::Set
    )]
    audit: bool,
    /// Write a page with charts of all runs.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    #[command(flatten)]
    confirm: confirm::Args,
}

impl Args {
    /// Runs the command.
    pub async fn run(self, gateway: impl Fn() -> anyhow::Result<reqwest::Url>, out: Output) -> anyhow::Result<ExitCode> {
        many_files();
        let workload = self.workload().await?;
        // A system of our own lives in this future: whichever way it ends, the system ends with it.
        let (runs, context, audit) = tokio::select! {
            ended = self.measure(&workload, &gateway) => ended?,
            _ = stop_signal() => {
                tell("Interrupted.");
                return Ok(ExitCode::FAILURE);
            }
        };
        let lines: Vec<RunInContext> = runs.iter().map(|run| RunInContext { run, context: &context }).collect();
        match out.format {
            Format::Table => write_out(&result::tables(&runs))?,
            Format::Json => out.document(&lines)?,
            Format::Jsonl => lines.iter().try_for_each(|line| out.document(line))?,
        }
        if let Some(path) = &self.report {
            let page = report::page(&runs, &context);
            std::fs::write(path, page).with_context(|| format!("cannot write {}", path.display()))?;
            tell(&format!("The report is in {}.", path.display()));
        }
        Ok(verdict(audit.as_deref()))
    }

    async fn measure(
        &self,
        workload: &Workload,
        gateway: &dyn Fn() -> anyhow::Result<reqwest::Url>,
    ) -> anyhow::Result<(Vec<Run>, Context, Option<Vec<Check>>)> {
        let leaves = format!(
            "It will keep {} users, {} products and every order of {} s of load: they cannot be taken away again.",
            self.users,
            workload.products.len(),
            (self.warmup + self.seconds).as_secs_f64().ceil() * self.modes().len() as f64
        );
        if !self.place.up {
            self.confirm.check().map_err(|Usage(why)| Usage(format!("{why}. {leaves}")))?;
        }
        let target = self.place.target(gateway).await?;
        if !self.place.up {
            let endpoints: Vec<&str> = target.endpoints.iter().map(reqwest::Url::as_str).collect();
            announce("running system", &endpoints);
            tell(&leaves);
            anyhow::ensure!(self.confirm.ask("Measure it?")?, "not measured");
        }
        let measured = tokio::select! {
            measured = self.on(&target, workload) => measured,
            error = target.failed() => Err(error),
        };
        let stopped = target.stop().await;
        let (runs, audit) = measured?;
        stopped?;
        let context = self.context(workload, audit.as_deref());
        Ok((runs, context, audit))
    }

    async fn on(&self, target: &Target, workload: &Workload) -> anyhow::Result<(Vec<Run>, Option<Vec<Check>>)> {
        let databases = || match &target.databases {
            Ok(databases) => Ok(databases),
            Err(error) => anyhow::bail!("{error}; or leave the audit out: --audit=false"),
        };
        let books = if self.audit { Some(Books::open(&databases()?[0], &databases()?[1]).await?) } else { None };
        let (user, product) = (Gateway::new(&target.user)?, Gateway::new(&target.product)?);
        let load = Load::make(workload, self.users as usize, self.inactive, &user, &product).await?;
        let bench = Bench::new(target, load, self.pace()).await?;
        let baseline = match self.floor.unwrap_or(self.place.up) {
            true => Some(Baseline::new(&bench.meter, bench.broker.clone(), [&databases()?[0], &databases()?[1]])),
            false => None,
        };
        let mut runs = Vec::new();
        for mode in self.modes() {
            runs.push(one(&bench, baseline.as_ref(), mode).await?);
        }
        let audit = match &books {
            Some(books) => Some(audit::checks(books).await),
            None => None,
        };
        Ok((runs, audit))
    }

    fn pace(&self) -> Pace {
        let Self { warmup, seconds, deadline, in_flight, .. } = *self;
        Pace { warmup, seconds, deadline, in_flight: in_flight as usize }
    }

    async fn workload(&self) -> anyhow::Result<Workload> {
        let Some(baskets) = &self.baskets else {
            return Ok(Workload::uniform(if self.hot { 1 } else { self.products as usize }));
        };
        let (workload, left_out) = baskets::read(baskets, self.basket_products.as_deref()).await?;
        if left_out > 0 {
            tell(&format!("{left_out} baskets are left out: the server would not take them."));
        }
        Ok(workload)
    }

    fn modes(&self) -> Vec<Mode> {
        let once: Vec<Mode> = match self.rate.is_empty() {
            true => self.concurrency.iter().map(|clients| Mode::Closed((*clients).into())).collect(),
            false => self.rate.iter().map(|rate| Mode::Open(*rate)).collect(),
        };
        once.iter().flat_map(|mode| vec![*mode; self.runs.into()]).collect()
    }

    fn context(&self, workload: &Workload, audit: Option<&[Check]>) -> Context {
        let load = match (&self.baskets, self.hot) {
            (Some(_), _) => "baskets",
            (_, true) => "hot",
            _ => "uniform",
        };
        Context {
            load,
            lines_per_order: meter::round(workload.lines(), 2),
            products: workload.products.len(),
            via_gateway: self.place.via_gateway,
            instances: self.place.up.then_some(self.place.instances),
            sync: self.place.up.then(|| self.place.sync.to_string()),
            warmup_seconds: self.warmup.as_secs_f64(),
            audit_clean: audit.map(|checks| checks.iter().all(|check| check.findings.is_empty())),
            machine: Machine::this(),
            version: env!("CARGO_PKG_VERSION"),
            commit: option_env!("WAYBILL_COMMIT"),
            command: std::env::args_os().skip(1).fold("waybill".to_owned(), |line, word| format!("{line} {}", word.display())),
            at: chrono::Utc::now(),
        }
    }
}

/// One run, and the floor under it.
async fn one(bench: &Bench, baseline: Option<&Baseline<'_>>, mode: Mode) -> anyhow::Result<Run> {
    let Some(baseline) = baseline else { return bench.run(mode).await };
    let before = baseline.said().await?;
    let mut run = bench.run(mode).await?;
    let traffic = Traffic::between(&before, &baseline.said().await?);
    run.stand_on(baseline.of(&traffic, run.all_orders).await?);
    Ok(run)
}

fn verdict(audit: Option<&[Check]>) -> ExitCode {
    let wrong: Vec<&Check> = audit.unwrap_or_default().iter().filter(|check| !check.findings.is_empty()).collect();
    match audit {
        None => tell("No audit was made."),
        Some(_) if wrong.is_empty() => tell("Audit: everything adds up."),
        Some(_) => tell("Audit: something does not add up."),
    }
    for check in &wrong {
        let first = check.findings.first().map(|finding| format!("{}: {}", finding.id, finding.what)).unwrap_or_default();
        tell(&plain(format!("  {} of \"{}\"; first: {first}", violations(check.findings.len()), check.check)));
    }
    if wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn violations(number: usize) -> String {
    if number == 1 { "1 violation".to_owned() } else { format!("{number} violations") }
}

/// Each client has a connection, and the usual limit is 1,024. The services inherit ours.
fn many_files() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum.or(Some(1 << 20)), maximum });
}

fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok().filter(|rate| (0.1..=1e6).contains(rate));
    rate.ok_or_else(|| format!("`{text}` is not a number of orders a second"))
}

fn share(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|share| (0.0..=1.0).contains(share)).ok_or_else(|| format!("`{text}` is not from 0 to 1"))
}

fn warmup(text: &str) -> Result<Duration, String> {
    if text == "0" { Ok(Duration::ZERO) } else { seconds(text) }
}
