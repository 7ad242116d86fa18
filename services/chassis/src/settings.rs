//! Settings every service shares. Each is a flag and an environment variable; `--help` is their reference.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;

/// The broker.
#[derive(Args, Clone, Debug)]
pub struct BrokerSettings {
    /// The nats-server, or several of one cluster separated by commas.
    #[arg(long, env = "NATS_URL", default_value = "nats://127.0.0.1:4222")]
    pub nats_url: Secret,

    /// Outbox rows that may await the broker's acknowledgement at once. More hides a slower broker behind more memory; where there is no
    /// room, the next batch waits.
    #[arg(long, env = "WAYBILL_PUBLISH_IN_FLIGHT", default_value_t = 64)]
    pub publish_in_flight: usize,

    /// Seconds after which an outbox row nobody published is taken up by the relay. Shorter finds a crashed publisher's rows
    /// sooner; too short repeats what is merely slow.
    #[arg(long, env = "WAYBILL_RELAY_AFTER", default_value = "5", value_parser = seconds)]
    pub relay_after: Duration,
}

/// The database.
#[derive(Args, Clone, Debug)]
pub struct DatabaseSettings {
    /// Connections for reads; batches have their own.
    #[arg(long, env = "WAYBILL_DATABASE_CONNECTIONS", default_value_t = 10)]
    pub database_connections: u32,

    /// Batches written at once, each on a connection of its own. Fewer makes larger batches, which cost less an order; more overlaps
    /// their waits for the disk.
    #[arg(long, env = "WAYBILL_WRITERS", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub writers: u32,

    /// Seconds a statement may run before the database ends it. A bound on how long a lock or a bad plan can hold up a batch.
    #[arg(long, env = "WAYBILL_STATEMENT_TIMEOUT", default_value = "10", value_parser = seconds)]
    pub statement_timeout: Duration,
}

/// The HTTP edge.
#[derive(Args, Clone, Debug)]
pub struct HttpSettings {
    /// Open HTTP connections; further ones wait in the listener's backlog.
    #[arg(long, env = "WAYBILL_HTTP_CONNECTIONS", default_value_t = 4096)]
    pub http_connections: usize,

    /// Seconds a client may take to send its request's head; ends slow and idle connections.
    #[arg(long, env = "WAYBILL_HTTP_HEADER_TIMEOUT", default_value = "10", value_parser = seconds)]
    pub http_header_timeout: Duration,

    /// Seconds a request may take in all; above the longest `Prefer: wait`.
    #[arg(long, env = "WAYBILL_HTTP_TIMEOUT", default_value = "35", value_parser = seconds)]
    pub http_timeout: Duration,
}

/// The batches.
#[derive(Args, Clone, Debug)]
pub struct BatchSettings {
    /// Requests or events in one transaction. Beyond some hundred the cost of each no longer falls, and locks are held longer.
    #[arg(long, env = "WAYBILL_BATCH_MAX", default_value_t = 256)]
    pub batch_max: usize,

    /// Requests that may wait for the next transaction; the ones beyond are answered 503 with Retry-After at once.
    #[arg(long, env = "WAYBILL_QUEUE_MAX", default_value_t = 2048)]
    pub queue_max: usize,
}

/// Text that never shows in a log: an address that may hold a password.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// The text itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl FromStr for Secret {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[not shown]")
    }
}

/// Reads a number of seconds, fractions allowed, above zero.
pub fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| format!("`{text}` is not a number of seconds"))?;
    match Duration::try_from_secs_f64(seconds) {
        Ok(duration) if !duration.is_zero() => Ok(duration),
        _ => Err(format!("`{text}` is not a number of seconds above zero")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_positive_and_may_be_fractions() {
        assert_eq!(seconds("0.25"), Ok(Duration::from_millis(250)));
        for wrong in ["0", "-1", "soon", "inf", "NaN"] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_secret_does_not_show() {
        let secret: Secret = "postgres://user:hunter2@host/db".parse().unwrap();
        assert!(!format!("{secret:?}").contains("hunter2"));
    }
}
