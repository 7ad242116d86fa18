//! The whole system: its servers, its services, and ways to look into them.

use std::sync::{Arc, Mutex, Once};
use std::time::Duration;

use anyhow::Context as _;
use async_nats::jetstream;
use chassis::broker::Broker;
use chassis::settings::{BrokerSettings, Secret};
use chassis::topology::accounts::GATEWAY;
use chassis::topology::{self, TopologySettings};
use events::streams::TOPOLOGY;
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use stack::{Port, Stack};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::deployed::Deployed;
use crate::http::Client;
use crate::{Instance, Issuer, Proxy, Service, Settings};

/// What to start, and how.
pub struct Builder {
    settings: Settings,
    stack: stack::Options,
    leave_out: Vec<Service>,
    /// As whom the harness and the services speak to the broker: operator, user, product, order, gateway.
    identities: Option<Box<[BrokerSettings; 5]>>,
    linked: bool,
}

/// The lines of one service, where the system was built [`Builder::linked`].
#[derive(Debug)]
pub struct Links {
    /// To its database.
    pub database: Proxy,
    /// To the broker.
    pub broker: Proxy,
}

impl Links {
    async fn of(stack: &Stack) -> anyhow::Result<Self> {
        let ports = stack.postgres.port().zip(stack.nats.port());
        let (database, broker) = ports.context("only servers that were started here can be linked")?;
        Ok(Self { database: Proxy::before(database).await?, broker: Proxy::before(broker).await? })
    }

    /// Both.
    pub fn both(&self) -> [&Proxy; 2] {
        [&self.database, &self.broker]
    }
}

impl Builder {
    /// Waits of tenths of seconds where production waits for seconds and minutes: for faults that time heals.
    pub fn impatient(mut self) -> Self {
        self.settings.impatient();
        self
    }

    /// Deadlines no order meets: for tests that restart things, which may take seconds on a busy machine.
    pub fn never_giving_up(self) -> Self {
        self.order(|order| {
            order.sagas.timing.step_deadline = Some(Duration::from_secs(300));
            order.sagas.timing.saga_deadline = Duration::from_secs(900);
        })
    }

    /// Changes any setting of any service; addresses are overwritten at the start.
    pub fn settings(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        change(&mut self.settings);
        self
    }

    /// Has every service believe an issuer's tokens and nobody without one. The test's own bear the roles operator and service.
    pub fn believing(self, issuer: &Issuer) -> Self {
        self.settings(|settings| settings.believe(issuer))
    }

    /// Changes the settings of the order service.
    pub fn order(self, change: impl FnOnce(&mut order::Settings)) -> Self {
        self.settings(|settings| change(&mut settings.order))
    }

    /// Changes how broker and database run.
    pub fn stack(mut self, change: impl FnOnce(&mut stack::Options)) -> Self {
        change(&mut self.stack);
        self
    }

    /// Does not start a service; the test does, or not.
    pub fn without(mut self, service: Service) -> Self {
        self.leave_out.push(service);
        self
    }

    /// Uses the broker of a deployment: each service as who it is there, everything else as the operator.
    pub fn deployed(mut self, server: &Deployed) -> Self {
        self.stack.nats.url = Some(server.url());
        self.identities = Some(Box::new(["operator", "user", "product", "order", GATEWAY].map(|member| server.settings(member))));
        self
    }

    /// Puts a proxy into each line of the user, the product and the order service: see [`System::links`].
    pub fn linked(mut self) -> Self {
        self.linked = true;
        self
    }

    /// Starts everything and returns when every service is ready.
    pub async fn start(self) -> System {
        System::start_with(self).await.expect("the system starts")
    }
}

/// A running system. Everything ends when it is dropped.
///
/// The order of the fields is the order of the end: services, then what they stand on.
pub struct System {
    instances: [Arc<Instance>; 4],
    seconds: Mutex<Vec<Arc<Instance>>>,
    topology: Topology,
    links: Option<[Links; 3]>,
    settings: Arc<Settings>,
    http: reqwest::Client,
    broker: Broker,
    /// The user service's database.
    pub user_db: PgPool,
    /// The product service's database.
    pub product_db: PgPool,
    /// The order service's database.
    pub order_db: PgPool,
    /// Broker and database, to be killed, paused, restarted and wiped.
    pub stack: Stack,
}

/// The task that keeps streams and consumers.
struct Topology {
    stop: CancellationToken,
    keeping: TaskTracker,
}

