//! The broker: a connection that comes back, and publishing that counts only what was acknowledged.

use std::borrow::Cow;
use std::str::FromStr as _;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use async_nats::connection::State;
use async_nats::jetstream::context::{PublishAckFuture, PublishErrorKind};
use async_nats::jetstream::{self, context::ContextBuilder};
use async_nats::{Client, ConnectOptions, Event, HeaderMap, HeaderName, ServerAddr};
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::credentials;
use crate::health::Health;
use crate::packet::Packet;
use crate::settings::{BrokerSettings, Secret};
use crate::unpublished::Unpublished;

/// How long an acknowledgement may take before the publish counts as failed. It may still have happened.
const ACK_TIMEOUT: Duration = Duration::from_secs(5);

const BROKEN: &str = "the connection broke before it was acknowledged";

/// Messages awaiting their acknowledgement at once, over all batches: beyond a thousand, publishing gains nothing.
const MAX_UNACKNOWLEDGED: u32 = 4096;

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
    unacknowledged: Arc<Semaphore>,
    /// Whether the connection stands; each change wakes whoever follows it.
    connected: watch::Receiver<bool>,
}

impl Broker {
    /// Connects in the background, and again whenever the connection is lost. Returns at once.
    pub async fn connect(settings: &BrokerSettings, name: &str) -> anyhow::Result<Self> {
        let (options, servers) = connecting(settings)?;
        let (changed, connected) = watch::channel(false);
        // A broker that is away says the same with every try to reach it: once is enough.
        let said = Mutex::new(String::new());
        let client = options
            .name(name)
            // Answers come to subjects of our own, which say whose they are.
            .custom_inbox_prefix(format!("_INBOX.{name}"))
            .retry_on_initial_connect()
            .max_reconnects(None)
            // A dead link shows after two unanswered pings; the default would take minutes.
            .ping_interval(Duration::from_secs(5))
            .connection_timeout(Duration::from_secs(5))
            .reconnect_delay_callback(|attempts| Duration::from_millis((50 << attempts.min(5)).min(1000)))
            .event_callback(move |event| {
                match event {
                    Event::Connected => {
                        said.lock().expect("a text is never poisoned").clear();
                        tracing::info!("connected to the broker");
                        changed.send_replace(true);
                    }
                    Event::Disconnected => {
                        tracing::warn!("the broker is gone; reconnecting");
                        changed.send_replace(false);
                    }
                    Event::Closed | Event::Draining => tracing::debug!(%event, "broker"),
                    other => {
                        let (mut said, text) = (said.lock().expect("a text is never poisoned"), other.to_string());
                        if *said != text {
                            tracing::warn!(event = text, "broker");
                            *said = text;
                        }
                    }
                }
                std::future::ready(())
            })
            .connect(servers)
            .await?;
        let jetstream = ContextBuilder::new()
            .timeout(ACK_TIMEOUT)
            .ack_timeout(ACK_TIMEOUT)
            // Ours is the limit that counts: the client's is taken message by message, and batches that each hold a part of it, and wait
            // for the rest, would wait for ever.
            .max_ack_inflight(4 * MAX_UNACKNOWLEDGED as usize)
            .build(client.clone());
        let unacknowledged = Arc::new(Semaphore::new(MAX_UNACKNOWLEDGED as usize));
        Ok(Self { client, jetstream, unacknowledged, connected })
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
        tokio::time::timeout(WITHIN, standing).await.map_err(|_| {
            anyhow!("the broker does not answer (NATS_URL says where it is), or does not know us (NATS_NKEY_SEED, NATS_CREDS)")
        })
    }

