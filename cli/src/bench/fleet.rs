//! A system of its own for one measurement: broker and databases as durable as in production, and every service a process of its own,
//! as deployed. All of it ends with the command, however that ends.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use chassis::broker::Broker;
use chassis::topology::{self, TopologySettings};
use events::streams::TOPOLOGY;
use reqwest::Url;
use rustix::process::{Pid, Signal, kill_process};
use saga_commands::broker::broker_settings;
use stack::nats::Sync;
use stack::{Port, Stack};
use tokio::process::{Child, Command};

use super::meter::{ByPart, Part};
use crate::addresses::DATABASES;

/// How long the services may take to become ready, on a busy machine.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// How long a service may take to finish what is under way.
const STOPPED_WITHIN: Duration = Duration::from_secs(15);

/// How much of a log is shown when a service fails.
const TAIL: usize = 20;

/// The services, each with the part it is metered as; those the gateway calls come first.
const SERVICES: [Part; 4] = [Part::User, Part::Product, Part::Order, Part::Gateway];

/// What to start.
#[derive(Debug)]
pub struct Options {
    /// How many of each service.
    pub instances: usize,
    /// When the broker brings what it stored to disk.
    pub sync: Sync,
    /// A broker that runs already, in place of one of our own.
    pub broker: Option<String>,
    /// The streams.
    pub topology: TopologySettings,
}

/// The running system.
#[derive(Debug)]
pub struct Fleet {
    services: Vec<Service>,
    /// Ends after the services that need it.
    pub stack: Stack,
}

#[derive(Debug)]
struct Service {
    part: Part,
    url: Url,
    log: PathBuf,
    child: Child,
}

impl Fleet {
    /// Starts everything; returns when every service is ready.
    pub async fn start(options: Options) -> anyhow::Result<Self> {
        let binaries = SERVICES.map(binary);
        for binary in &binaries {
            ensure!(
                binary.is_file(),
                "there is no {}: --up starts the services' own programs, which lie beside this one; \
                 `cargo build --release --workspace` builds them all",
                binary.display()
            );
        }
        let mut wanted = stack::Options::default();
        wanted.nats.sync = options.sync;
        wanted.nats.url = options.broker;
        let stack = Stack::start(wanted).await?;
        for database in DATABASES {
            stack.postgres.create_database(database).await?;
        }
        let broker = Broker::connect(&broker_settings(stack.nats.url())?, "waybill-provision").await?;
        broker.connected().await?;
        topology::ensure(broker.jetstream(), &TOPOLOGY, &options.topology).await?;

        let mut fleet = Self { services: Vec::new(), stack };
        for instance in 1..=options.instances {
            let mut urls = Vec::new();
            for (part, binary) in SERVICES.into_iter().zip(&binaries) {
                let service = fleet.launch(part, binary, instance, &urls)?;
                urls.push(service.url.clone());
                fleet.services.push(service);
            }
        }
        let ready = tokio::time::timeout(READY_WITHIN, fleet.ready()).await;
        ready.context("the services did not become ready")??;
        Ok(fleet)
    }

    fn launch(&self, part: Part, binary: &Path, instance: usize, urls: &[Url]) -> anyhow::Result<Service> {
        let port = Port::FREE.pick()?;
        let address = format!("127.0.0.1:{port}");
        let log = self.stack.folder().join(format!("{}-{instance}.log", part.name()));
        let output = File::create(&log)?;
        let mut command = Command::from(self.stack.command(binary)?);
        command.kill_on_drop(true).stderr(output);
        command.arg("--listen").arg(&address).env("NATS_URL", self.stack.nats.url());
        for (name, database) in ["USER_DATABASE_URL", "PRODUCT_DATABASE_URL", "ORDER_DATABASE_URL"].into_iter().zip(DATABASES) {
            // The socket costs a third less than the port.
            command.env(name, self.stack.postgres.socket_url(database));
        }
        for (name, url) in ["WAYBILL_USER_URL", "WAYBILL_PRODUCT_URL", "WAYBILL_ORDER_URL"].into_iter().zip(urls) {
            command.env(name, url.as_str());
        }
        let child = command.spawn().with_context(|| format!("could not start {}", binary.display()))?;
        Ok(Service { part, url: format!("http://{address}/").parse()?, log, child })
    }

    async fn ready(&mut self) -> anyhow::Result<()> {
        let client = reqwest::Client::builder().no_proxy().build()?;
        for service in &mut self.services {
            let url = service.url.join("readyz")?;
            while !client.get(url.clone()).send().await.is_ok_and(|answer| answer.status().is_success()) {
                if let Some(status) = service.child.try_wait()? {
                    bail!("the {} service ended ({status}); it said:\n{}", service.part.name(), tail(&service.log));
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        Ok(())
    }

    /// Where the instances of a service are.
    pub fn urls(&self, part: Part) -> Vec<Url> {
        self.services.iter().filter(|service| service.part == part).map(|service| service.url.clone()).collect()
    }

    /// All processes.
    pub fn processes(&self) -> ByPart<Vec<u32>> {
        let mut processes = ByPart::<Vec<u32>>::new();
        for service in &self.services {
            processes.entry(service.part).or_default().extend(service.child.id());
        }
        processes.extend(self.stack.nats.pid().map(|pid| (Part::Nats, vec![pid])));
        processes.extend(self.stack.postgres.pid().map(|pid| (Part::Postgres, vec![pid])));
        processes
    }

    /// Waits until something ends that nobody told to, and says what.
    pub async fn failed(&self) -> anyhow::Error {
        let service = async {
            loop {
                tokio::time::sleep(Duration::from_millis(200)).await;
                let gone = |service: &&Service| service.child.id().is_none_or(|pid| !is_running(pid));
                if let Some(service) = self.services.iter().find(gone) {
                    return anyhow::anyhow!("the {} service ended; it said:\n{}", service.part.name(), tail(&service.log));
                }
            }
        };
        tokio::select! {
            error = service => error,
            error = self.stack.failed() => error,
        }
    }

    /// Ends the services as a deployment does, then broker and databases.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        for service in self.services.iter().rev() {
            if let Some(pid) = service.child.id().and_then(|pid| Pid::from_raw(pid.cast_signed())) {
                let _ = kill_process(pid, Signal::TERM); // it may be gone already
            }
        }
        for service in &mut self.services {
            let pid = service.child.id();
            if tokio::time::timeout(STOPPED_WITHIN, service.child.wait()).await.is_err() {
                service.child.kill().await?;
            }
            if let Some(pid) = pid {
                self.stack.release(pid);
            }
        }
        self.stack.stop().await
    }
}

/// Whether a child of ours runs; one that has exited is a zombie until somebody waits for it.
fn is_running(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
}

/// The program of a service, beside this one.
fn binary(part: Part) -> PathBuf {
    let own = std::env::current_exe().unwrap_or_default();
    own.with_file_name(format!("waybill-{}", part.name()))
}

fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL)..].join("\n")
}
