//! The operators' pages of `waybill up`.

use anyhow::Context as _;
use chassis::broker::Broker;
use chassis::causes;
use console::Setup;
use order::saga::Order;
use reqwest::Url;
use saga::Exportable as _;
use saga_commands::client::Gateway;
use saga_commands::output::tell;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::access::Access;
use crate::saga::Orders;

/// Starts them, in the name of whoever runs the system, and says where they are. Nobody is kept from the rest because they cannot be served.
pub fn start(
    tasks: &mut JoinSet<anyhow::Result<()>>,
    listener: TcpListener,
    services: Vec<(String, String)>,
    broker: Broker,
    access: &Access,
    shutdown: &CancellationToken,
) -> Option<String> {
    match set_up(&listener, services, broker, access) {
        Ok((setup, url)) => {
            tasks.spawn(console::serve::<Orders>(listener, setup, shutdown.clone()));
            Some(url)
        }
        Err(why) => {
            tell(&format!("There is no console: {}", causes(&why)));
            None
        }
    }
}

fn set_up(
    listener: &TcpListener,
    services: Vec<(String, String)>,
    broker: Broker,
    access: &Access,
) -> anyhow::Result<(Setup, String)> {
    let places =
        services.into_iter().map(|(name, url)| Ok((name, url.parse()?))).collect::<anyhow::Result<Vec<(String, Url)>>>()?;
    let (_, url) = places.iter().find(|(name, _)| name == Order::NAME).context("the order service is one of them")?;
    let service = match access.token() {
        Some(token) => Gateway::bearing(url, Some(token))?,
        None => Gateway::new(url)?,
    };
    let setup = Setup::new(service, Some(broker), places);
    let url = setup.url(listener.local_addr()?.port());
    Ok((setup, url))
}
