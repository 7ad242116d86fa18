//! The floor: what the same messages and rows cost with nothing around them. Raw publish and consume of as many messages as a run
//! made, of the same size and with the same headers, and the rows of its orders in batches of 256; CPU of client and server together. What a
//! run costs above that is ours.

mod messages;
mod rows;

use async_nats::Client;
use async_nats::jetstream::Context;
use serde::Serialize;
use tokio::sync::OnceCell;

pub use self::messages::{Said, Traffic};
use super::meter::{ByPart, Meter, Part, round};

/// CPU microseconds an order, of the client and the server.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Floor {
    /// Publishing and consuming its messages.
    pub messages: f64,
    /// Writing its rows.
    pub rows: f64,
    /// Both.
    pub total: f64,
}

/// Measures floors. The services must be idle: their share of the broker and the databases would count.
#[derive(Debug)]
pub struct Baseline<'a> {
    meter: &'a Meter,
    broker: Client,
    jetstream: Context,
    /// The databases of the order and of the product service.
    databases: [&'a str; 2],
    /// What rows cost, which is the same for all runs.
    rows: OnceCell<f64>,
}

impl<'a> Baseline<'a> {
    /// For runs against these databases, of the order and of the product service.
    pub fn new(meter: &'a Meter, broker: Client, databases: [&'a str; 2]) -> Self {
        let jetstream = async_nats::jetstream::new(broker.clone());
        Self { meter, broker, jetstream, databases, rows: OnceCell::new() }
    }

    /// What the rows of an order cost, in tables of their own in the first.
    async fn rows(&self) -> anyhow::Result<f64> {
        let [orders, products] = self.databases;
        let mut scratch = rows::Scratch::open(orders, products).await?;
        scratch.write(rows::WARM_UP).await?;
        let before = self.meter.cpu();
        scratch.write(rows::ORDERS).await?;
        let rows = per_order(&before, &self.meter.cpu(), &[Part::Postgres, Part::Driver], rows::ORDERS as f64);
        scratch.close().await?;
        Ok(rows)
    }

    /// What has been said on the streams so far.
    pub async fn said(&self) -> anyhow::Result<Said> {
        messages::said(&self.jetstream).await
    }

    /// The floor of a run of so many orders, during which this was said.
    pub async fn of(&self, traffic: &Traffic, orders: u64) -> anyhow::Result<Floor> {
        let rows = *self.rows.get_or_try_init(|| self.rows()).await?;
        let (traffic, orders) = traffic.for_at_most(orders, messages::ORDERS);
        let mut stream = messages::Scratch::open(&self.broker, &self.jetstream, &traffic).await?;
        let before = self.meter.cpu();
        stream.publish_and_consume(&traffic).await?;
        let messages = per_order(&before, &self.meter.cpu(), &[Part::Nats, Part::Driver], orders);
        stream.close().await?;
        Ok(Floor { messages: round(messages, 1), rows: round(rows, 1), total: round(messages + rows, 1) })
    }
}

fn per_order(before: &ByPart<f64>, after: &ByPart<f64>, parts: &[Part], orders: f64) -> f64 {
    let used = |part: &Part| after.get(part).unwrap_or(&0.0) - before.get(part).unwrap_or(&0.0);
    parts.iter().map(used).sum::<f64>() * 1e6 / orders.max(1.0)
}
