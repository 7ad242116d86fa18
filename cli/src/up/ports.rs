//! The ports of `waybill up`: taken or looked at before anything is started, each with the setting that moves it.

use saga_commands::output::tell;
use tokio::net::TcpListener;

use crate::bench::listeners;

const GATEWAY_PORT: &str = "--gateway-port or WAYBILL_GATEWAY_PORT";
const USER_PORT: &str = "--user-port or WAYBILL_USER_PORT";
const PRODUCT_PORT: &str = "--product-port or WAYBILL_PRODUCT_PORT";
const ORDER_PORT: &str = "--order-port or WAYBILL_ORDER_PORT";
const CONSOLE_PORT: &str = "--console-port or WAYBILL_CONSOLE_PORT";
/// What moves the broker.
pub const NATS_PORT: &str = "--nats-port or WAYBILL_NATS_PORT";
/// What moves its pages.
pub const MONITOR_PORT: &str = "--nats-monitor-port or WAYBILL_NATS_MONITOR_PORT";
/// What moves the databases.
pub const POSTGRES_PORT: &str = "--postgres-port or WAYBILL_POSTGRES_PORT";

/// Where everything listens.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub struct Ports {
    /// The address to listen on.
    #[arg(long, env = "WAYBILL_HOST", default_value = "127.0.0.1")]
    pub host: String,

    /// The gateway's port.
    #[arg(long, env = "WAYBILL_GATEWAY_PORT", default_value_t = 8080, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub gateway_port: u16,

    /// The user service's port.
    #[arg(long, env = "WAYBILL_USER_PORT", default_value_t = 8081, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub user_port: u16,

    /// The product service's port.
    #[arg(long, env = "WAYBILL_PRODUCT_PORT", default_value_t = 8082, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub product_port: u16,

    /// The order service's port.
    #[arg(long, env = "WAYBILL_ORDER_PORT", default_value_t = 8083, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub order_port: u16,

    /// The console's port, on 127.0.0.1 alone; 0 for none [default: 8090, or none where that is taken].
    #[arg(long, env = "WAYBILL_CONSOLE_PORT", value_name = "PORT")]
    pub console_port: Option<u16>,

    /// The broker's port; 0 takes any that is free.
    #[arg(long, env = "WAYBILL_NATS_PORT", default_value_t = 4222, value_name = "PORT")]
    pub nats_port: u16,

    /// The broker's port for monitoring over HTTP; 0 for none.
    #[arg(long, env = "WAYBILL_NATS_MONITOR_PORT", default_value_t = 0, value_name = "PORT")]
    pub nats_monitor_port: u16,

    /// The databases' port; 0 takes any that is free.
    #[arg(long, env = "WAYBILL_POSTGRES_PORT", default_value_t = 0, value_name = "PORT")]
    pub postgres_port: u16,
}

impl Ports {
    /// The services and their ports.
    pub fn services(&self) -> [(&'static str, u16); 4] {
        [("gateway", self.gateway_port), ("user", self.user_port), ("product", self.product_port), ("order", self.order_port)]
    }

    /// Where a service with this port listens.
    pub fn listen(&self, port: u16) -> String {
        if self.host.contains(':') && !self.host.starts_with('[') {
            return format!("[{}]:{port}", self.host);
        }
        format!("{}:{port}", self.host)
    }

    /// Where a service with this port is found.
    pub fn url(&self, port: u16) -> String {
        format!("http://{}", self.listen(port))
    }
}

/// What the services listen on, taken before anything is started: a port that somebody else has costs nothing but this message.
pub struct Listeners {
    /// The gateway's.
    pub gateway: TcpListener,
    /// The user service's.
    pub user: TcpListener,
    /// The product service's.
    pub product: TcpListener,
    /// The order service's.
    pub order: TcpListener,
    /// The console's.
    pub console: Option<TcpListener>,
}

impl Listeners {
    /// Takes all of them.
    pub fn open(ports: &Ports) -> anyhow::Result<Self> {
        let open = |port, setting| listen(&ports.listen(port), port, setting);
        Ok(Self {
            gateway: open(ports.gateway_port, GATEWAY_PORT)?,
            user: open(ports.user_port, USER_PORT)?,
            product: open(ports.product_port, PRODUCT_PORT)?,
            order: open(ports.order_port, ORDER_PORT)?,
            console: console(ports)?,
        })
    }
}

/// The console's. Nobody who named no port for it is kept from the rest because somebody else has the usual one.
fn console(ports: &Ports) -> anyhow::Result<Option<TcpListener>> {
    let port = ports.console_port.unwrap_or(console::PORT);
    if port == 0 {
        return Ok(None);
    }
    match listen(&format!("127.0.0.1:{port}"), port, CONSOLE_PORT) {
        Err(why) if ports.console_port.is_none() => {
            tell(&format!("There is no console: {why}"));
            Ok(None)
        }
        taken => taken.map(Some),
    }
}

fn listen(address: &str, port: u16, setting: &str) -> anyhow::Result<TcpListener> {
    let listener = bind(address, port, setting)?;
    listener.set_nonblocking(true)?;
    Ok(TcpListener::from_std(listener)?)
}

/// Whether the ports of the servers that are going to be started are free; else whose they are.
pub fn servers(ports: &Ports, own_nats: bool, own_postgres: bool) -> anyhow::Result<()> {
    let nats = [(ports.nats_port, NATS_PORT), (ports.nats_monitor_port, MONITOR_PORT)];
    let nats = nats.into_iter().filter(|_| own_nats);
    let postgres = [(ports.postgres_port, POSTGRES_PORT)].into_iter().filter(|_| own_postgres);
    for (port, setting) in nats.chain(postgres).filter(|(port, _)| *port != 0) {
        drop(bind(&format!("127.0.0.1:{port}"), port, setting)?);
    }
    Ok(())
}

/// Listens there. Where somebody else does, says who and which setting moves it.
fn bind(address: &str, port: u16, setting: &str) -> anyhow::Result<std::net::TcpListener> {
    std::net::TcpListener::bind(address).map_err(|error| match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            let by = match listeners::listener(port) {
                Some(pid) if pid == std::process::id() => "another setting of this command".to_owned(),
                Some(pid) => format!("process {pid}"),
                None => "another program".to_owned(),
            };
            anyhow::anyhow!("port {port} is taken by {by}; {setting} moves it")
        }
        _ => anyhow::anyhow!("cannot listen on {address}: {error} (--host or WAYBILL_HOST, {setting})"),
    })
}
