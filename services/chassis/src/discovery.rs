//! Found by asking the broker who is there: every instance answers NATS' service discovery (`nats micro ls|info|stats`), with where it is,
//! whether it is ready and how much it has answered.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use async_nats::service::{PingResponse, Service, ServiceExt as _, endpoint::Endpoint};
use clap::Args;
use futures_util::StreamExt as _;
use serde_json::json;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::broker::Broker;
use crate::health::Health;
use crate::origins::{host_and_port, is_host};

/// How often is looked whether an instance is ready: what it says of itself is as old as this at most.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What the names of our services begin with on the broker, where others may answer too.
const PREFIX: &str = "waybill-";

/// Where an instance says it is.
#[derive(Args, Clone, Debug)]
pub struct DiscoverySettings {
    /// Where others reach this instance over HTTP: a host, or host:port. What `nats micro info` and `waybill services` show, and a gateway with
    /// WAYBILL_DISCOVERY=nats goes by. Not set: where it listens; if that is every address, the name of this machine.
    #[arg(long, env = "WAYBILL_ADVERTISE", value_name = "HOST[:PORT]")]
    pub advertise: Option<Advertised>,
}

/// A host, and a port if it is not the one that is listened on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advertised {
    host: String,
    port: Option<u16>,
}

impl FromStr for Advertised {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (host, port) = host_and_port(text)
            .filter(|(_, port)| *port != Some(0))
            .ok_or_else(|| format!("`{text}` has no port after its colon"))?;
        // A bare word is more often a mistake than a host.
        let is_meant = port.is_some() || text.contains(['.', '[']) || text == "localhost";
        if !is_meant || !is_host(host) {
            return Err(format!("`{text}` is not a host or host:port"));
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

impl DiscoverySettings {
    /// The address of an instance that listens here.
    pub fn address(&self, listening: SocketAddr) -> String {
        match &self.advertise {
            Some(Advertised { host, port }) => format!("{host}:{}", port.unwrap_or(listening.port())),
            None if listening.ip().is_unspecified() => {
                let name = rustix::system::uname();
                format!("{}:{}", name.nodename().to_str().unwrap_or("localhost"), listening.port())
            }
            None => listening.to_string(),
        }
    }
}

/// Answers who asks for this service, until shutdown. Whatever becomes of the broker: the client asks again for what it was asked to hear.
pub async fn announce(name: &'static str, address: String, broker: Broker, health: Health, shutdown: CancellationToken) {
    let instance = Uuid::now_v7();
    let mut announced: Option<Announced> = None;
    while !shutdown.is_cancelled() {
        let ready = health.readiness().ready;
        if announced.as_ref().is_none_or(|announced| announced.ready != ready) {
            if let Some(before) = announced.take() {
                before.stop().await;
            }
            let begun = Announced::begin(name, instance, &address, ready, &broker, &health);
            tokio::select! {
                begun = begun => match begun {
                    Ok(begun) => announced = Some(begun),
                    Err(error) => tracing::warn!(error, "cannot be found by asking the broker; trying again"),
                },
                () = shutdown.cancelled() => break,
            }
        }
        let answering = async {
            match &mut announced {
                Some(announced) => announced.answer(&health).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = answering => {}
            () = tokio::time::sleep(LOOK_EVERY) => {}
            () = shutdown.cancelled() => {}
        }
    }
    if let Some(announced) = announced {
        announced.stop().await;
    }
}

/// What is said of an instance does not change while it is said: when it is ready, or no longer, it is said anew.
struct Announced {
    ready: bool,
    service: Service,
    asked: Endpoint,
}

impl Announced {
    async fn begin(
        name: &str,
        instance: Uuid,
        address: &str,
        ready: bool,
        broker: &Broker,
        health: &Health,
    ) -> Result<Self, String> {
        let metadata = [("address", address.to_owned()), ("instance", instance.to_string()), ("ready", ready.to_string())];
        let health = health.clone();
        let counts = move |_: String, _| {
            let (requests, errors) = health.answered();
            json!({ "requests": requests, "errors": errors })
        };
        let service = broker
            .client()
            .service_builder()
            .description(format!("Waybill's {name} service"))
            .metadata(metadata.into_iter().map(|(name, value)| (name.to_owned(), value)).collect::<HashMap<_, _>>())
            .stats_handler(counts)
            .start(format!("{PREFIX}{name}"), env!("CARGO_PKG_VERSION"))
            .await
            .map_err(|error| error.to_string())?;
        // Everybody who is asked answers, not one of the group.
        let endpoint = service.endpoint_builder().name("ready").queue_group(instance.simple().to_string());
        let asked = endpoint.add(format!("$SRV.READY.{PREFIX}{name}")).await.map_err(|error| error.to_string())?;
        Ok(Self { ready, service, asked })
    }

    /// Waits for one who asks whether it is ready, and says it, with all that `/readyz` does.
    async fn answer(&mut self, health: &Health) {
        match self.asked.next().await {
            Some(request) => {
                let readiness = serde_json::to_vec(&health.readiness()).unwrap_or_default();
                if let Err(error) = request.respond(Ok(readiness.into())).await {
                    tracing::debug!(%error, "who asked is not answered");
                }
            }
            None => std::future::pending().await,
        }
    }

    async fn stop(self) {
        // It only ends a task.
        let _ = self.service.stop().await;
    }
}

/// An instance, as it answers who asks who is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// `order`.
    pub service: String,
    /// Its own for as long as it runs.
    pub id: String,
    /// By which the broker's answers about it are known.
    pub discovery_id: String,
    /// Of its build.
    pub version: String,
    /// Where it is reached over HTTP.
    pub address: String,
    /// Whether it can serve.
    pub ready: bool,
}

impl Instance {
    /// Reads an answer to [`ping`]. `None`: it is no service of ours.
    pub fn read(answer: &[u8]) -> Option<Self> {
        let PingResponse { name, id, version, metadata, .. } = serde_json::from_slice(answer).ok()?;
        Some(Self {
            service: name.strip_prefix(PREFIX)?.to_owned(),
            id: metadata.get("instance")?.clone(),
            discovery_id: id,
            version,
            address: metadata.get("address")?.clone(),
            ready: metadata.get("ready")? == "true",
        })
    }
}

/// Where is asked who is there: of one service, or of all.
pub fn ping(service: Option<&str>) -> String {
    match service {
        Some(service) => format!("$SRV.PING.{PREFIX}{service}"),
        None => "$SRV.PING".to_owned(),
    }
}

/// All that one service is asked: with every other, by its name, and each of its instances.
pub fn questions(service: &str) -> [String; 3] {
    ["$SRV.*".to_owned(), format!("$SRV.*.{PREFIX}{service}"), format!("$SRV.*.{PREFIX}{service}.*")]
}

/// Where one instance is asked how much it has answered.
pub fn stats(instance: &Instance) -> String {
    format!("$SRV.STATS.{PREFIX}{}.{}", instance.service, instance.discovery_id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_is_where_it_says_else_where_it_listens() {
        let address = |advertise: Option<&str>, listening: &str| {
            let advertise = advertise.map(|text| text.parse().unwrap());
            DiscoverySettings { advertise }.address(listening.parse().unwrap())
        };
        assert_eq!(address(None, "127.0.0.1:8083"), "127.0.0.1:8083");
        assert_eq!(address(Some("10.0.0.7"), "0.0.0.0:8083"), "10.0.0.7:8083");
        assert_eq!(address(Some("order:80"), "0.0.0.0:8083"), "order:80");
        assert_eq!(address(Some("[::1]"), "[::]:8083"), "[::1]:8083");
        let own = address(None, "0.0.0.0:8083");
        assert!(own.ends_with(":8083") && !own.starts_with("0.0.0.0"), "{own}");
        for wrong in ["", "order", "0", "a b.c", "http://a.b", "a.b:", "a.b:0", "a.b:x", "-1", "a.b/c", "me@a.b"] {
            assert!(wrong.parse::<Advertised>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn only_our_own_services_are_read() {
        let answer = |name: &str, metadata: serde_json::Value| {
            json!({ "type": "io.nats.micro.v1.ping_response", "name": name, "id": "x", "version": "0.1.0", "metadata": metadata })
                .to_string()
        };
        let ours = json!({ "address": "127.0.0.1:1", "instance": "i", "ready": "true" });
        let read = Instance::read(answer("waybill-order", ours.clone()).as_bytes()).unwrap();
        assert_eq!((read.service.as_str(), read.address.as_str(), read.ready), ("order", "127.0.0.1:1", true));
        assert_eq!(Instance::read(answer("generator", ours).as_bytes()), None);
        assert_eq!(Instance::read(answer("waybill-order", json!(null)).as_bytes()), None);
        assert_eq!(Instance::read(b"nonsense"), None);
    }
}