impl Drop for Topology {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl System {
    /// What is to be started, as in production but for the addresses.
    pub fn builder() -> Builder {
        let mut stack = stack::Options::for_tests();
        // Most tests ask nothing of a crashed database; the others turn this on.
        stack.postgres.durable = false;
        Builder { settings: Settings::default(), stack, leave_out: Vec::new(), identities: None, linked: false }
    }

    /// The whole system with the settings of production.
    pub async fn new() -> Self {
        Self::builder().start().await
    }

    async fn start_with(builder: Builder) -> anyhow::Result<Self> {
        prepare();
        let Builder { mut settings, stack, leave_out, identities, linked } = builder;
        let stack = Stack::start(stack).await?;
        let postgres = &stack.postgres;
        tokio::try_join!(
            postgres.create_database("waybill_user"),
            postgres.create_database("waybill_product"),
            postgres.create_database("waybill_order"),
        )?;
        settings.user.database_url = postgres.tcp_url("waybill_user").into();
        settings.product.database_url = postgres.tcp_url("waybill_product").into();
        settings.order.database_url = postgres.tcp_url("waybill_order").into();
        for parts in settings.parts() {
            parts.broker.nats_url = stack.nats.url().to_owned().into();
        }
        settings.gateway.broker.nats_url = stack.nats.url().to_owned().into();
        let mut operator = settings.order.parts.broker.clone();
        if let Some(identities) = identities {
            let [theirs, services @ .., gateway] = *identities;
            operator = theirs;
            settings.gateway.broker = gateway;
            settings.parts().into_iter().zip(services).for_each(|(parts, own)| parts.broker = own);
        }
        let broker = Broker::connect(&operator, "waybill-tests").await?;
        broker.connected().await?;
        topology::ensure(broker.jetstream(), &TOPOLOGY, &TopologySettings::default()).await?;

        let (user_db, product_db, order_db) =
            (pool(&settings.user.database_url)?, pool(&settings.product.database_url)?, pool(&settings.order.database_url)?);
        let links = if linked { Some(settings.link(&stack).await?) } else { None };
        let mut ports = Vec::new();
        for _ in Service::ALL {
            ports.push(Port::FREE.pick()?);
        }
        let url = |port: u16| format!("http://127.0.0.1:{port}").parse().map_err(anyhow::Error::msg);
        settings.gateway.user_url = url(ports[0])?;
        settings.gateway.product_url = url(ports[1])?;
        settings.gateway.order_url = url(ports[2])?;
        let settings = Arc::new(settings);
        // A test that hangs should say where: longer than anything a service may take, shorter than a runner's patience.
        // A service closes a connection that rests; whoever asks on it at that moment is not answered.
        let http = reqwest::Client::builder().timeout(Duration::from_secs(45)).pool_idle_timeout(Duration::from_secs(1));
        let http = http.no_proxy().build()?;
        let instance =
            |service: Service| Arc::new(Instance::new(service, ports[service as usize], settings.clone(), http.clone()));
        let system = Self {
            instances: Service::ALL.map(instance),
            seconds: Mutex::default(),
            topology: keep_topology(&broker),
            links,
            user_db,
            product_db,
            order_db,
            settings,
            http,
            broker,
            stack,
        };
        let wanted: Vec<&Arc<Instance>> =
            system.instances.iter().filter(|instance| !leave_out.contains(&instance.service)).collect();
        for instance in &wanted {
            instance.launch();
        }
        for instance in wanted {
            instance.ready().await;
        }
        Ok(system)
    }

    /// The first instance of a service.
    pub fn instance(&self, service: Service) -> &Arc<Instance> {
        &self.instances[service as usize]
    }

    /// Requests to the first instance of a service.
    pub fn client(&self, service: Service) -> Client {
        self.instance(service).client()
    }

    /// Requests to a server that a test started by itself, on this port of 127.0.0.1.
    pub fn client_at(&self, port: u16) -> Client {
        Client::new(format!("http://127.0.0.1:{port}"), self.http.clone(), self.settings.token.clone())
    }

    /// Every way to a service: its own port and the gateway, with and without `/v1`.
    pub fn clients(&self, service: Service) -> [Client; 4] {
        let (own, gateway) = (self.client(service), self.client(Service::Gateway));
        [own.under("/v1"), gateway.under("/v1"), own, gateway]
    }

    /// Starts a service that was stopped or killed, on the same port, as a task; returns when it is ready.
    pub async fn start(&self, service: Service) {
        self.instance(service).launch();
        self.instance(service).ready().await;
    }

