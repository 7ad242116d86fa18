//! The ports of `waybill up`: taken or looked at before anything is started, each with the setting that moves it.

use tokio::net::TcpListener;

use super::Args;
use crate::bench::listeners;

const GATEWAY_PORT: &str = "--gateway-port or WAYBILL_GATEWAY_PORT";
const USER_PORT: &str = "--user-port or WAYBILL_USER_PORT";
const PRODUCT_PORT: &str = "--product-port or WAYBILL_PRODUCT_PORT";
const ORDER_PORT: &str = "--order-port or WAYBILL_ORDER_PORT";
/// What moves the broker.
pub const NATS_PORT: &str = "--nats-port or WAYBILL_NATS_PORT";
/// What moves its pages.
pub const MONITOR_PORT: &str = "--nats-monitor-port or WAYBILL_NATS_MONITOR_PORT";
/// What moves the databases.
pub const POSTGRES_PORT: &str = "--postgres-port or WAYBILL_POSTGRES_PORT";

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
}

impl Listeners {
    /// Takes all four.
    pub fn open(args: &Args) -> anyhow::Result<Self> {
        let open = |port, setting| {
            let listener = bind(&args.listen(port), port, setting)?;
            listener.set_nonblocking(true)?;
            Ok::<_, anyhow::Error>(TcpListener::from_std(listener)?)
        };
        Ok(Self {
            gateway: open(args.gateway_port, GATEWAY_PORT)?,
            user: open(args.user_port, USER_PORT)?,
            product: open(args.product_port, PRODUCT_PORT)?,
            order: open(args.order_port, ORDER_PORT)?,
        })
    }
}

/// Whether the ports of the servers that are going to be started are free; else whose they are.
pub fn servers(args: &Args) -> anyhow::Result<()> {
    let nats = [(args.nats_port, NATS_PORT), (args.nats_monitor_port, MONITOR_PORT)];
    let nats = nats.into_iter().filter(|_| args.nats_url.is_none());
    let postgres = [(args.postgres_port, POSTGRES_PORT)].into_iter().filter(|_| args.postgres_url.is_none());
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
