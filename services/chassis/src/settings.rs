//! Settings every service shares. Each is a flag and an environment variable; `--help` is their reference.

mod callers;

use std::ffi::OsStr;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use async_nats::ServerAddr;
use clap::Args;
use clap::builder::{RangedU64ValueParser, TypedValueParser};
use clap::error::ErrorKind;

use crate::address;
pub use crate::address::with_scheme;
use crate::client::Networks;
use crate::credentials::user_seed;
pub use crate::credentials::{certificates, user_creds};
use crate::origins::{Hosts, Origins};
pub use callers::CallerSettings;

/// The longest time a setting takes, in seconds: ten years. Beyond it are numbers that a clock, the database or the broker cannot add up.
pub(crate) const LONGEST: f64 = 315_360_000.0;

/// The shortest: what is measured in milliseconds would be none, which mostly means no limit.
const SHORTEST: f64 = 0.001;

/// The broker.
#[derive(Args, Clone, Debug)]
pub struct BrokerSettings {
    /// The nats-server, or several of one cluster separated by commas.
    #[arg(
        long,
        env = "NATS_URL",
        default_value = "nats://127.0.0.1:4222",
        hide_env_values = true,
        value_name = "URL",
        value_parser = hidden(nats_url)
    )]
    pub nats_url: Secret,

    /// The seed of the nkey by which the broker knows this program: from the environment, or from the file that NATS_NKEY_SEED_FILE names, as
    /// others can read a command line.
    #[arg(long, env = "NATS_NKEY_SEED", hide_env_values = true, value_name = "SEED", value_parser = hidden(nkey_seed))]
    pub nats_nkey_seed: Option<Secret>,

    /// A file with the JWT and the seed by which the broker knows this program, where its accounts are those of an operator (`nsc generate creds`).
    #[arg(long, env = "NATS_CREDS", value_name = "FILE", value_parser = user_creds, conflicts_with = "nats_nkey_seed")]
    pub nats_creds: Option<PathBuf>,

    /// A file with the certificate of the authority that signs the broker's. With it the connection is encrypted whatever the address says;
    /// without, `tls://` believes the authorities of the system.
    #[arg(long, env = "NATS_CA", value_name = "FILE", value_parser = certificates)]
    pub nats_ca: Option<PathBuf>,

    /// Outbox rows that may await the broker's acknowledgement at once. More hides a slower broker behind more memory; where there is no
    /// room, the next batch waits.
    #[arg(long, env = "WAYBILL_PUBLISH_IN_FLIGHT", default_value_t = 64, value_parser = one_to(65_536))]
    pub publish_in_flight: usize,

    /// Seconds after which an outbox row of another instance, which that one did not publish, is taken up by the relay. Shorter finds a
    /// crashed publisher's rows sooner; too short repeats what is merely slow.
    #[arg(long, env = "WAYBILL_RELAY_AFTER", default_value = "5", value_parser = seconds)]
    pub relay_after: Duration,
}

/// The outbox.
#[derive(Args, Clone, Debug)]
pub struct OutboxSettings {
    /// Times the broker may refuse a message before it goes to the dead letters; each wait is twice as long, up to a minute. An outage of
    /// the broker does not count; what can never be published (it is too large) goes there at once.
    #[arg(long, env = "WAYBILL_OUTBOX_ATTEMPTS", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    pub outbox_attempts: u32,

    /// Seconds after which a message goes to the dead letters whose subject no stream takes, while the broker answers and its stream of dead
    /// letters takes it. Streams that were lost are made again within seconds; a name that is wrong stays wrong.
    #[arg(long, env = "WAYBILL_OUTBOX_UNHEARD_AFTER", default_value = "900", value_parser = seconds)]
    pub outbox_unheard_after: Duration,

    /// Seconds a row of the outbox may wait to be published before the service is not ready. Longer than an outage of the broker that
    /// nobody needs to be woken for; rows that the broker refuses do not count.
    #[arg(long, env = "WAYBILL_OUTBOX_STALE_AFTER", default_value = "60", value_parser = seconds)]
    pub outbox_stale_after: Duration,
}

/// The database.
#[derive(Args, Clone, Debug)]
pub struct DatabaseSettings {
    /// Connections for reads; batches have their own.
    #[arg(long, env = "WAYBILL_DATABASE_CONNECTIONS", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub database_connections: u32,

