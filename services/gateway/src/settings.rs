//! What can be set, each with its default and the reason for it.

use std::str::FromStr;
use std::time::Duration;

use axum::http::Uri;
use axum::http::uri::{Authority, Scheme};
use chassis::discovery::DiscoverySettings;
use chassis::identity::IdentitySettings;
use chassis::settings::{BrokerSettings, HttpSettings, hidden, one_to, seconds, with_scheme};
use clap::{Args, Parser, ValueEnum};

/// One door in front of the user, product and order services.
#[derive(Parser, Clone, Debug)]
#[command(name = "waybill-gateway", version)]
pub struct Settings {
    /// Where to listen.
    #[arg(long, env = "WAYBILL_GATEWAY_LISTEN", default_value = "127.0.0.1:8080")]
    pub listen: String,

    /// The user service, which serves /users.
    #[arg(long, env = "WAYBILL_USER_URL", default_value = "http://127.0.0.1:8081", hide_env_values = true, value_parser = hidden(base_url))]
    pub user_url: BaseUrl,

    /// The product service, which serves /products.
    #[arg(long, env = "WAYBILL_PRODUCT_URL", default_value = "http://127.0.0.1:8082", hide_env_values = true, value_parser = hidden(base_url))]
    pub product_url: BaseUrl,

    /// The order service, which serves /orders.
    #[arg(long, env = "WAYBILL_ORDER_URL", default_value = "http://127.0.0.1:8083", hide_env_values = true, value_parser = hidden(base_url))]
    pub order_url: BaseUrl,

    /// How the services are found. With `nats` requests go to all the instances of a service in turn, those that are ready, and the addresses
    /// above are not used; this needs NATS_URL. By address the gateway needs no broker.
    #[arg(long, env = "WAYBILL_DISCOVERY", value_enum, default_value_t = Discovery::Addresses)]
    pub discovery: Discovery,

    #[allow(missing_docs)]
    #[command(flatten)]
    pub upstream: UpstreamSettings,

    #[allow(missing_docs)]
    #[command(flatten)]
    pub announced: DiscoverySettings,

    #[allow(missing_docs)]
    #[command(flatten)]
    pub broker: BrokerSettings,

    #[allow(missing_docs)]
    #[command(flatten)]
    pub http: HttpSettings,

    #[allow(missing_docs)]
    #[command(flatten)]
    pub identity: IdentitySettings,
}

/// How services are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Discovery {
    /// Where the settings say.
    Addresses,
    /// Where those are that answer on the broker.
    Nats,
}

/// How the gateway treats each service behind it.
#[derive(Args, Clone, Debug)]
pub struct UpstreamSettings {
    /// Seconds to wait for a connection to a service. Services are neighbours: one that needs longer is down.
    #[arg(long, env = "WAYBILL_GATEWAY_CONNECT_TIMEOUT", default_value = "1", value_parser = seconds)]
    pub connect_timeout: Duration,

    /// Seconds until a service's answer must begin, then 504. Above the 30 that `Prefer: wait` may ask for. Once begun, an answer
    /// may take as long as it likes: live events do.
    #[arg(long, env = "WAYBILL_GATEWAY_ANSWER_TIMEOUT", default_value = "35", value_parser = seconds)]
    pub answer_timeout: Duration,

    /// Seconds between two looks whether each instance answers: for the notes in /readyz, and to turn clients away from one that stayed silent three times.
    #[arg(long, env = "WAYBILL_GATEWAY_WATCH_EVERY", default_value = "2", value_parser = seconds)]
    pub watch_every: Duration,

    /// Requests that fail to reach a service, one after the other, before the gateway stops trying and answers 503 at once.
    /// An answer of any status is not a failure. Few, as a service that answers nobody is down; not one, as a connection may
    /// always break.
    #[arg(long, env = "WAYBILL_GATEWAY_FAILURES", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub failures: u32,

    /// Seconds between the single requests that are let through to see whether a service is back: the longest a service stays
    /// unused after its return. Each may cost its client a wait, so not much shorter.
    #[arg(long, env = "WAYBILL_GATEWAY_PROBE_INTERVAL", default_value = "1", value_parser = seconds)]
    pub probe_interval: Duration,

    /// Requests to one service that may wait for its answer; the ones beyond get 503 at once. Half of the connections the edge
    /// takes, so that a service that hangs leaves room for the others.
    #[arg(long, env = "WAYBILL_GATEWAY_IN_FLIGHT", default_value_t = 2048, value_parser = one_to(1_000_000))]
    pub in_flight: usize,

    /// Requests with `Prefer: wait` that may wait for each service's answer, apart from the others. The ones beyond are passed on without it:
    /// an order is placed all the same, and answered 202 at once. With the live streams fewer than the connections a service takes from us.
    #[arg(long, env = "WAYBILL_GATEWAY_WAITING", default_value_t = 512, value_parser = one_to(1_000_000))]
    pub waiting: usize,
}

fn base_url(text: &str) -> Result<BaseUrl, String> {
    text.parse()
}

/// Where a service is: `http://host:port`; `http://` may be left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseUrl(Authority);

impl BaseUrl {
    /// Host and port.
    pub fn authority(&self) -> &Authority {
        &self.0
    }
}

impl FromStr for BaseUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = || "is not of the form http://host:port".to_owned();
        let uri: Uri = with_scheme(text, "http").parse().map_err(|_| form())?;
        match (uri.scheme(), uri.authority(), uri.path(), uri.query()) {
            (Some(scheme), Some(authority), "/", None) if *scheme == Scheme::HTTP && !authority.as_str().contains('@') => {
                Ok(Self(authority.clone()))
            }
            _ => Err(form()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_a_host_and_a_port() {
        for right in ["http://127.0.0.1:8081", "http://orders/", "http://[::1]:8083", "orders:8083"] {
            assert!(right.parse::<BaseUrl>().is_ok(), "{right}");
        }
        for wrong in ["", "https://orders", "http://orders/base", "http://orders?x=1", "http://me@orders", "a b"] {
            assert!(wrong.parse::<BaseUrl>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_defaults_leave_room_for_the_longest_wait() {
        let settings = Settings::parse_from(["waybill-gateway"]);
        assert!(settings.upstream.answer_timeout > Duration::from_secs(30));
    }
}
