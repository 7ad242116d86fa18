//! `list`: sagas in flight, and what they wait for.

use std::process::ExitCode;
use std::time::Duration;

use super::causes::Causes;
use super::filters::Filters;
use super::select::{seconds, statuses, steps};
use super::target::Target;
use super::view::View;
use crate::command_line::CommandLine;
use crate::output::{Format, Output, tell};
use crate::{age, list};

/// Shown under `list --help`.
pub const EXAMPLES: &str = "Where neither a status, a time nor anything else that finds particular sagas is said, only those are listed that still wait for somebody.

Examples:
  {saga} list --stuck
  {saga} list --cause 'waiting for the product service'
  {saga} list --step {step} --older-than 10m
  {saga} list --status {status} --all -o jsonl | jq -r .cause
  {saga} list --created-from 2026-01-31T10:00:00Z --created-to 2026-01-31T11:00:00Z";

/// Which sagas.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub struct Args<C: CommandLine> {
    /// Only those that have waited too long.
    #[arg(long)]
    stuck: bool,
    /// Only those with this status, in flight or not.
    #[arg(long, value_parser = statuses::<C>())]
    status: Option<String>,
    /// Only those that wait for an answer to this step.
    #[arg(long, value_parser = steps::<C>())]
    step: Option<String>,
    /// Only those in flight that wait for this, as `causes` names it: the text, or a part of it in any case of letters.
    #[arg(long, value_name = "TEXT")]
    cause: Option<String>,
    /// Only those begun at least so long ago: 90s, 10m, 2h, 1d.
    #[arg(long, value_name = "AGE", value_parser = age::parse, allow_hyphen_values = true)]
    older_than: Option<Duration>,
    #[command(flatten)]
    span: list::Span,
    #[command(flatten)]
    filters: Filters<C>,
    #[command(flatten)]
    list: list::Args,
    #[command(flatten)]
    target: Target<C>,
}

impl<C: CommandLine> Args<C> {
    /// Runs the command.
    pub async fn run(self, out: Output) -> anyhow::Result<ExitCode> {
        let mut filters = self.filters.query;
        filters.extend(self.span.query());
        filters.extend(self.stuck.then(|| ("stuck", "true".to_owned())));
        filters.extend(self.status.map(|status| ("status", status)));
        filters.extend(self.step.map(|step| ("step", step)));
        filters.extend(self.cause.map(|cause| ("cause", cause)));
        filters.extend(self.older_than.map(|age| ("older_than", seconds(age))));
        let (service, page) = (self.target.service()?, self.stuck && !self.list.is_whole());
        let listed = self.list.run::<View<C>>(&service, out, "/sagas", filters).await?;
        // A page does not say of how many.
        if page
            && out.format == Format::Table
            && let Ok(causes) = Causes::<C>::of(&service).await
        {
            let Causes { stuck, in_flight, .. } = causes;
            tell(&format!(
                "{stuck} of {in_flight} in flight are stuck: `{} causes` counts them by what they wait for",
                C::COMMAND
            ));
        }
        Ok(listed)
    }
}