    /// Batches written at once, each on a connection of its own. Fewer makes larger batches, which cost less an item; more overlaps
    /// their waits for the disk.
    #[arg(long, env = "WAYBILL_WRITERS", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub writers: u32,

    /// Seconds a statement may run before the database ends it. A bound on how long a lock or a bad plan can hold up a batch.
    #[arg(long, env = "WAYBILL_STATEMENT_TIMEOUT", default_value = "10", value_parser = within_a_day)]
    pub statement_timeout: Duration,

    /// Seconds a batch waits for a row that somebody else holds, before it goes on without what needs that row. Longer than another
    /// instance's batch takes, commit and all; what waits meanwhile is everybody.
    #[arg(long, env = "WAYBILL_LOCK_TIMEOUT", default_value = "0.3", value_parser = seconds)]
    pub lock_timeout: Duration,
}

impl DatabaseSettings {
    /// One for each batch that is written at a time, and one more, because the next one begins while the last is being committed.
    pub(crate) fn writing_connections(&self) -> u32 {
        self.writers + 1
    }
}

/// The HTTP edge.
#[derive(Args, Clone, Debug)]
pub struct HttpSettings {
    /// Names, separated by commas, by which this server may be asked for: `shop.example.com`, or `.example.com` for a whole domain; `*` is any
    /// name. Addresses, `localhost` and names without a dot always may; any other is answered 421, because a stranger's page could
    /// have its own name lead here.
    #[arg(long, env = "WAYBILL_HOSTS", default_value = "localhost", value_name = "NAMES")]
    pub hosts: Hosts,

    /// Origins, separated by commas, whose pages may read answers and change something from a browser: `https://shop.example.com`. `none`:
    /// only pages that this server is itself the origin of.
    #[arg(long, env = "WAYBILL_CORS_ORIGINS", default_value = "none", value_name = "ORIGINS")]
    pub cors_origins: Origins,

    #[allow(missing_docs)]
    #[command(flatten)]
    pub callers: CallerSettings,

    /// Open HTTP connections. Beyond them only health and metrics are served; all else is answered 503 with Retry-After.
    #[arg(long, env = "WAYBILL_HTTP_CONNECTIONS", default_value_t = 4096, value_parser = one_to(1_000_000))]
    pub http_connections: usize,

    /// Percent that one client may have of what the others leave: of connections, live streams, the memory of large bodies, queues, and at
    /// the gateway of each service's places. A client is an address, or a /64 network of IPv6. With less than 100 nobody shuts out all others.
    #[arg(long, env = "WAYBILL_HTTP_CLIENT_SHARE", default_value_t = 75, value_parser = clap::value_parser!(u8).range(1..=100))]
    pub http_client_share: u8,

    /// Open HTTP connections of one client, as a number in place of its share. Fewer where strangers connect directly; not fewer than a
    /// gateway in front of the service needs.
    #[arg(long, env = "WAYBILL_HTTP_CONNECTIONS_PER_CLIENT", value_parser = one_to(1_000_000))]
    pub http_connections_per_client: Option<usize>,

    /// Networks, separated by commas, whose `X-Forwarded-For` is believed: gateways and load balancers. Those whom a proxy names share the
    /// share of the proxy, so to invent addresses gains nothing beyond it. `none` believes nobody.
    #[arg(long, env = "WAYBILL_HTTP_TRUSTED_PROXIES", default_value = "127.0.0.0/8,::1", value_name = "NETWORKS")]
    pub http_trusted_proxies: Networks,

    /// Answers of unknown length, live events above all, that may be under way at once; the ones beyond get 503 with Retry-After. A
    /// quarter of the connections, so that streams, which last, leave room for requests, which do not. Beyond 4,096 the service takes its
    /// memory in small pages: a stream takes less of it, an order some percent more CPU.
    #[arg(long, env = "WAYBILL_HTTP_STREAMS", default_value_t = 1024, value_parser = one_to(1_000_000))]
    pub http_streams: usize,

    /// Seconds a client may take to send its request's head; ends slow and idle connections.
    #[arg(long, env = "WAYBILL_HTTP_HEADER_TIMEOUT", default_value = "10", value_parser = seconds)]
    pub http_header_timeout: Duration,

