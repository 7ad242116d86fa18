//! `waybill up`: the whole system for a person at a desk. Broker, databases, topology and all services, until it is interrupted.

mod access;
mod keys;
mod pages;
mod ports;
mod settings;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use chassis::broker::Broker;
use chassis::causes;
use chassis::settings::{Secret, database_url, hidden, nats_url};
use chassis::topology::accounts::{OPERATOR, PROVISION};
use chassis::topology::{self, TopologySettings};
use events::streams::TOPOLOGY;
use saga_commands::broker::broker_settings;
use saga_commands::context::NONE;
use saga_commands::note::{FILE, Note, Own, Writer};
use saga_commands::output::{tell, write_line};
use saga_commands::signal::stop_signal;
use saga_commands::system::{NATS_SEED, context, shown};
use serde_json::Value;
use stack::postgres::MAKER;
use stack::{Data, Port, Stack};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::access::{Access, check, renewed};
use self::keys::Keys;
use self::ports::{Listeners, MONITOR_PORT, NATS_PORT, POSTGRES_PORT, Ports};
use self::settings::Settings;
use crate::addresses::DATABASES;

/// Examples for `--help`.
pub const EXAMPLES: &str = "Examples:
  waybill up
  waybill up --ephemeral --gateway-port 9080
  waybill up --infra-only
  waybill up --auth
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

    /// Start broker, databases and topology only, and print the settings the service binaries then start with: KEY=VALUE on stdout,
    /// everything else on stderr.
    #[arg(long)]
    infra_only: bool,

    /// Ask everybody who it is: who calls, by tokens of an issuer of its own; who comes to the broker, by keys. Both are kept with the data.
    /// Commands in this folder bring a token by themselves, `waybill token` prints others. Without, whoever reaches this machine's loopback
    /// may do everything.
    #[arg(long)]
    auth: bool,

    /// Where data is kept across runs.
    #[arg(long, env = "WAYBILL_DATA", default_value = ".local/data", value_name = "FOLDER")]
    data: PathBuf,

    #[command(flatten)]
    ports: Ports,

    /// A broker that runs already; then none is started.
    #[arg(long, env = "NATS_URL", hide_env_values = true, value_name = "URL", value_parser = hidden(nats_url))]
    nats_url: Option<Secret>,

    /// A Postgres that runs already, as a role that may create databases; then none is started.
    #[arg(long, env = "WAYBILL_POSTGRES_URL", hide_env_values = true, value_name = "URL", value_parser = hidden(database_url))]
    postgres_url: Option<Secret>,

    #[command(flatten)]
    topology: TopologySettings,
}

