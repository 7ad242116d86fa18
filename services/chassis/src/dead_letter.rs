//! Dead letters: an event that cannot be handled is kept as it was, with why, where and how often, before it is let go.

use async_nats::jetstream::message::Info;
use bytes::Bytes;
use events::streams::Consumer;

use crate::broker::Broker;
use crate::outgoing::Packet;

/// Something that could not be handled.
pub(crate) struct DeadLetter {
    /// The event, or the whole message where it is no batch.
    pub payload: Bytes,
    /// Its place in the message.
    pub index: usize,
    /// Why.
    pub reason: String,
}

/// Where a message came from.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    subject: String,
    sequence: u64,
    deliveries: i64,
    published: i64,
}

impl Origin {
    pub(crate) fn of(subject: &str, info: &Info) -> Self {
        Self {
            subject: subject.to_owned(),
            sequence: info.stream_sequence,
            deliveries: info.delivered,
            published: info.published.timestamp_micros(),
        }
    }

    pub(crate) fn deliveries(&self) -> i64 {
        self.deliveries
    }
}

/// Stores letters and waits until they are. The same letter stored again within the window is absorbed by its message id.
pub(crate) async fn bury(broker: &Broker, consumer: &Consumer, origin: &Origin, letters: &[DeadLetter]) -> anyhow::Result<()> {
    for letter in letters {
        let header = |name: &'static str, value: String| (name.into(), value);
        let packet = Packet {
            subject: consumer.dead_subject(),
            headers: vec![
                header("Content-Type", "application/json".into()),
                header("Waybill-Reason", letter.reason.replace(['\r', '\n'], " ")),
                header("Waybill-Stream", consumer.stream.into()),
                header("Waybill-Consumer", consumer.name.into()),
                header("Waybill-Subject", origin.subject.clone()),
                header("Waybill-Sequence", origin.sequence.to_string()),
                header("Waybill-Index", letter.index.to_string()),
                header("Waybill-Deliveries", origin.deliveries.to_string()),
            ],
            payload: letter.payload.clone(),
        };
        // The time tells a message from its namesake in a stream that was wiped and counts from one again.
        let id = format!("dead-{}-{}-{}-{}", consumer.stream, origin.sequence, origin.published, letter.index);
        broker.publish(&id, &[packet]).await?;
        tracing::error!(
            stream = consumer.stream,
            sequence = origin.sequence,
            index = letter.index,
            reason = letter.reason,
            "to the dead letters"
        );
    }
    Ok(())
}