    /// Seconds a client may take to send its request's body, then 408. Enough for the largest one over a bad line.
    #[arg(long, env = "WAYBILL_HTTP_BODY_TIMEOUT", default_value = "20", value_parser = seconds)]
    pub http_body_timeout: Duration,

    /// Bytes a second in which a body must arrive, or 408. At no time may it be more than 5 seconds behind, however fast it came before. Ends
    /// a body that only pretends to come.
    #[arg(long, env = "WAYBILL_HTTP_BODY_PACE", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..))]
    pub http_body_pace: u32,

    /// MiB that all bodies under way may take, what each has beyond 16 KiB; 503 for the ones that find no room. An ordinary request is smaller.
    #[arg(long, env = "WAYBILL_HTTP_BODY_MEMORY", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=65536))]
    pub http_body_memory: u32,

    /// Seconds a client may let an answer wait without reading any of it; then its connection is closed.
    #[arg(long, env = "WAYBILL_HTTP_WRITE_TIMEOUT", default_value = "10", value_parser = seconds)]
    pub http_write_timeout: Duration,

    /// Seconds a request may take once it is there; above the longest `Prefer: wait`.
    #[arg(long, env = "WAYBILL_HTTP_TIMEOUT", default_value = "35", value_parser = seconds)]
    pub http_timeout: Duration,
}

/// The batches.
#[derive(Args, Clone, Debug)]
pub struct BatchSettings {
    /// Requests or events in one transaction. Beyond some hundred the cost of each no longer falls, and locks are held longer.
    #[arg(long, env = "WAYBILL_BATCH_MAX", default_value_t = 256, value_parser = one_to(4_096))]
    pub batch_max: usize,

    /// Requests that may wait for the next transaction; the ones beyond are answered 503 with Retry-After at once.
    #[arg(long, env = "WAYBILL_QUEUE_MAX", default_value_t = 2048, value_parser = one_to(1_000_000))]
    pub queue_max: usize,

    /// Seconds after which what needs a row that somebody else holds is tried again; each further wait is twice as long, up to ten times
    /// this. Shorter carries it on sooner once the row is free; each try is one more look at that row.
    #[arg(long, env = "WAYBILL_BUSY_RETRY", default_value = "0.1", value_parser = seconds)]
    pub busy_retry: Duration,

    /// Seconds a request waits for a row that somebody else holds before it is answered 503. Less than a client's own patience.
    #[arg(long, env = "WAYBILL_BUSY_TIMEOUT", default_value = "5", value_parser = seconds)]
    pub busy_timeout: Duration,

    /// Events set aside because somebody else holds a row they need. The ones beyond are left to their sagas, which ask again by
    /// themselves, only later. Bounds memory: some hundred bytes each.
    #[arg(long, env = "WAYBILL_ASIDE_MAX", default_value_t = 8192, value_parser = one_to(1_000_000))]
    pub aside_max: usize,

    /// Dead letters stored a second, of each consumer and each reason; for a moment five times as many. What is beyond is counted and let go,
    /// so that a flood of bad messages neither fills the broker's disk nor drives out what was stored before.
    #[arg(long, env = "WAYBILL_DEAD_LETTERS_PER_SECOND", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub dead_letters_per_second: u32,

    /// Messages that may wait to be read before `/readyz` notes it: more than queue up in ordinary operation, where each holds a batch. How
    /// many there are is always in the metric `waybill_consumer_pending`.
    #[arg(long, env = "WAYBILL_BACKLOG_NOTED", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    pub backlog_noted: u64,
}

#[cfg(test)]
impl HttpSettings {
    /// The settings that these flags make, for tests.
    pub(crate) fn of_flags(flags: &[&str]) -> Self {
        #[derive(clap::Parser)]
        struct Command {
            #[command(flatten)]
            http: HttpSettings,
        }
        <Command as clap::Parser>::parse_from([&["test"], flags].concat()).http
    }
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

/// Reads a number of seconds, fractions allowed: a thousandth to ten years.
pub fn seconds(text: &str) -> Result<Duration, String> {
    seconds_from(text, SHORTEST, LONGEST)
}

/// The same, at most a day: for what the database counts in milliseconds.
fn within_a_day(text: &str) -> Result<Duration, String> {
    seconds_from(text, SHORTEST, 86_400.0)
}

/// The same, between these two.
pub fn seconds_from(text: &str, least: f64, most: f64) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| format!("`{text}` is not a number of seconds"))?;
    match Duration::try_from_secs_f64(seconds) {
        Ok(duration) if (least..=most).contains(&seconds) => Ok(duration),
        _ => Err(format!("`{text}` is not a number of seconds from {least} to {most}")),
    }
}

