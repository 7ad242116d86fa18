//! The system under load: one that runs already, or one of our own.

use std::future::pending;
use std::str::FromStr;

use chassis::settings::{Secret, hidden, nats_url};
use chassis::topology::TopologySettings;
use reqwest::Url;
use saga_commands::broker;
use saga_commands::system::{http_url, or_usual};
use stack::nats::Sync;

use super::fleet::{self, Fleet};
use super::listeners::{self, Addresses};
use super::meter::{ByPart, Part};
use crate::addresses::{Databases, ORDER, PRODUCT, USER};

/// Where the system is.
#[derive(Debug, clap::Args)]
pub struct Where {
    /// Start a system for the measurement, durable, each service a process of its own, and end it afterwards.
    #[arg(long)]
    pub up: bool,
    /// With --up: how many of each service.
    #[arg(long, value_name = "N", default_value_t = 1, requires = "up", value_parser = clap::value_parser!(u8).range(1..=8))]
    pub instances: u8,
    /// With --up: when the broker brings what it stored to disk. `always` is before it acknowledges, a number is every so many
    /// seconds, `default` is as `waybill up` has it.
    #[arg(long, value_name = "always|default|SECONDS", default_value = "default", requires = "up")]
    pub sync: SyncInterval,
    /// With --up: a broker that runs already, a cluster say.
    #[arg(long, value_name = "URL", requires = "up", value_parser = hidden(nats_url))]
    broker: Option<Secret>,
    /// Send orders through the gateway, and not directly to the order service.
    #[arg(long)]
    pub via_gateway: bool,
    /// The order services, separated by commas [default: what `waybill up` started here, or http://127.0.0.1:8083].
    #[arg(long, value_name = "URL", value_delimiter = ',', conflicts_with = "up", value_parser = hidden(http_url))]
    order_url: Vec<Url>,
    /// The user service [default: what `waybill up` started here, or http://127.0.0.1:8081].
    #[arg(long, value_name = "URL", conflicts_with = "up", value_parser = hidden(http_url))]
    user_url: Option<Url>,
    /// The product service [default: what `waybill up` started here, or http://127.0.0.1:8082].
    #[arg(long, value_name = "URL", conflicts_with = "up", value_parser = hidden(http_url))]
    product_url: Option<Url>,
    #[command(flatten)]
    target: broker::Target,
    #[command(flatten)]
    databases: Databases,
    #[command(flatten)]
    topology: TopologySettings,
}

/// When the broker brings what it stored to disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SyncInterval(pub Sync);

impl FromStr for SyncInterval {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(Self(match text {
            "always" => Sync::Always,
            "default" => stack::nats::Options::default().sync,
            seconds => Sync::Every(chassis::settings::seconds(seconds)?),
        }))
    }
}

impl std::fmt::Display for SyncInterval {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Sync::Always => f.write_str("always"),
            Sync::Every(interval) => write!(f, "every {} s", interval.as_secs_f64()),
        }
    }
}

/// The system.
#[derive(Debug)]
pub struct Target {
    /// Where orders are posted.
    pub endpoints: Vec<Url>,
    /// Where users are made.
    pub user: Url,
    /// Where products are made.
    pub product: Url,
    /// The broker.
    pub nats_url: String,
    /// The databases of the order and the product service, in this order, where they are known.
    pub databases: anyhow::Result<[String; 2]>,
    /// The processes that could be found.
    pub processes: ByPart<Vec<u32>>,
    fleet: Option<Fleet>,
}

impl Where {
    /// Finds the system, or starts one.
    pub async fn target(&self, gateway: &dyn Fn() -> anyhow::Result<Url>) -> anyhow::Result<Target> {
        if self.up { self.start().await } else { self.find(gateway()?) }
    }

    async fn start(&self) -> anyhow::Result<Target> {
        let fleet = Fleet::start(fleet::Options {
            instances: self.instances.into(),
            sync: self.sync.0,
            broker: self.broker.as_ref().map(|url| url.expose().to_owned()),
            topology: self.topology.clone(),
        })
        .await?;
        let first = |part| fleet.urls(part).swap_remove(0);
        Ok(Target {
            endpoints: fleet.urls(if self.via_gateway { Part::Gateway } else { Part::Order }),
            user: first(Part::User),
            product: first(Part::Product),
            nats_url: fleet.stack.nats.url().to_owned(),
            databases: Ok(["waybill_order", "waybill_product"].map(|name| fleet.stack.postgres.socket_url(name))),
            processes: fleet.processes(),
            fleet: Some(fleet),
        })
    }

    fn find(&self, gateway: Url) -> anyhow::Result<Target> {
        let user = or_usual(&self.user_url, USER, "http://127.0.0.1:8081")?;
        let product = or_usual(&self.product_url, PRODUCT, "http://127.0.0.1:8082")?;
        let mut orders = self.order_url.clone();
        if orders.is_empty() {
            orders.push(or_usual(&None, ORDER, "http://127.0.0.1:8083")?);
        }
        let nats_url = self.target.url()?.expose().to_owned();
        let databases = self.databases.order().and_then(|order| Ok([order, self.databases.product()?]));

        let mut addresses: Addresses = orders.iter().map(|url| (Part::Order, url.clone())).collect();
        addresses.extend([(Part::User, user.clone()), (Part::Product, product.clone()), (Part::Gateway, gateway.clone())]);
        addresses.extend(nats_url.split(',').filter_map(|url| Some((Part::Nats, url.trim().parse().ok()?))));
        addresses.extend(databases.iter().flatten().filter_map(|url| Some((Part::Postgres, url.parse().ok()?))));
        let endpoints = if self.via_gateway { vec![gateway.clone()] } else { orders };
        Ok(Target { endpoints, user, product, nats_url, databases, processes: listeners::find(&addresses), fleet: None })
    }
}

impl Target {
    /// Waits until a part of a system of our own ends that nobody told to, and says which.
    pub async fn failed(&self) -> anyhow::Error {
        match &self.fleet {
            Some(fleet) => fleet.failed().await,
            None => pending().await,
        }
    }

    /// Ends a system of our own.
    pub async fn stop(self) -> anyhow::Result<()> {
        match self.fleet {
            Some(fleet) => fleet.stop().await,
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_sync_interval_is_a_word_or_seconds() {
        let of = |text: &str| text.parse::<SyncInterval>().map(|sync| sync.0);
        assert_eq!(of("always"), Ok(Sync::Always));
        assert_eq!(of("0.5"), Ok(Sync::Every(Duration::from_millis(500))));
        assert_eq!(of("default"), Ok(stack::nats::Options::default().sync));
        assert!(of("never").is_err());
    }
}
