//! `waybill services`: which instances of which services there are, asked of the broker: each instance that is connected to it answers.

use std::process::ExitCode;

use async_nats::Client;
use async_nats::service::Stats;
use chassis::discovery::{self, Instance};
use chrono::{DateTime, Utc};
use saga_commands::CommandLine as _;
use saga_commands::broker::Target;
use saga_commands::instances::{WITHIN, found};
use saga_commands::output::{Format, Output, Tabular, table, tell, time, write_out};
use serde::Serialize;
use serde_json::json;
use uuid::Uuid;

use crate::saga::Orders;

/// Examples for `--help`.
pub const EXAMPLES: &str = "Exit status: 0 somebody answered, 1 nobody did.

Examples:
  waybill services
  waybill services -o jsonl | jq -r .address";

/// The flags of `waybill services`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    broker: Target,
}

/// An instance, as people read it.
#[derive(Debug, Serialize)]
struct Shown {
    service: String,
    instance: String,
    version: String,
    address: String,
    ready: bool,
    /// Requests answered over HTTP, those answered with a failure of the service's own among them.
    requests: Option<u64>,
    errors: Option<u64>,
    started: Option<DateTime<Utc>>,
}

impl Tabular for Shown {
    const HEADER: &'static [&'static str] =
        &["SERVICE", "INSTANCE", "VERSION", "ADDRESS", "READY", "REQUESTS", "ERRORS", "STARTED"];

    fn row(&self) -> Vec<String> {
        let count = |number: Option<u64>| number.map_or_else(String::new, |number| number.to_string());
        vec![
            self.service.clone(),
            self.instance.clone(),
            self.version.clone(),
            self.address.clone(),
            if self.ready { "yes" } else { "no" }.to_owned(),
            count(self.requests),
            count(self.errors),
            self.started.map(time).unwrap_or_default(),
        ]
    }
}

impl Args {
    /// Exit status 1: nobody answers.
    pub async fn run(self, out: Output) -> anyhow::Result<ExitCode> {
        let broker = self.broker.connect().await?;
        let client = broker.client();
        let instances = found(client).await?;
        let mut shown = Vec::with_capacity(instances.len());
        for instance in instances {
            shown.push(with_counts(client, instance).await);
        }
        shown.sort_by(|one, other| (&one.service, &one.instance).cmp(&(&other.service, &other.instance)));
        match out.format {
            Format::Table if shown.is_empty() => tell("No service answers on this broker."),
            Format::Table => {
                write_out(&table(Shown::HEADER, shown.iter().map(Shown::row)))?;
                let is_missing = |service: &&&str| shown.iter().all(|instance| instance.service != **service);
                for service in Orders::SERVICES.iter().filter(is_missing) {
                    tell(&format!("No {service} service answers on this broker."));
                }
            }
            Format::Json => out.document(&json!({ "items": shown }))?,
            Format::Jsonl => shown.iter().try_for_each(|instance| out.document(instance))?,
        }
        Ok(if shown.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }
}

/// The instance with what it has answered, if it still says so.
async fn with_counts(client: &Client, instance: Instance) -> Shown {
    let asked = tokio::time::timeout(WITHIN, client.request(discovery::stats(&instance), "".into())).await;
    let stats = asked.ok().and_then(Result::ok).and_then(|answer| serde_json::from_slice::<Stats>(&answer.payload).ok());
    let count = |name: &str| stats.as_ref()?.endpoints.iter().find_map(|endpoint| endpoint.data.as_ref()?.get(name)?.as_u64());
    let (requests, errors) = (count("requests"), count("errors"));
    let Instance { service, id, version, address, ready, .. } = instance;
    // Its id holds when it was begun; what the broker knows of it is begun anew when it becomes ready.
    let begun = id.parse().ok().and_then(|id: Uuid| id.get_timestamp()).and_then(|at| {
        let (seconds, nanos) = at.to_unix();
        DateTime::from_timestamp(i64::try_from(seconds).ok()?, nanos)
    });
    Shown { service, instance: id, version, address, ready, requests, errors, started: begun }
}
