//! What a consumer delivered, and what the broker is told of it.

use std::time::Duration;

use async_nats::jetstream::{AckKind, Message as Delivery};

/// Once more, later: a bare NAK would come back at once, thousands of times a second.
pub(crate) fn again(deliveries: i64) -> AckKind {
    let seconds = (1 << deliveries.clamp(0, 5)).min(30);
    AckKind::Nak(Some(Duration::from_secs(seconds)))
}

/// Tells the broker. If that fails the message comes again, to the same effect.
pub(crate) async fn settle(delivery: &Delivery, verdict: AckKind) {
    if let Err(error) = delivery.ack_with(verdict).await {
        tracing::debug!(%error, "not acknowledged; it will come again");
    }
}