impl Args {
    /// Runs until SIGINT or SIGTERM, or until something fails.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        chassis::telemetry::init("warn")?;
        // What can be wrong with the settings is found out before anything is started.
        let settings = Settings::from_environment()?;
        let listeners = if self.infra_only { None } else { Some(Listeners::open(&self.ports).map_err(running_here)?) };
        let address = listeners.as_ref().map(|listeners| listeners.gateway.local_addr()).transpose()?;
        check(self.auth, &settings.gateway.identity, address)?;
        ports::servers(&self.ports, self.nats_url.is_none(), self.postgres_url.is_none()).map_err(running_here)?;
        let note = Own::take()?;
        let shutdown = CancellationToken::new();
        let stop = shutdown.clone();
        let signalled = tokio::spawn(async move {
            let _ = stop_signal().await;
            stop.cancel();
        });
        // A broker that is merely used knows us, or not, by what the environment says.
        let keys =
            (self.auth && self.nats_url.is_none()).then(|| Keys::open((!self.ephemeral).then_some(&self.data))).transpose()?;
        let stack = tokio::select! {
            stack = Stack::start(self.stack_options(keys.as_ref())) => stack.map_err(|error| self.explain(error))?,
            () = shutdown.cancelled() => return Ok(ExitCode::SUCCESS),
        };
        let result = self.on(&stack, keys.as_ref(), note, listeners, settings, &shutdown).await;
        signalled.abort();
        tell("Stopping.");
        stack.stop().await?;
        result.map(|()| ExitCode::SUCCESS)
    }

    fn stack_options(&self, keys: Option<&Keys>) -> stack::Options {
        let mut options = stack::Options::default();
        if !self.ephemeral {
            options.data = Data::Persistent(self.data.clone());
        }
        options.nats.url = self.nats_url.as_ref().map(|url| url.expose().to_owned());
        options.nats.accounts = keys.map(Keys::accounts);
        options.nats.port = Port::fixed(self.ports.nats_port, NATS_PORT);
        options.nats.monitor_port =
            (self.ports.nats_monitor_port != 0).then(|| Port::fixed(self.ports.nats_monitor_port, MONITOR_PORT));
        options.postgres.url = self.postgres_url.as_ref().map(|url| url.expose().to_owned());
        options.postgres.port = Port::fixed(self.ports.postgres_port, POSTGRES_PORT);
        options
    }

    /// A folder that another process has is moved by a setting of this command.
    fn explain(&self, error: anyhow::Error) -> anyhow::Error {
        if error.to_string().contains("is in use by") {
            anyhow::anyhow!("{}: --data or WAYBILL_DATA names another, --ephemeral does without", causes(&error))
        } else {
            error
        }
    }

    /// Everything above the broker and the databases.
    async fn on(
        &self,
        stack: &Stack,
        keys: Option<&Keys>,
        mut note: Option<Own>,
        listeners: Option<Listeners>,
        mut settings: Settings,
        shutdown: &CancellationToken,
    ) -> anyhow::Result<()> {
        for database in DATABASES {
            stack.postgres.create_database(database).await?;
        }
        let nats_url = stack.nats.url().to_owned();
        let mut provisioner = broker_settings(&nats_url)?;
        if let Some(keys) = keys {
            keys.give(PROVISION, &mut provisioner)?;
            settings.identify(keys)?;
        }
        let broker = Broker::connect(&provisioner, "waybill-provision").await?;
        tokio::select! {
            connected = broker.connected() => connected?,
            () = shutdown.cancelled() => return Ok(()),
        }
        topology::ensure(broker.jetstream(), &TOPOLOGY, &self.topology).await?;
        let access = Access::open(self.auth, stack)?;
        let owners_token = access.owners_token()?;
        let mut environment = self.environment(&nats_url, &DATABASES.map(|database| stack.postgres.tcp_url(database)));
        environment.extend(access.environment());
        match &mut note {
            Some(note) => {
                let seed = keys.map(|keys| keys.seed(OPERATOR)).transpose()?;
                let seed = seed.map(|seed| (NATS_SEED, seed.expose().to_owned()));
                note.write(&environment.iter().cloned().chain(seed).collect::<Vec<_>>())?;
            }
            None => {
                let by = Note::read()?.map(|note| note.by()).unwrap_or_default();
                let gateway = self.ports.url(self.ports.gateway_port);
                tell(&format!(
                    "{FILE} belongs to another `waybill up`{by}, and commands in this folder speak to that one. \
                     For this one run them elsewhere, with WAYBILL_GATEWAY={gateway}{}",
                    access.for_commands()
                ));
            }
        }

        let line = access.line(&settings.gateway.identity, &self.ports.host);
        let mut tasks: JoinSet<anyhow::Result<()>> = JoinSet::new();
        let mut console = None;
        let (topology, stop) = (self.topology.clone(), shutdown.clone());
        tasks.spawn(async move {
            topology::keep(broker.jetstream(), &TOPOLOGY, &topology, &stop).await;
            Ok(())
        });
        match listeners {
            // The socket costs a third less than the port.
            Some(mut listeners) => {
                if let Some(listener) = listeners.console.take() {
                    console = pages::start(
                        &mut tasks,
                        listener,
                        self.addresses(),
                        self.pages_broker(&nats_url, keys).await?,
                        &access,
                        shutdown,
                    );
                }
                let databases = DATABASES.map(|database| stack.postgres.socket_url(database));
                self.start_services(&mut tasks, listeners, settings.believing(&access), &nats_url, databases, shutdown)?;
            }
            None => {
                stack.postgres.create_maker().await?;
                environment.push(("POSTGRES_URL", stack.postgres.tcp_url(MAKER)));
                environment.iter().try_for_each(|(name, value)| write_line(&format!("{name}={value}")))?;
                keys.into_iter().for_each(|keys| tell(&keys.for_services()));
            }
        }
        let result = tokio::select! {
            result = self.ready_and_on(stack, keys, [&line, console.as_deref().unwrap_or_default()], note.is_some(), shutdown) => result,
            failed = renewed(owners_token.as_ref()) => failed,
            ended = tasks.join_next() => ended.context("there is always a task")?.map_err(anyhow::Error::from).and_then(|ended| ended),
            () = kept(stack) => Ok(()),
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
        listeners: Listeners,
        settings: Settings,
        nats_url: &str,
        databases: [String; 3],
        shutdown: &CancellationToken,
    ) -> anyhow::Result<()> {
        let Settings { mut user, mut product, mut order, mut gateway } = settings;
        let [user_url, product_url, order_url] = databases;
        user.database_url = user_url.into();
        user.parts.broker.nats_url = nats_url.to_owned().into();
        tasks.spawn(user::serve(listeners.user, user, shutdown.clone()));

        product.database_url = product_url.into();
        product.parts.broker.nats_url = nats_url.to_owned().into();
        tasks.spawn(product::serve(listeners.product, product, shutdown.clone()));

        order.database_url = order_url.into();
        order.parts.broker.nats_url = nats_url.to_owned().into();
        tasks.spawn(order::serve(listeners.order, order, shutdown.clone()));

        gateway.broker.nats_url = nats_url.to_owned().into();
        gateway.user_url = self.ports.url(self.ports.user_port).parse().map_err(anyhow::Error::msg)?;
        gateway.product_url = self.ports.url(self.ports.product_port).parse().map_err(anyhow::Error::msg)?;
        gateway.order_url = self.ports.url(self.ports.order_port).parse().map_err(anyhow::Error::msg)?;
        tasks.spawn(gateway::serve(listeners.gateway, gateway, shutdown.clone()));
        Ok(())
    }

    /// The services, and where they are.
    fn addresses(&self) -> Vec<(String, String)> {
        self.ports.services().map(|(name, port)| (name.to_owned(), self.ports.url(port))).into()
    }

    /// The broker, as operators come to it.
    async fn pages_broker(&self, nats_url: &str, keys: Option<&Keys>) -> anyhow::Result<Broker> {
        let mut operator = broker_settings(nats_url)?;
        keys.map(|keys| keys.give(OPERATOR, &mut operator)).transpose()?;
        Broker::connect(&operator, "waybill-console").await
    }

    /// Waits until everything is ready, says so, and then until shutdown.
    async fn ready_and_on(
        &self,
        stack: &Stack,
        keys: Option<&Keys>,
        [access, console]: [&str; 2],
        noted: bool,
        shutdown: &CancellationToken,
    ) -> anyhow::Result<()> {
        if self.infra_only {
            tell(READY);
        } else {
            tokio::select! {
                ready = tokio::time::timeout(READY_WITHIN, self.ready()) => ready.context("the services did not become ready")??,
                () = shutdown.cancelled() => return Ok(()),
            }
            for (name, port) in self.ports.services() {
                write_line(&format!("{name:<9} {}", self.ports.url(port)))?;
            }
            if !console.is_empty() {
                write_line(&format!("{:<9} {console}", "console"))?;
            }
            let brokers: Vec<String> = stack.nats.url().split(',').map(|url| shown(url.trim())).collect();
            write_line(&format!("{:<9} {}", "nats", brokers.join(",")))?;
            if let Some(keys) = keys {
                write_line(&format!("{:<9} {}", "", keys.by_hand(stack.nats.url())))?;
            }
            if let Some(url) = stack.nats.monitor_url() {
                write_line(&format!("{:<9} {url}", "monitor"))?;
            }
            if let Some(port) = stack.postgres.port() {
                write_line(&format!("{:<9} 127.0.0.1:{port} ({})", "postgres", DATABASES.join(", ")))?;
            }
            if noted {
                write_line(&format!("{:<9} {FILE} (the addresses with their passwords)", "settings"))?;
            }
            write_line(&format!("{:<9} {access}", "access"))?;
            write_line(READY)?;
            write_line(&self.examples(noted))?;
        }
        shutdown.cancelled().await;
        Ok(())
    }

    /// Lines that can be copied into another terminal, in this folder. Where the folder's note is another one's they say whom they mean.
    fn examples(&self, noted: bool) -> String {
        let mut program =
            std::env::args_os().next().map_or_else(|| "waybill".to_owned(), |name| name.to_string_lossy().into_owned());
        // A context in use would have them speak of another system.
        if context().is_ok_and(|context| context.is_some()) {
            program = format!("WAYBILL_CONTEXT={NONE} {program}");
        }
        if !noted {
            program = format!("WAYBILL_GATEWAY={} {program}", self.ports.url(self.ports.gateway_port));
        }
        let [make, list] = match Path::new("data/baskets.ndjson").is_file() {
            true => ["import --products data/products.ndjson --baskets data/baskets.ndjson --limit 20", "order list"],
            false => ["product create --name Kettle --price 19.99 --stock 10", "product list"],
        };
        // The audit asks the databases, whose addresses the note has.
        let audit = if noted { format!("\n  {program} audit") } else { String::new() };
        format!("\nTry, in another terminal in this folder:\n  {program} {make}\n  {program} {list}{audit}")
    }

    async fn ready(&self) -> anyhow::Result<()> {
        let client = reqwest::Client::builder().no_proxy().build()?;
        for (name, port) in self.ports.services() {
            let url = format!("{}/readyz", self.ports.url(port));
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

    /// The settings the service binaries start with.
    fn environment(&self, nats_url: &str, databases: &[String; 3]) -> Vec<(&'static str, String)> {
        let [user, product, order] = databases.clone();
        vec![
            ("NATS_URL", nats_url.to_owned()),
            ("USER_DATABASE_URL", user),
            ("PRODUCT_DATABASE_URL", product),
            ("ORDER_DATABASE_URL", order),
            ("WAYBILL_GATEWAY_LISTEN", self.ports.listen(self.ports.gateway_port)),
            ("WAYBILL_USER_LISTEN", self.ports.listen(self.ports.user_port)),
            ("WAYBILL_PRODUCT_LISTEN", self.ports.listen(self.ports.product_port)),
            ("WAYBILL_ORDER_LISTEN", self.ports.listen(self.ports.order_port)),
            ("WAYBILL_USER_URL", self.ports.url(self.ports.user_port)),
            ("WAYBILL_PRODUCT_URL", self.ports.url(self.ports.product_port)),
            ("WAYBILL_ORDER_URL", self.ports.url(self.ports.order_port)),
            ("WAYBILL_GATEWAY", self.ports.url(self.ports.gateway_port)),
        ]
    }
}

/// Why it cannot start, and that another one runs in this folder, if one does: most often that is the reason.
fn running_here(error: anyhow::Error) -> anyhow::Error {
    match Note::read() {
        Ok(Some(note)) if matches!(note.writer, Writer::Running(_)) => {
            anyhow::anyhow!("{}. A `waybill up`{} runs in this folder already", causes(&error), note.by())
        }
        _ => error,
    }
}

/// The last line before `waybill up` waits.
const READY: &str = "waybill is ready";

/// Starts the broker and the database again whenever one of them ends, for ever.
async fn kept(stack: &Stack) {
    stack.keep(tell).await;
    // Where both run elsewhere there is nothing to keep.
    std::future::pending().await
}
