//! Binding to consumers: a binding that breaks is made anew, and breaks no other.

use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::Message as Delivery;
use async_nats::jetstream::consumer::pull;
use envelope::Consumer;
use futures_util::stream::{self, BoxStream};
use futures_util::{Stream, StreamExt};
use tokio::sync::SetOnce;

use super::received::Received;
use super::source::Source;
use crate::broker::Broker;
use crate::health::Health;
use crate::metrics::Metrics;

/// Messages fetched ahead. Each may hold a full batch, so this bounds memory: 32 x 512 KiB.
pub(super) const FETCH_AHEAD: usize = 32;

/// A vanished consumer or a silent broker shows after two missed heartbeats.
const HEARTBEAT: Duration = Duration::from_secs(2);
const EXPIRES: Duration = Duration::from_secs(20);

/// How soon a binding that broke is made anew; each time it cannot be, the wait is twice as long.
const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// What is needed to bind to a consumer.
#[derive(Clone)]
pub(crate) struct Binding {
    pub broker: Broker,
    pub health: Health,
    pub metrics: Metrics,
    /// Set when the schema is up to date: nothing is taken before.
    pub migrated: Arc<SetOnce<()>>,
}

impl Binding {
    /// What a source brings, read; for ever.
    pub(super) fn received<T: Send + 'static>(&self, source: Source<T>) -> BoxStream<'static, Received<T>> {
        let deliveries = self.clone().deliveries(source.consumer);
        let read = move |delivery| ready(Received::read(&source, delivery).inspect_err(report).ok());
        deliveries.filter_map(read).boxed()
    }

    fn deliveries(self, consumer: Consumer) -> impl Stream<Item = Delivery> {
        let bound = stream::unfold((self, Duration::ZERO), move |(binding, mut wait)| async move {
            binding.migrated.wait().await;
            loop {
                tokio::time::sleep(wait).await;
                match messages(&binding.broker, consumer).await {
                    Ok(messages) => {
                        binding.health.set(consumer.stream, Ok(()));
                        let messages = until_broken(messages, consumer, binding.health.clone());
                        return Some((messages, (binding, FIRST_WAIT)));
                    }
                    Err(error) => binding.health.set(consumer.stream, Err(error.to_string())),
                }
                wait = (wait * 2).clamp(FIRST_WAIT, LONGEST_WAIT);
            }
        });
        bound.flatten()
    }
}

fn report(error: &anyhow::Error) {
    tracing::error!(%error, "not a JetStream delivery");
}

/// What a consumer brings, until that breaks.
fn until_broken(messages: pull::Stream, consumer: Consumer, health: Health) -> impl Stream<Item = Delivery> {
    let ended = stream::once(ready(Err("the stream of messages ended".to_owned())));
    let messages = messages.map(|delivery| delivery.map_err(|error| error.to_string())).chain(ended);
    messages.scan(health, move |health, delivery: Result<Delivery, String>| {
        ready(delivery.map_err(|error| health.set(consumer.stream, Err(error))).ok())
    })
}

/// What a consumer brings, fetched ahead. It is never made here: that is the provisioner's right.
async fn messages(broker: &Broker, consumer: Consumer) -> anyhow::Result<pull::Stream> {
    let consumer = broker.jetstream().get_consumer_from_stream::<pull::Config, _, _>(consumer.name, consumer.stream).await?;
    let messages = consumer.stream().max_messages_per_batch(FETCH_AHEAD).heartbeat(HEARTBEAT).expires(EXPIRES).messages();
    Ok(messages.await?)
}
