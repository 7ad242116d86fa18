//! The broker: a connection that comes back, and publishing that counts only what was acknowledged.

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use async_nats::connection::State;
use async_nats::jetstream::{self, context::ContextBuilder};
use async_nats::{Client, ConnectOptions, Event, HeaderMap, HeaderName, ServerAddr};
use futures_util::future::try_join_all;
use percent_encoding::percent_decode_str;
use tokio_util::sync::CancellationToken;

use crate::health::Health;
use crate::outgoing::Packet;
use crate::settings::BrokerSettings;

/// How long an acknowledgement may take before the publish counts as failed. It may still have happened.
const ACK_TIMEOUT: Duration = Duration::from_secs(5);

/// Messages awaiting their acknowledgement at once, over all batches: beyond a thousand, publishing gains nothing.
const MAX_UNACKNOWLEDGED: usize = 4096;

/// What the broker takes in one message, its headers included: as the server said when it was connected to last, and until then what a
/// nats-server takes at its own defaults. Made before there is a connection, for whoever makes messages.
#[derive(Clone, Default)]
pub struct PayloadMax(Arc<OnceLock<Client>>);

impl PayloadMax {
    const USUAL: usize = 1024 * 1024;

    /// From now on as this broker says.
    pub(crate) fn follow(&self, broker: &Broker) {
        let _ = self.0.set(broker.client.clone());
    }

    /// In bytes.
    pub fn get(&self) -> usize {
        self.0.get().map_or(Self::USUAL, Client::max_payload)
    }
}

/// A connection to the broker.
#[derive(Clone)]
pub struct Broker {
    client: Client,
    jetstream: jetstream::Context,
}

impl Broker {
    /// Connects in the background, and again whenever the connection is lost. Returns at once.
    pub async fn connect(settings: &BrokerSettings, name: &str) -> anyhow::Result<Self> {
        const FORM: &str = "the broker's address is not of the form nats://user:password@host:port";
        let servers = settings.nats_url.expose().split(',').map(|server| server.trim().parse());
        let servers: Vec<ServerAddr> = servers.collect::<Result<_, _>>().context(FORM)?;
        let client = credentials(&servers)
            .name(name)
            // Answers come to subjects nobody else may read: each service's rights end at its own prefix (nats.conf).
            .custom_inbox_prefix(format!("_INBOX.{name}"))
            .retry_on_initial_connect()
            .max_reconnects(None)
            // A dead link shows after two unanswered pings; the default would take minutes.
            .ping_interval(Duration::from_secs(5))
            .connection_timeout(Duration::from_secs(5))
            .reconnect_delay_callback(|attempts| Duration::from_millis((50 << attempts.min(5)).min(1000)))
            .event_callback(|event| async move {
                match event {
                    Event::Connected => tracing::info!("connected to the broker"),
                    Event::Disconnected => tracing::warn!("the broker is gone; reconnecting"),
                    Event::Closed | Event::Draining => tracing::debug!(%event, "broker"),
                    other => tracing::warn!(event = %other, "broker"),
                }
            })
            .connect(bare(&servers)?)
            .await
            .context(FORM)?;
        let jetstream = ContextBuilder::new()
            .timeout(ACK_TIMEOUT)
            .ack_timeout(ACK_TIMEOUT)
            .max_ack_inflight(MAX_UNACKNOWLEDGED)
            .backpressure_on_inflight(true)
            .build(client.clone());
        Ok(Self { client, jetstream })
    }

    /// JetStream, for consumers and the provisioner.
    pub fn jetstream(&self) -> &jetstream::Context {
        &self.jetstream
    }

    /// The plain connection.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Whether the connection stands, as far as this side knows.
    pub fn is_connected(&self) -> bool {
        self.client.connection_state() == State::Connected
    }

    /// Waits until the connection stands; an error after ten seconds.
    pub async fn connected(&self) -> anyhow::Result<()> {
        const WITHIN: Duration = Duration::from_secs(10);
        let standing = async {
            while !self.is_connected() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(WITHIN, standing)
            .await
            .map_err(|_| anyhow!("the broker does not answer (NATS_URL says where it is)"))
    }

    /// Publishes messages side by side and waits until every one is acknowledged. Each bears `<id>-<index>` as its message id, so that
    /// publishing the same again within the de-duplication window stores nothing twice.
    ///
    /// An error says that the messages *may* not be stored: a publish that timed out can still arrive.
    pub async fn publish(&self, id: &str, packets: Vec<Packet>) -> anyhow::Result<()> {
        self.publish_as(packets.into_iter().enumerate().map(|(index, packet)| (format!("{id}-{index}"), packet)).collect()).await
    }

    /// The same for messages that have ids of their own.
    pub async fn publish_as(&self, packets: Vec<(String, Packet)>) -> anyhow::Result<()> {
        let mut acknowledgements = Vec::with_capacity(packets.len());
        for (id, Packet { subject, headers, payload }) in packets {
            let mut map = HeaderMap::new();
            for (name, value) in headers {
                match name {
                    Cow::Borrowed(name) => map.insert(HeaderName::from_static(name), value),
                    Cow::Owned(name) => map.insert(name, value),
                }
            }
            map.insert(async_nats::header::NATS_MESSAGE_ID, id);
            let publish = self.jetstream.publish_with_headers(subject, map, payload).await;
            acknowledgements.push(publish.context("the broker takes no message")?);
        }
        try_join_all(acknowledgements.into_iter().map(|ack| async { ack.await.map(drop) })).await?;
        Ok(())
    }

    /// Reports the connection's state until shutdown.
    pub async fn watch(&self, health: &Health, shutdown: &CancellationToken) {
        while !shutdown.is_cancelled() {
            let connected = self.is_connected();
            health.set("broker", if connected { Ok(()) } else { Err("not connected".to_owned()) });
            let wait = if connected { Duration::from_secs(1) } else { Duration::from_millis(100) };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = shutdown.cancelled() => return,
            }
        }
    }
}

/// The addresses without users and passwords: the client logs where it connects to.
pub fn bare(servers: &[ServerAddr]) -> std::io::Result<Vec<ServerAddr>> {
    let bare = |server: &ServerAddr| {
        let mut url = server.clone().into_inner();
        // Err only where the address has no host, and then there is nothing to take away.
        let _ = url.set_username("");
        let _ = url.set_password(None);
        ServerAddr::from_url(url)
    };
    servers.iter().map(bare).collect()
}

/// The user and password (or the token) of the address, which the client does not take from there by itself. All servers of a cluster
/// know the same ones.
pub fn credentials(servers: &[ServerAddr]) -> ConnectOptions {
    let decoded = |text| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let named = servers.iter().find_map(|server| Some((server.username()?, server.password())));
    match named {
        Some((user, Some(password))) => ConnectOptions::new().user_and_password(decoded(user), decoded(password)),
        Some((token, None)) => ConnectOptions::new().token(decoded(token)),
        None => ConnectOptions::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_may_be_logged_holds_no_password() {
        let servers: Vec<ServerAddr> =
            ["nats://u:hunter2@a:4222", "hunter2@b", "tls://c:1"].map(|server| server.parse().unwrap()).into();
        let bare: Vec<String> = bare(&servers).unwrap().iter().map(|server| server.as_url_str().to_owned()).collect();
        assert_eq!(bare, ["nats://a:4222", "nats://b", "tls://c:1"]);
    }
}
