//! `waybill bench`: how many orders a second, how long each takes, and what it costs in CPU and memory, part by part.

mod drive;
mod finals;
mod fleet;
mod goods;
mod http;
mod live;
mod meter;
mod proc;
mod result;
mod run;
mod schedule;
mod tally;

use std::process::ExitCode;
use std::time::Duration;

use chassis::settings::seconds;
use chassis::topology::TopologySettings;

use self::drive::Mode;
use self::fleet::Fleet;
use self::goods::{Goods, Load};
use self::meter::Part;
use self::run::Bench;
use crate::audit;
use crate::client::Gateway;
use crate::output::{Format, Output, tell, write_out};
use crate::up::stop_signal;

/// Shown under `waybill bench -h`.
pub const EXAMPLES: &str = "Examples:
  waybill bench --up
  waybill bench --up --concurrency 1,64,256 --seconds 20 -o jsonl";

/// Shown under `waybill bench --help`.
pub const LONG_HELP: &str = EXAMPLES;

/// What to measure, and how.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Start a system for the measurement: broker and databases, durable, and each service as a process of its own.
    #[arg(long)]
    up: bool,
    /// With --up: how many of each service.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=8))]
    instances: u8,
    /// Closed loop: so many clients, each with one order at a time; several numbers for several runs.
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "256", value_parser = clap::value_parser!(u16).range(1..=16384))]
    concurrency: Vec<u16>,
    /// Seconds measured in each run.
    #[arg(long, default_value = "10", value_parser = seconds, value_name = "SECONDS")]
    seconds: Duration,
    /// Seconds of load before that, not measured.
    #[arg(long, default_value = "3", value_name = "SECONDS")]
    warmup: f64,
    #[command(flatten)]
    topology: TopologySettings,
}

impl Args {
    /// Runs the command.
    pub async fn run(self, _gateway: &reqwest::Url, out: Output) -> anyhow::Result<ExitCode> {
        tokio::select! {
            ended = self.measure(out) => ended,
            _ = stop_signal() => {
                tell("Interrupted.");
                Ok(ExitCode::FAILURE)
            }
        }
    }

    async fn measure(self, out: Output) -> anyhow::Result<ExitCode> {
        let options =
            fleet::Options { instances: self.instances.into(), sync: None, broker: None, topology: self.topology.clone() };
        let fleet = Fleet::start(options).await?;
        let door = |part| fleet.urls(part).swap_remove(0);
        let goods = Goods::uniform(100);
        let load =
            Load::make(&goods, 1_000, 0.01, &Gateway::new(&door(Part::User))?, &Gateway::new(&door(Part::Product))?).await?;
        let bench =
            Bench::new(&fleet.urls(Part::Order), fleet.stack.nats.url(), load, fleet.processes(), self.warmup, self.seconds)
                .await?;
        let mut runs = Vec::new();
        for clients in &self.concurrency {
            let run = tokio::select! {
                run = bench.run(Mode::Closed((*clients).into())) => run?,
                error = fleet.failed() => return Err(error),
            };
            runs.push(run);
        }
        let books = audit::Books::open(
            &fleet.stack.postgres.socket_url("waybill_order"),
            &fleet.stack.postgres.socket_url("waybill_product"),
        )
        .await?;
        let audit = books.checks().await?;
        let clean = audit.iter().all(|check| check.findings.is_empty());
        match out.format {
            Format::Table => write_out(&result::tables(&runs))?,
            Format::Json => out.document(&runs)?,
            Format::Jsonl => runs.iter().try_for_each(|run| out.document(run))?,
        }
        tell(if clean { "Audit: everything adds up." } else { "Audit: something does not add up." });
        drop(books);
        fleet.stop().await?;
        Ok(if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}
