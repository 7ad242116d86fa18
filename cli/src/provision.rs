//! `waybill provision`: creates and updates the streams and consumers, once or for as long as it runs.

use std::process::ExitCode;

use chassis::topology::{self, TopologySettings};
use events::streams::TOPOLOGY;
use saga_commands::broker;
use saga_commands::output::{Format, Output, tell, write_out};
use saga_commands::signal::stop_signal;
use saga_commands::system::announce;
use serde_json::json;
use tokio_util::sync::CancellationToken;

/// Examples for `--help`.
pub const EXAMPLES: &str = "Examples:
  waybill provision
  waybill provision --watch
  NATS_URL=nats://a:4222,nats://b:4222,nats://c:4222 waybill provision --stream-replicas 3";

/// The flags of `waybill provision`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Stay, and put back what vanishes or is changed.
    #[arg(long)]
    watch: bool,
    #[command(flatten)]
    topology: TopologySettings,
    #[command(flatten)]
    target: broker::Target,
}

impl Args {
    /// Runs the command.
    pub async fn run(self, out: Output) -> anyhow::Result<ExitCode> {
        // What it does once it prints; what it does for ever it logs.
        chassis::telemetry::init(if self.watch { "info" } else { "warn" })?;
        announce("broker", &self.target.url()?.expose().split(',').collect::<Vec<_>>());
        let broker = self.target.connect_as("waybill-provision").await?;
        if self.watch {
            let shutdown = CancellationToken::new();
            let stop = shutdown.clone();
            tokio::spawn(async move {
                let _ = stop_signal().await;
                stop.cancel();
            });
            topology::keep(broker.jetstream(), &TOPOLOGY, &self.topology, &shutdown).await;
            return Ok(ExitCode::SUCCESS);
        }
        broker.connected().await?;
        let changes = topology::ensure(broker.jetstream(), &TOPOLOGY, &self.topology).await?;
        match out.format {
            Format::Table => {
                let said = [changes.made.as_slice(), &changes.paused].concat();
                if !said.is_empty() {
                    write_out(&said.join("\n"))?;
                }
                match (changes.made.is_empty(), changes.paused.is_empty()) {
                    (true, true) => tell("Everything is as it should be."),
                    (false, true) => {}
                    (_, false) => tell("All else is as it should be; what is paused stays so until somebody ends it."),
                }
            }
            Format::Json | Format::Jsonl => out.document(&json!({ "changes": changes.made, "paused": changes.paused }))?,
        }
        Ok(ExitCode::SUCCESS)
    }
}
