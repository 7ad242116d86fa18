//! `show`: one saga's story as a timeline.

use std::process::ExitCode;

use chrono::Utc;
use clap_complete::ArgValueCandidates;
use saga::{Entry, Exportable as _, Transcript};
use uuid::Uuid;

use super::live::Live;
use super::select::id;
use super::target::Target;
use super::timeline::Timeline;
use super::view::View;
use super::{offer, source};
use crate::client::Gateway;
use crate::command_line::CommandLine;
use crate::output::{Format, Output, plain, write_out};

/// Shown under `show --help`.
pub const EXAMPLES: &str =
    "One line an entry: its sequence, when it was decided, how long after the one before, what came, what was decided
and what was sent. `ask` is a command to do a step, `undo` one to undo it, `tell` an event for everyone.
-o json prints the whole saga, -o jsonl an entry a line.

Exit status: 0 shown, 1 no such {name} or not readable by this build, 2 wrong usage.

Examples:
  {saga} show ${id}
  {saga} show ${id} --follow
  {saga} show ${id} -o jsonl | jq -c .message";

/// Which one.
#[derive(Debug, clap::Args)]
pub struct Args<C: CommandLine> {
    #[arg(help = format!("The {}'s id", C::Saga::NAME), value_name = C::ID, value_parser = id, add = ArgValueCandidates::new(offer::newest::<C>))]
    id: Uuid,
    /// Stay, and show each entry as it comes, until the end.
    #[arg(long, short)]
    follow: bool,
    #[command(flatten)]
    target: Target<C>,
}

impl<C: CommandLine> Args<C> {
    /// Runs the command.
    pub async fn run(self, out: Output) -> anyhow::Result<ExitCode> {
        let service = self.target.service()?;
        let transcript = source::from_service::<C>(&service, self.id).await?;
        match out.format {
            Format::Json if !self.follow => out.document(&serde_json::from_str::<serde_json::Value>(&transcript.write()?)?)?,
            Format::Json | Format::Jsonl => {
                transcript.entries.iter().try_for_each(|entry| out.document(entry))?;
                if self.follow {
                    follow::<C>(&service, &transcript, |entry| Ok(out.document(entry)?)).await?;
                }
            }
            Format::Table => {
                let mut timeline = Timeline::<C>::new(transcript.plan.clone());
                write_out(&Timeline::<C>::head(&transcript))?;
                transcript.entries.iter().try_for_each(|entry| write_out(&timeline.line(entry)))?;
                if self.follow && !timeline.is_final() {
                    follow::<C>(&service, &transcript, |entry| Ok(write_out(&timeline.line(entry))?)).await?;
                }
                write_out(&format!("\n{}", timeline.end(Utc::now())))?;
                if !timeline.is_final() {
                    // What the service makes of it now, which no history says.
                    let view: View<C> = service.get(&format!("/sagas/{}", self.id)).await?;
                    if let Some(cause) = view.cause.filter(|_| view.stuck) {
                        write_out(&format!("STUCK: {}", plain(cause)))?;
                    }
                }
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Every entry after those already there, until the end.
async fn follow<C: CommandLine>(
    service: &Gateway,
    transcript: &Transcript<C::Saga>,
    mut each: impl FnMut(&Entry<C::Saga>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let last = transcript.entries.last().map_or(0, |entry| entry.sequence);
    let mut live = Live::<C>::new(service.clone(), transcript.plan.id(), last);
    if transcript.state().is_some_and(|state| super::view::is_final(state.phase())) {
        return Ok(());
    }
    while let Some(entry) = live.next().await? {
        each(&entry)?;
    }
    Ok(())
}
