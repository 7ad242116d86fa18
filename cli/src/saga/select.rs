//! Which sagas, where all of them are meant.

use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use events::order::Status;
use order::saga::Order;
use saga::Transcript;

use crate::age;
use crate::usage::number;

/// A part of all sagas.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Select {
    /// Only orders placed since: a moment (2026-01-02T03:04:05Z) or how long ago (24h).
    #[arg(long, value_name = "MOMENT", value_parser = age::moment, conflicts_with = "order")]
    since: Option<DateTime<Utc>>,
    /// Only orders with this status.
    #[arg(long, value_parser = statuses(), conflicts_with = "order")]
    status: Option<Status>,
    /// Only so many, from the oldest.
    #[arg(long, value_name = "N", conflicts_with = "order", value_parser = number::<u64, 0, { i64::MAX as u64 }>)]
    pub limit: Option<u64>,
}

impl Select {
    /// As the order service is asked for it.
    pub fn query(&self) -> Vec<(&'static str, String)> {
        let since = self.since.map(|since| ("since", since.to_rfc3339_opts(SecondsFormat::Micros, true)));
        let status = self.status.map(|status| ("status", status.as_str().to_owned()));
        let limit = self.limit.map(|limit| ("limit", limit.to_string()));
        [since, status, limit].into_iter().flatten().collect()
    }

    /// Whether a saga is meant; the limit is whoever counts them's.
    pub fn wants(&self, waybill: &Transcript<Order>) -> bool {
        let placed = waybill.entries.first().map(|entry| entry.time);
        let status = waybill.state().map(Order::status);
        self.since.is_none_or(|since| placed.is_none_or(|placed| placed >= since))
            && self.status.is_none_or(|wanted| status.is_none_or(|status| status == wanted))
    }
}

/// An order's statuses as a flag takes them.
pub fn statuses() -> impl TypedValueParser<Value = Status> {
    PossibleValuesParser::new(Status::ALL.map(Status::as_str)).try_map(|text| text.parse::<Status>())
}

/// The steps' persisted names as a flag takes them.
pub fn steps() -> PossibleValuesParser {
    PossibleValuesParser::new(["validate_user", "reserve_stock"])
}

/// Seconds, as the order service reads them.
pub fn seconds(length: Duration) -> String {
    length.as_secs_f64().to_string()
}
