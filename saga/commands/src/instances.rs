//! Which instances of which services there are, asked of the broker: each instance that is connected to it answers.

use std::time::Duration;

use async_nats::Client;
use chassis::discovery::{self, Instance};
use futures_util::StreamExt as _;

/// Who has not answered after this time is not there.
pub const WITHIN: Duration = Duration::from_secs(2);

/// Nobody new for so long: those are all.
const QUIET: Duration = Duration::from_millis(400);

/// Whoever answers.
///
/// # Errors
/// Where the broker cannot be asked.
pub async fn found(client: &Client) -> anyhow::Result<Vec<Instance>> {
    let inbox = client.new_inbox();
    let mut answers = client.subscribe(inbox.clone()).await?;
    client.publish_with_reply(discovery::ping(None), inbox, "".into()).await?;
    let end = tokio::time::Instant::now() + WITHIN;
    let mut found: Vec<Instance> = Vec::new();
    loop {
        let wait = if found.is_empty() { WITHIN } else { QUIET };
        let until = end.min(tokio::time::Instant::now() + wait);
        match tokio::time::timeout_at(until, answers.next()).await {
            Ok(Some(answer)) => found.extend(Instance::read(&answer.payload)),
            Ok(None) | Err(_) => return Ok(found),
        }
        if tokio::time::Instant::now() >= end {
            return Ok(found);
        }
    }
}
