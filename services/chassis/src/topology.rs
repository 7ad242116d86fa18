//! The topology: the streams and consumers as they should be, and the provisioner that makes and keeps them so.
//!
//! Only the provisioner has the right to change them; services bind to what is there.

pub mod accounts;
mod config;
mod drift;
mod info;
mod put;
mod watch;

use std::time::Duration;

use anyhow::ensure;
use async_nats::jetstream;
use envelope::Topology;
use tokio_util::sync::CancellationToken;

use crate::causes::causes;

pub use self::config::TopologySettings;
pub(crate) use self::drift::Drift;
pub(crate) use self::watch::watch;

/// How often a watching provisioner looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What `ensure` had to do, and what it left alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// What was made or put back.
    pub made: Vec<String>,
    /// Consumers that somebody paused: that is meant, and ended by hand.
    pub paused: Vec<String>,
}

/// Creates what is missing and puts back what differs; leaves everything else alone. Safe to run at any time, by several at once.
///
/// # Errors
/// Where the broker does not answer, or something cannot be put back; everything that can be has been by then.
pub async fn ensure(jetstream: &jetstream::Context, topology: &Topology, settings: &TopologySettings) -> anyhow::Result<Changes> {
    let put = put::all(jetstream, topology, settings, &mut put::Refused::default()).await?;
    ensure!(put.impossible.is_empty(), "{}", put.impossible.join("; "));
    Ok(Changes { made: put.changes, paused: put.paused })
}

/// Keeps the topology until shutdown: what vanishes or is changed is put back within seconds.
pub async fn keep(
    jetstream: &jetstream::Context,
    topology: &Topology,
    settings: &TopologySettings,
    shutdown: &CancellationToken,
) {
    let mut failing = false;
    let mut refused = put::Refused::default();
    while !shutdown.is_cancelled() {
        match put::all(jetstream, topology, settings, &mut refused).await {
            Ok(put) => {
                failing = false;
                for change in put.changes {
                    tracing::info!("{change}");
                }
                for what in put.impossible {
                    tracing::warn!("{what}");
                }
            }
            Err(error) if !failing => {
                failing = true;
                tracing::warn!(error = causes(&error), "the topology cannot be kept; trying again");
            }
            Err(_) => {}
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            () = shutdown.cancelled() => return,
        }
    }
}
