//! `waybill up`: the whole system for a person at a desk. Broker, databases, topology and all services, until it is interrupted.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use chassis::broker::Broker;
use chassis::settings::BrokerSettings;
use chassis::topology::{self, TopologySettings};
use clap::{Args as ClapArgs, FromArgMatches as _, Parser};
use serde_json::Value;
use stack::{Data, Port, Stack};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::output::tell;
use crate::system::Note;

/// Examples for `--help`.
pub const EXAMPLES: &str = "Examples:
  waybill up
  waybill up --ephemeral --gateway-port 9080
  waybill up --infra-only
  WAYBILL_STEP_DEADLINE=30 waybill up

The settings of the services (see `waybill-order --help` and its like) are taken from the environment.";

/// How long everything may take to become ready.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// The flags of `waybill up`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Keep nothing: a temporary folder, removed at the end.
    #[arg(long)]
    ephemeral: bool,

    /// Start broker, databases and topology only, and print the settings the service binaries then start with.
    #[arg(long)]
    infra_only: bool,

    /// Where data is kept across runs.
    #[arg(long, env = "WAYBILL_DATA", default_value = ".local/data", value_name = "FOLDER")]
    data: PathBuf,

    /// The address to listen on.
    #[arg(long, env = "WAYBILL_HOST", default_value = "127.0.0.1")]
    host: String,

    /// The gateway's port.
    #[arg(long, env = "WAYBILL_GATEWAY_PORT", default_value_t = 8080, value_name = "PORT")]
    gateway_port: u16,

    /// The user service's port.
    #[arg(long, env = "WAYBILL_USER_PORT", default_value_t = 8081, value_name = "PORT")]
    user_port: u16,

    /// The product service's port.
    #[arg(long, env = "WAYBILL_PRODUCT_PORT", default_value_t = 8082, value_name = "PORT")]
    product_port: u16,

    /// The order service's port.
    #[arg(long, env = "WAYBILL_ORDER_PORT", default_value_t = 8083, value_name = "PORT")]
    order_port: u16,

    /// The broker's port; 0 takes any that is free.
    #[arg(long, env = "WAYBILL_NATS_PORT", default_value_t = 4222, value_name = "PORT")]
    nats_port: u16,

    /// The broker's port for monitoring over HTTP; 0 for none.
    #[arg(long, env = "WAYBILL_NATS_MONITOR_PORT", default_value_t = 0, value_name = "PORT")]
    nats_monitor_port: u16,

    /// The databases' port; 0 takes any that is free.
    #[arg(long, env = "WAYBILL_POSTGRES_PORT", default_value_t = 0, value_name = "PORT")]
    postgres_port: u16,

    /// A broker that runs already; then none is started.
    #[arg(long, env = "NATS_URL", hide_env_values = true, value_name = "URL")]
    nats_url: Option<String>,

    /// A Postgres that runs already, as a role that may create databases; then none is started.
    #[arg(long, env = "WAYBILL_POSTGRES_URL", hide_env_values = true, value_name = "URL")]
    postgres_url: Option<String>,

    #[command(flatten)]
    topology: TopologySettings,
}