/// Reads a whole number from 1 to this. What is bounded by memory, sockets or the database has a bound here too: none is more than a machine
/// can have.
pub fn one_to(most: u64) -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1..=most)
}

/// Reads the address of a broker, or of several separated by commas; `nats://` may be left out.
pub fn nats_url(text: &str) -> Result<Secret, String> {
    let well_formed = |server: &str| server.trim().parse().is_ok_and(|server: ServerAddr| !server.host().is_empty());
    let all = text.split(',').all(well_formed);
    if all { Ok(Secret(text.to_owned())) } else { Err("is not of the form nats://user:password@host:port".to_owned()) }
}

/// Reads the seed of a user's nkey.
pub fn nkey_seed(text: &str) -> Result<Secret, String> {
    user_seed(text).map(Secret)
}

/// Reads the address of a database; `postgres://` may be left out.
pub fn database_url(text: &str) -> Result<Secret, String> {
    let text = with_scheme(text, "postgres");
    address::read(&text).map_err(|error| error.to_string())?;
    Ok(Secret(text))
}

/// Reads a value as the function does, and never shows it: an address may hold a password. The function says what is wrong without the value.
pub fn hidden<T: Clone + Send + Sync + 'static>(
    read: fn(&str) -> Result<T, String>,
) -> impl TypedValueParser<Value = T> + 'static {
    Hidden(read)
}

#[derive(Clone)]
struct Hidden<T>(fn(&str) -> Result<T, String>);

impl<T: Clone + Send + Sync + 'static> TypedValueParser for Hidden<T> {
    type Value = T;

    fn parse_ref(&self, command: &clap::Command, argument: Option<&clap::Arg>, value: &OsStr) -> Result<T, clap::Error> {
        let read = value.to_str().ok_or_else(|| "is not UTF-8".to_owned()).and_then(self.0);
        read.map_err(|why| {
            let name = argument.map_or_else(|| "the value".to_owned(), |argument| format!("the value of `{argument}`"));
            let variable =
                argument.and_then(clap::Arg::get_env).map(|name| format!(" (or {})", name.display())).unwrap_or_default();
            clap::Error::raw(ErrorKind::ValueValidation, format!("{name}{variable} {why}\n")).with_cmd(command)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_positive_and_may_be_fractions() {
        assert_eq!(seconds("0.25"), Ok(Duration::from_millis(250)));
        for wrong in ["0", "-1", "soon", "inf", "NaN", "1e-9", "1e300", "18446744073709551615"] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_secret_does_not_show() {
        let secret: Secret = "postgres://user:hunter2@host/db".parse().unwrap();
        assert!(!format!("{secret:?}").contains("hunter2"));
    }

    #[test]
    fn addresses_need_no_scheme_and_show_in_no_error() {
        for right in ["nats://a:4222", "a:4222", "u:p@a, tls://b:4222", "[::1]:4222"] {
            assert!(nats_url(right).is_ok(), "{right}");
        }
        for right in ["postgres://u:p@h:5/d", "u:p@h:5/d", "postgres://u@localhost/d?host=/tmp/socket&port=5"] {
            assert!(database_url(right).is_ok(), "{right}");
        }
        for wrong in ["http://u:hunter2@h", "u:hunter2@h:x", "", "nats://"] {
            assert!(!nats_url(wrong).unwrap_err().contains("hunter2"), "{wrong}");
        }
        for wrong in ["http://u:hunter2@h", "u:hunter2@h:x/d", "postgres://u:p@h/d?passwrod=hunter2"] {
            assert!(!database_url(wrong).unwrap_err().contains("hunter2"), "{wrong}");
        }
        let command = BrokerSettings::augment_args(clap::Command::new("x"));
        let error = command.try_get_matches_from(["x", "--nats-url", "http://u:hunter2@h"]).unwrap_err().to_string();
        assert!(error.contains("--nats-url") && error.contains("NATS_URL") && !error.contains("hunter2"), "{error}");
    }
}
