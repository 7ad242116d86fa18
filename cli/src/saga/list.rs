//! `waybill saga list`: sagas in flight, and what they wait for.

use std::process::ExitCode;
use std::time::Duration;

use clap_complete::ArgValueCandidates;
use events::UserId;
use events::order::Status;

use super::place::Place;
use super::select::{seconds, statuses, steps};
use super::view::View;
use crate::output::Output;
use crate::{age, complete, list};

/// Shown under `waybill saga list --help`.
pub const EXAMPLES: &str = "Without --status only sagas that still wait for somebody are listed.

Examples:
  waybill saga list --stuck
  waybill saga list --step reserve_stock --older-than 10m
  waybill saga list --status cancelling --all -o jsonl | jq -r .cause
  waybill saga list --user $ADA --status rejected";

/// Which sagas.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub struct Args {
    /// Only those that have waited too long.
    #[arg(long)]
    stuck: bool,
    /// Only orders with this status, in flight or not.
    #[arg(long, value_parser = statuses())]
    status: Option<Status>,
    /// Only those that wait for an answer to this step.
    #[arg(long, value_parser = steps())]
    step: Option<String>,
    /// Only those placed at least so long ago: 90s, 10m, 2h, 1d.
    #[arg(long, value_name = "AGE", value_parser = age::parse, allow_hyphen_values = true)]
    older_than: Option<Duration>,
    /// Only this user's.
    #[arg(long, value_name = "USER", add = ArgValueCandidates::new(complete::users))]
    user: Option<UserId>,
    #[command(flatten)]
    list: list::Args,
    #[command(flatten)]
    place: Place,
}

impl Args {
    /// Runs the command.
    pub async fn run(self, out: Output) -> anyhow::Result<ExitCode> {
        let mut filters = vec![];
        filters.extend(self.stuck.then(|| ("stuck", "true".to_owned())));
        filters.extend(self.status.map(|status| ("status", status.as_str().to_owned())));
        filters.extend(self.step.map(|step| ("step", step)));
        filters.extend(self.older_than.map(|age| ("older_than", seconds(age))));
        filters.extend(self.user.map(|user| ("user_id", user.to_string())));
        self.list.run::<View>(&self.place.service()?, out, "/sagas", filters).await
    }
}