impl Args {
    /// Runs until SIGINT or SIGTERM, or until something fails.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        chassis::telemetry::init("warn");
        let shutdown = CancellationToken::new();
        let stop = shutdown.clone();
        let signalled = tokio::spawn(async move {
            let _ = stop_signal().await;
            stop.cancel();
        });
        let stack = tokio::select! {
            stack = Stack::start(self.stack_options()) => stack?,
            () = shutdown.cancelled() => return Ok(ExitCode::SUCCESS),
        };
        let result = self.on(&stack, &shutdown).await;
        signalled.abort();
        tell("Stopping.");
        stack.stop().await?;
        result.map(|()| ExitCode::SUCCESS)
    }

    fn stack_options(&self) -> stack::Options {
        let mut options = stack::Options::default();
        if !self.ephemeral {
            options.data = Data::Persistent(self.data.clone());
        }
        options.nats.url = self.nats_url.clone();
        options.nats.port = Port::fixed(self.nats_port, "--nats-port or WAYBILL_NATS_PORT");
        options.nats.monitor_port =
            (self.nats_monitor_port != 0).then(|| Port::fixed(self.nats_monitor_port, "--nats-monitor-port"));
        options.postgres.url = self.postgres_url.clone();
        options.postgres.port = Port::fixed(self.postgres_port, "--postgres-port or WAYBILL_POSTGRES_PORT");
        options
    }

    /// Everything above the broker and the databases.
    async fn on(&self, stack: &Stack, shutdown: &CancellationToken) -> anyhow::Result<()> {
        for database in DATABASES {
            stack.postgres.create_database(database).await?;
        }
        let nats_url = stack.nats.url().to_owned();
        let broker = Broker::connect(&broker_settings(&nats_url)?, "waybill-provision").await?;
        tokio::select! {
            connected = broker.connected() => connected?,
            () = shutdown.cancelled() => return Ok(()),
        }
        topology::ensure(broker.jetstream(), &self.topology).await?;
        let note = Note::write(&self.environment(&nats_url, &DATABASES.map(|database| stack.postgres.tcp_url(database))))?;

        let mut tasks: JoinSet<anyhow::Result<()>> = JoinSet::new();
        let (topology, stop) = (self.topology.clone(), shutdown.clone());
        tasks.spawn(async move {
            topology::keep(broker.jetstream(), &topology, &stop).await;
            Ok(())
        });
        if self.infra_only {
            for (name, value) in self.environment(&nats_url, &DATABASES.map(|database| stack.postgres.tcp_url(database))) {
                say(&format!("{name}={value}"))?;
            }
        } else {
            // The socket costs a third less than the port.
            self.start_services(&mut tasks, &nats_url, &DATABASES.map(|database| stack.postgres.socket_url(database)), shutdown)?;
        }
        let result = tokio::select! {
            result = self.ready_and_on(stack, note.path(), shutdown) => result,
            ended = tasks.join_next() => ended.context("there is always a task")?.map_err(anyhow::Error::from).and_then(|ended| ended),
            error = stack.failed() => Err(error),
        };
        shutdown.cancel();
        while let Some(ended) = tasks.join_next().await {
            ended??;
        }
        result
    }

    fn start_services(
        &self,
        tasks: &mut JoinSet<anyhow::Result<()>>,
        nats_url: &str,
        databases: &[String; 3],
        shutdown: &CancellationToken,
    ) -> anyhow::Result<()> {
        let [user_url, product_url, order_url] = databases.clone();
        let mut user: user::Settings = from_environment()?;
        user.listen = self.listen(self.user_port);
        user.database_url = user_url.into();
        user.parts.broker.nats_url = nats_url.to_owned().into();
        tasks.spawn(user::run(user, shutdown.clone()));

        let mut product: product::Settings = from_environment()?;
        product.listen = self.listen(self.product_port);
        product.database_url = product_url.into();
        product.parts.broker.nats_url = nats_url.to_owned().into();
        tasks.spawn(product::run(product, shutdown.clone()));

        let mut order: order::Settings = from_environment()?;
        order.listen = self.listen(self.order_port);
        order.database_url = order_url.into();
        order.parts.broker.nats_url = nats_url.to_owned().into();
        tasks.spawn(order::run(order, shutdown.clone()));

        let mut gateway: gateway::Settings = from_environment()?;
        gateway.listen = self.listen(self.gateway_port);
        gateway.user_url = self.url(self.user_port).parse().map_err(anyhow::Error::msg)?;
        gateway.product_url = self.url(self.product_port).parse().map_err(anyhow::Error::msg)?;
        gateway.order_url = self.url(self.order_port).parse().map_err(anyhow::Error::msg)?;
        tasks.spawn(gateway::run(gateway, shutdown.clone()));
        Ok(())
    }

    /// Waits until everything is ready, says so, and then until shutdown.
    async fn ready_and_on(&self, stack: &Stack, note: &std::path::Path, shutdown: &CancellationToken) -> anyhow::Result<()> {
        if !self.infra_only {
            tokio::select! {
                ready = tokio::time::timeout(READY_WITHIN, self.ready()) => ready.context("the services did not become ready")??,
                () = shutdown.cancelled() => return Ok(()),
            }
            for (name, port) in self.services() {
                say(&format!("{name:<9} {}", self.url(port)))?;
            }
            say(&format!("{:<9} {}", "nats", stack.nats.url()))?;
            if let Some(url) = stack.nats.monitor_url() {
                say(&format!("{:<9} {url}", "monitor"))?;
            }
            if let Some(port) = stack.postgres.port() {
                say(&format!("{:<9} 127.0.0.1:{port} ({})", "postgres", DATABASES.join(", ")))?;
            }
            say(&format!("{:<9} {} (the addresses with their passwords)", "settings", note.display()))?;
        }
        say("waybill is ready")?;
        shutdown.cancelled().await;
        Ok(())
    }

    async fn ready(&self) -> anyhow::Result<()> {
        let client = reqwest::Client::new();
        for (name, port) in self.services() {
            let url = format!("{}/readyz", self.url(port));
            loop {
                if let Ok(response) = client.get(&url).send().await {
                    let ready = response.status().is_success();
                    // Another program may answer on this port: ours names itself.
                    if ready && response.json::<Value>().await.is_ok_and(|body| body.get("ready").is_some()) {
                        break;
                    }
                    if ready {
                        bail!("something other than the {name} service answers on {url}");
                    }
                }
                tokio::time::sleep(Duration::from_millis(25)).await;
            }
        }
        Ok(())
    }

    fn services(&self) -> [(&'static str, u16); 4] {
        [("gateway", self.gateway_port), ("user", self.user_port), ("product", self.product_port), ("order", self.order_port)]
    }

    fn listen(&self, port: u16) -> String {
        format!("{}:{port}", self.host)
    }

    fn url(&self, port: u16) -> String {
        format!("http://{}:{port}", self.host)
    }

    /// The settings the service binaries start with.
    fn environment(&self, nats_url: &str, databases: &[String; 3]) -> Vec<(&'static str, String)> {
        let [user, product, order] = databases.clone();
        vec![
            ("NATS_URL", nats_url.to_owned()),
            ("USER_DATABASE_URL", user),
            ("PRODUCT_DATABASE_URL", product),
            ("ORDER_DATABASE_URL", order),
            ("WAYBILL_GATEWAY_LISTEN", self.listen(self.gateway_port)),
            ("WAYBILL_USER_LISTEN", self.listen(self.user_port)),
            ("WAYBILL_PRODUCT_LISTEN", self.listen(self.product_port)),
            ("WAYBILL_ORDER_LISTEN", self.listen(self.order_port)),
            ("WAYBILL_USER_URL", self.url(self.user_port)),
            ("WAYBILL_PRODUCT_URL", self.url(self.product_port)),
            ("WAYBILL_ORDER_URL", self.url(self.order_port)),
            ("WAYBILL_GATEWAY", self.url(self.gateway_port)),
        ]
    }
}

/// The databases, in the order user, product, order.
pub const DATABASES: [&str; 3] = ["waybill_user", "waybill_product", "waybill_order"];

/// A service's settings as its binary would have them with no flags.
fn from_environment<S: Parser>() -> anyhow::Result<S> {
    S::try_parse_from(["waybill"]).context("a setting in the environment is wrong")
}

/// The broker settings of the environment, with this address.
pub fn broker_settings(nats_url: &str) -> anyhow::Result<BrokerSettings> {
    let command = <BrokerSettings as ClapArgs>::augment_args(clap::Command::new("waybill"));
    let mut settings = BrokerSettings::from_arg_matches(&command.try_get_matches_from(["waybill"])?)?;
    settings.nats_url = nats_url.to_owned().into();
    Ok(settings)
}

/// A line on stdout, at once, also into a pipe.
fn say(line: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

/// Returns at SIGINT or SIGTERM.
pub async fn stop_signal() -> std::io::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}