    /// Starts a service as a process of its own, on the same port; one that runs as a task is stopped first.
    pub async fn spawn_binary(&self, service: Service) {
        let instance = self.instance(service);
        instance.stop().await;
        instance.launch_binary();
        instance.ready().await;
    }

    /// Starts another instance of a service on a port of its own.
    pub async fn start_second(&self, service: Service) -> Arc<Instance> {
        let instance = self.another(service);
        instance.launch();
        instance.ready().await;
        instance
    }

    /// Starts another instance of a service as a process of its own.
    pub async fn spawn_second_binary(&self, service: Service) -> Arc<Instance> {
        let instance = self.another(service);
        instance.launch_binary();
        instance.ready().await;
        instance
    }

    /// Another instance of a service on a port of its own, not started yet.
    pub fn another(&self, service: Service) -> Arc<Instance> {
        let port = Port::FREE.pick().expect("a free port");
        let instance = Arc::new(Instance::new(service, port, self.settings.clone(), self.http.clone()));
        self.seconds.lock().expect("never poisoned").push(instance.clone());
        instance
    }

    /// Stops the first instance of a service as a deployment does, and waits until it has drained.
    pub async fn stop(&self, service: Service) {
        self.instance(service).stop().await;
    }

    /// Ends the process of the first instance of a service with SIGKILL. It must be one: see [`Self::spawn_binary`].
    pub async fn kill(&self, service: Service) {
        self.instance(service).kill().await;
    }

    /// The lines of the user, the product or the order service.
    pub fn links(&self, service: Service) -> &Links {
        let links = self.links.as_ref().expect("the system was built `linked`");
        links.get(service as usize).expect("the gateway has no lines")
    }

    /// Every line is whole again.
    pub fn heal_links(&self) {
        self.links.iter().flatten().flat_map(Links::both).for_each(Proxy::heal);
    }

    /// A database as a superuser has it: for what an administrator does, and the services' own roles may not.
    pub fn superuser(&self, database: &str) -> PgPool {
        pool(&self.stack.postgres.superuser_url(database).into()).expect("an address")
    }

    /// JetStream.
    pub fn jetstream(&self) -> &jetstream::Context {
        self.broker.jetstream()
    }

    /// The plain connection to the broker.
    pub fn nats(&self) -> &async_nats::Client {
        self.broker.client()
    }

    /// Stops what keeps streams and consumers as they should be. From then on nothing is put back, by a look that had begun neither.
    pub async fn stop_keeping_topology(&self) {
        self.topology.stop.cancel();
        self.topology.keeping.wait().await;
    }

    /// The settings the services run with.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }
}

impl Settings {
    /// Sends each service through lines of its own.
    async fn link(&mut self, stack: &Stack) -> anyhow::Result<[Links; 3]> {
        let links = [Links::of(stack).await?, Links::of(stack).await?, Links::of(stack).await?];
        let (broker, database) = (stack.nats.port(), stack.postgres.port());
        let through = |url: &Secret, port: Option<u16>, proxy: &Proxy| {
            let port = format!(":{}", port.expect("it was started here"));
            Secret::from(url.expose().replace(&port, &format!(":{}", proxy.port)))
        };
        let urls = [&mut self.user.database_url, &mut self.product.database_url, &mut self.order.database_url];
        for (url, links) in urls.into_iter().zip(&links) {
            *url = through(url, database, &links.database);
        }
        for (parts, links) in self.parts().into_iter().zip(&links) {
            parts.broker.nats_url = through(&parts.broker.nats_url, broker, &links.broker);
        }
        Ok(links)
    }
}

fn keep_topology(broker: &Broker) -> Topology {
    let (broker, stop) = (broker.clone(), CancellationToken::new());
    let (shutdown, keeping) = (stop.clone(), TaskTracker::new());
    keeping.spawn(async move { topology::keep(broker.jetstream(), &TOPOLOGY, &TopologySettings::default(), &shutdown).await });
    keeping.close();
    Topology { stop, keeping }
}

fn pool(url: &Secret) -> sqlx::Result<PgPool> {
    PgPoolOptions::new().max_connections(4).connect_lazy(url.expose())
}

/// What is done once a process.
pub(crate) fn prepare() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // reqwest is built without a TLS provider of its own.
        let _ = rustls::crypto::ring::default_provider().install_default();
        if std::env::var_os("RUST_LOG").is_some() {
            chassis::telemetry::init("warn").expect("settings for logs");
        }
    });
}
