//! What one caller may ask for. Nothing is limited unless it is set: who asks from the machine itself, a load test say, is one caller too.

use clap::Args;
use clap::value_parser;

/// Limits of one caller: a subject, where callers say who they are, else an address.
#[derive(Args, Clone, Copy, Debug)]
pub struct CallerSettings {
    /// Requests a second of one caller, then 429 with Retry-After. Not set: no limit, because rooms are shared fairly anyway, and a gateway, a
    /// load test or `waybill bench` is one address. Health and metrics do not count.
    #[arg(long, env = "WAYBILL_RATE_PER_SECOND", value_parser = value_parser!(u32).range(1..=1_000_000))]
    pub rate_per_second: Option<u32>,

    /// Requests of one caller that may come at once before that rate counts. Not set: as many as in a second.
    #[arg(long, env = "WAYBILL_RATE_BURST", value_parser = value_parser!(u32).range(1..=1_000_000))]
    pub rate_burst: Option<u32>,

    /// Live streams of one caller, then 429. Not set: the share that an address has of all.
    #[arg(long, env = "WAYBILL_STREAMS_PER_SUBJECT", value_parser = value_parser!(u32).range(1..=1_000_000))]
    pub streams_per_subject: Option<u32>,
}