    /// Waits until the connection is lost, or made again, from this call on.
    pub(crate) fn connection_changed(&self) -> impl Future<Output = ()> + use<> {
        let mut connected = self.connected.clone();
        connected.mark_unchanged();
        async move {
            // An error: the client is gone, and nothing will change any more.
            if connected.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Publishes messages that have ids of their own, and waits until every one is acknowledged: publishing the same again within the
    /// de-duplication window stores nothing twice.
    ///
    /// An error says that the messages *may* not be stored: a publish that timed out can still arrive.
    pub async fn publish_as(&self, messages: Vec<(String, Packet)>) -> anyhow::Result<()> {
        match self.publish_each(messages).await.into_iter().next() {
            Some((_, unpublished)) => Err(unpublished).context("publishing failed"),
            None => Ok(()),
        }
    }

    /// The same, each message with an outcome of its own: returns those that were not acknowledged, by their place. They go on the wire in
    /// this order, one after the other, without waiting in between.
    pub async fn publish_each(&self, messages: Vec<(String, Packet)>) -> Vec<(usize, Unpublished)> {
        let mut failed = Vec::new();
        let (mut messages, mut place) = (messages.into_iter(), 0);
        while messages.len() > 0 {
            let some: Vec<_> = messages.by_ref().take(MAX_UNACKNOWLEDGED as usize).collect();
            let count = some.len();
            self.publish_some(some, place, &mut failed).await;
            place += count;
        }
        failed
    }

    async fn publish_some(&self, messages: Vec<(String, Packet)>, first: usize, failed: &mut Vec<(usize, Unpublished)>) {
        let room = self.unacknowledged.acquire_many(messages.len() as u32).await;
        let mut lost = std::pin::pin!(self.connection_changed());
        // The client would keep them and send them whenever it comes back: after what is published then, and in spite of what this says.
        if !self.is_connected() {
            failed.extend((first..).zip(messages).map(|(place, _)| (place, Unpublished::outage("the broker is not connected"))));
            return;
        }
        let mut sent = Vec::with_capacity(messages.len());
        for (place, (id, packet)) in (first..).zip(messages) {
            match self.send(id, packet).await {
                Ok(acknowledged) => sent.push((place, acknowledged)),
                Err(unpublished) => failed.push((place, unpublished)),
            }
        }
        let deadline = Instant::now() + ACK_TIMEOUT;
        let mut broken = false;
        for (place, acknowledged) in sent {
            let acknowledged = timeout_at(deadline, acknowledged.into_future());
            let outcome = tokio::select! {
                biased;
                outcome = acknowledged => outcome.unwrap_or_else(|_| Err(PublishErrorKind::TimedOut.into())).map_err(Unpublished::from),
                // What was under way with the connection may be lost, and nobody will say so: nothing is gained by waiting for it.
                () = &mut lost, if !broken => {
                    broken = true;
                    Err(Unpublished::outage(BROKEN))
                }
                () = std::future::ready(()), if broken => Err(Unpublished::outage(BROKEN)),
            };
            failed.extend(outcome.err().map(|unpublished| (place, unpublished)));
        }
        drop(room);
    }

    /// Puts one message on the wire.
    async fn send(&self, id: String, packet: Packet) -> Result<PublishAckFuture, Unpublished> {
        let Packet { subject, headers, payload } = packet;
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            // The client would panic.
            if value.contains(['\r', '\n']) {
                return Err(Unpublished::never(format!("the header {name} has a value of several lines")));
            }
            let name = match name {
                Cow::Borrowed(name) => HeaderName::from_static(name),
                Cow::Owned(name) => HeaderName::from_str(&name)
                    .map_err(|error| Unpublished::never(format!("the header {} cannot be sent: {error}", name.escape_debug())))?,
            };
            map.insert(name, value);
        }
        map.insert(async_nats::header::NATS_MESSAGE_ID, id);
        Ok(self.jetstream.publish_with_headers(subject, map, payload).await?)
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

/// What to connect with, and to whom, for a connection of another kind than [`Broker`]'s.
///
/// # Errors
/// Where an address is none.
pub fn connecting(settings: &BrokerSettings) -> anyhow::Result<(ConnectOptions, Vec<ServerAddr>)> {
    let seed = settings.nats_nkey_seed.as_ref().map(Secret::expose);
    credentials::connecting(settings.nats_url.expose(), seed, settings.nats_creds.as_deref(), settings.nats_ca.as_deref())
}
