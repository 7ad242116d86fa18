//! Which sagas, where all of them are meant.

use std::marker::PhantomData;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use clap::builder::PossibleValuesParser;
use saga::Transcript;
use saga_runtime::Saga;
use saga_runtime::steps::step_names;
use uuid::Uuid;

use crate::age;
use crate::command_line::CommandLine;
use crate::usage::number;

/// A part of all sagas.
#[derive(Clone, Debug, clap::Args)]
pub struct Select<C: CommandLine> {
    /// Only those begun since: a moment (2026-01-02T03:04:05Z) or how long ago (24h).
    #[arg(long, value_name = "MOMENT", value_parser = age::moment, conflicts_with = "id")]
    since: Option<DateTime<Utc>>,
    /// Only those with this status.
    #[arg(long, value_parser = statuses::<C>(), conflicts_with = "id")]
    status: Option<String>,
    /// Only so many, from the oldest.
    #[arg(long, value_name = "N", conflicts_with = "id", value_parser = number::<u64, 0, { i64::MAX as u64 }>)]
    pub limit: Option<u64>,
    #[arg(skip)]
    line: PhantomData<C>,
}

impl<C: CommandLine> Default for Select<C> {
    fn default() -> Self {
        Self { since: None, status: None, limit: None, line: PhantomData }
    }
}

impl<C: CommandLine> Select<C> {
    /// As the service is asked for it.
    pub fn query(&self) -> Vec<(&'static str, String)> {
        let since = self.since.map(|since| ("since", since.to_rfc3339_opts(SecondsFormat::Micros, true)));
        let status = self.status.clone().map(|status| ("status", status));
        let limit = self.limit.map(|limit| ("limit", limit.to_string()));
        [since, status, limit].into_iter().flatten().collect()
    }

    /// Whether a saga is meant; the limit is whoever counts them's.
    pub fn wants(&self, transcript: &Transcript<C::Saga>) -> bool {
        let begun = transcript.entries.first().map(|entry| entry.time);
        let status = transcript.state().map(C::Saga::status);
        self.since.is_none_or(|since| begun.is_none_or(|begun| begun >= since))
            && self.status.as_deref().is_none_or(|wanted| status.is_none_or(|status| status == wanted))
    }
}

/// The id of a saga, as it is typed.
pub fn id(text: &str) -> Result<Uuid, String> {
    text.parse().map_err(|_| format!("`{}` is not a UUID", text.chars().take(60).collect::<String>()))
}

/// The statuses as a flag takes them.
pub fn statuses<C: CommandLine>() -> PossibleValuesParser {
    PossibleValuesParser::new(C::Saga::STATUSES.iter().map(|status| status.name))
}

/// The steps' persisted names as a flag takes them.
pub fn steps<C: CommandLine>() -> PossibleValuesParser {
    // The definition of the flags lives as long as the program.
    PossibleValuesParser::new(step_names::<C::Saga>().into_iter().map(|name| -> &'static str { name.leak() }))
}

/// Seconds, as the service reads them.
pub fn seconds(length: Duration) -> String {
    length.as_secs_f64().to_string()
}
