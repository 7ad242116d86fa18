//! The broker, for commands that read its streams: they bind to no service's consumer, so reading takes nothing from anybody.

use std::collections::VecDeque;
use std::time::Duration;

use anyhow::Context as _;
use async_nats::HeaderMap;
use async_nats::jetstream::consumer::{AckPolicy, Consumer, DeliverPolicy, pull};
use async_nats::jetstream::stream::Stream;
use bytes::Bytes;
use chassis::broker::Broker;
use chassis::settings::{BrokerSettings, Secret, hidden, nats_url};
use chrono::{DateTime, Utc};
use clap::{Args as ClapArgs, FromArgMatches as _};
use futures_util::StreamExt as _;

use crate::system::{broker_identity, broker_url, noted_seed, shown};

/// Where the broker is.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub struct Target {
    /// Where the broker listens [default: what `waybill up` started here, else nats://127.0.0.1:4222].
    #[arg(long, env = "NATS_URL", hide_env_values = true, value_name = "URL", value_parser = hidden(nats_url))]
    nats_url: Option<Secret>,
    /// A context of the `nats` command line that says where the broker is and who we are there.
    #[arg(long, env = "NATS_CONTEXT", value_name = "NAME")]
    nats_context: Option<String>,
}

impl Target {
    /// Connects; an error if the broker does not answer within seconds.
    pub async fn connect(&self) -> anyhow::Result<Broker> {
        let broker = self.connect_as("waybill").await?;
        let address = self.url()?;
        broker.connected().await.map_err(|_| {
            let address = shown(address.expose());
            anyhow::anyhow!("the broker at {address} does not answer, or does not know us; --nats-url or NATS_URL names another, NATS_NKEY_SEED \
                 or NATS_CREDS says who we are"
            )
        })?;
        Ok(broker)
    }

    /// Connects in the background, under this name.
    pub async fn connect_as(&self, name: &str) -> anyhow::Result<Broker> {
        Broker::connect(&broker_settings(self.url()?.expose())?, name).await
    }

    /// Where the broker is.
    pub fn url(&self) -> anyhow::Result<Secret> {
        broker_url(&self.nats_url, self.nats_context.as_deref())
    }
}

/// The broker settings of the environment, with this address. What it does not say of who we are is what the context says that the address is
/// from, and else what `waybill up` wrote down.
pub fn broker_settings(nats_url: &str) -> anyhow::Result<BrokerSettings> {
    let command = <BrokerSettings as ClapArgs>::augment_args(clap::Command::new("waybill"));
    let mut settings = BrokerSettings::from_arg_matches(&command.try_get_matches_from(["waybill"])?)?;
    settings.nats_url = nats_url.to_owned().into();
    broker_identity(nats_url)?.apply(&mut settings)?;
    if settings.nats_nkey_seed.is_none() && settings.nats_creds.is_none() {
        settings.nats_nkey_seed = noted_seed(nats_url)?;
    }
    Ok(settings)
}

/// A stream that is there.
pub async fn stream(broker: &Broker, name: &str) -> anyhow::Result<Stream> {
    broker.jetstream().get_stream(name).await.with_context(|| format!("the stream {name} cannot be read"))
}

/// A message as a stream holds it.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Its subject.
    pub subject: String,
    /// Its sequence in the stream.
    pub sequence: u64,
    /// When it was stored.
    pub time: DateTime<Utc>,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub payload: Bytes,
}

impl Stored {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.as_str())
    }
}

/// Messages fetched at once, and the bytes they may have: what is held in memory.
const AHEAD: (usize, usize) = (200, 8 << 20);

/// Reads what a stream holds, from its beginning or a later point, up to what was its end when the reading began.
pub struct Reader {
    consumer: Consumer<pull::Config>,
    ahead: VecDeque<Stored>,
    /// The last sequence to be read.
    until: u64,
    /// How many the broker has delivered to us: it counts them, so a lost one shows.
    delivered: u64,
    ended: bool,
}

impl Reader {
    /// Begins to read; with a filter, only what is under that subject.
    pub async fn open(stream: &Stream, filter: &str, from: DeliverPolicy) -> anyhow::Result<Self> {
        Self::opened(stream, filter, from, false).await
    }

    /// The same without what the messages say: their subjects and headers alone.
    pub async fn heads(stream: &Stream, filter: &str, from: DeliverPolicy) -> anyhow::Result<Self> {
        Self::opened(stream, filter, from, true).await
    }

    async fn opened(stream: &Stream, filter: &str, from: DeliverPolicy, headers_only: bool) -> anyhow::Result<Self> {
        let until = stream.get_info().await?.state.last_sequence;
        let config = pull::Config {
            filter_subject: filter.to_owned(),
            deliver_policy: from,
            ack_policy: AckPolicy::None,
            inactive_threshold: Duration::from_secs(60),
            memory_storage: true,
            headers_only,
            description: Some("waybill, reading".to_owned()),
            ..Default::default()
        };
        let consumer = stream.create_consumer(config).await.context("the stream cannot be read")?;
        Ok(Self { consumer, ahead: VecDeque::new(), until, delivered: 0, ended: until == 0 })
    }

    /// The next message; `None` at the end.
    pub async fn next(&mut self) -> anyhow::Result<Option<Stored>> {
        if self.ahead.is_empty() && !self.ended {
            self.fetch().await?;
        }
        Ok(self.ahead.pop_front())
    }

    async fn fetch(&mut self) -> anyhow::Result<()> {
        let (messages, bytes) = AHEAD;
        let mut batch = self.consumer.fetch().max_messages(messages).max_bytes(bytes).messages().await?;
        while let Some(message) = batch.next().await {
            let message = message.map_err(anyhow::Error::from_boxed)?;
            let info = message.info().map_err(anyhow::Error::from_boxed)?;
            self.delivered += 1;
            anyhow::ensure!(info.consumer_sequence == self.delivered, "the connection lost a message; try again");
            let (sequence, time) = (info.stream_sequence, info.published);
            self.ended |= sequence >= self.until;
            if sequence <= self.until {
                let async_nats::Message { subject, headers, payload, .. } = message.message;
                let (subject, headers) = (subject.into_string(), headers.unwrap_or_default());
                self.ahead.push_back(Stored { subject, sequence, time, headers, payload });
            }
        }
        self.ended |= self.ahead.is_empty();
        Ok(())
    }
}
