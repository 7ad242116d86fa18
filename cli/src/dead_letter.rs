//! `waybill dead-letter`: what could not be handled, and what to do about it.

mod act;
mod complete;
#[cfg(test)]
mod fuzz;
mod select;

use std::process::ExitCode;

use anyhow::Context as _;
use chassis::broker::Broker;
use clap::Subcommand;
use clap_complete::ArgValueCandidates;
use events::dead_letter::DEAD_LETTERS;
use saga_commands::dead_letter::{self, Action, Letter};
use saga_commands::output::{Format, Output, Tabular as _, table, tell, write_out};
use saga_commands::record::{Deed, Recorded};
use saga_commands::usage::number;
use saga_commands::{broker, confirm};

use self::select::{Filter, Which};
use crate::saga;

/// Shown under `waybill dead-letter --help`.
pub const EXAMPLES: &str = "A message that no service could handle is kept as it was, with why, where and how often it was tried.

Examples:
  waybill dead-letter list --older-than 1h
  waybill dead-letter show 17
  waybill dead-letter redrive 17 --yes";

/// What can be done with dead letters.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List dead letters, the oldest first.
    #[command(after_help = "Examples:
  waybill dead-letter list
  waybill dead-letter list --stream PRODUCT_REPLIES --reason \"not known here\"
  waybill dead-letter list --limit 1000 -o jsonl | jq -r .order_id")]
    List {
        #[command(flatten)]
        filter: Filter,
        /// At most so many.
        #[arg(long, value_name = "N", default_value = "100", value_parser = number::<usize, 1, { u64::MAX }>)]
        limit: usize,
        #[command(flatten)]
        target: broker::Target,
    },
    /// Show one dead letter: where it came from, why, and what it says.
    #[command(after_help = "Examples:
  waybill dead-letter show 17
  waybill dead-letter show 17 -o json | jq .payload")]
    Show {
        /// Its sequence.
        #[arg(value_parser = number::<u64, 1, { u64::MAX }>, add = ArgValueCandidates::new(complete::dead_letters))]
        sequence: u64,
        #[command(flatten)]
        target: broker::Target,
    },
    /// Send dead letters back to where they came from, once their cause is gone.
    #[command(
        after_help = "Redriving cannot double an effect: one reservation row per order decides every reserve and release, and a saga ignores an answer
it has had. A letter is deleted only after the broker has stored its message again. A message that fails again comes back as a
dead letter, with its deliveries added up and the number of its redrives. Who did it, when, why and what came of it is kept at the order
service (`saga actions`); where that cannot be written down nothing is done.

Exit status: 0 all were sent back, 1 some were not (each is named) or not confirmed; 2 wrong usage, or nobody to ask.

Examples:
  waybill dead-letter redrive 17 18 --why \"the product service knows them now\"
  waybill dead-letter redrive --all --stream PRODUCT_REPLIES --reason \"not known here\"
  waybill dead-letter redrive --all --older-than 1h --limit 100 --yes"
    )]
    Redrive(Act),
    /// Delete dead letters for good.
    #[command(
        after_help = "The saga that was waiting for the message is not told: its own timer asks again, or `saga compensate` ends it.

Exit status: 0 all were deleted, 1 some were not (each is named) or not confirmed; 2 wrong usage, or nobody to ask.

Examples:
  waybill dead-letter drop 17
  waybill dead-letter drop --all --reason \"not a batch\" --older-than 7d --yes"
    )]
    Drop(Act),
}

/// Which letters, and whether to ask.
#[derive(Debug, clap::Args)]
pub struct Act {
    #[command(flatten)]
    which: Which,
    /// Why; kept with what is done.
    #[arg(long, value_name = "TEXT")]
    why: Option<String>,
    #[command(flatten)]
    by: confirm::By,
    #[command(flatten)]
    confirm: confirm::Args,
    #[command(flatten)]
    target: broker::Target,
    #[command(flatten)]
    service: saga::Target,
}

impl Command {
    /// Runs the command.
    pub async fn run(self, out: Output) -> anyhow::Result<ExitCode> {
        match self {
            Self::List { filter, limit, target } => list(&target.connect().await?, &filter, limit, out).await,
            Self::Show { sequence, target } => show(&target.connect().await?, sequence, out).await,
            Self::Redrive(args) => args.run(Action::Redrive, out).await,
            Self::Drop(args) => args.run(Action::Drop, out).await,
        }
    }
}

impl Act {
    async fn run(self, action: Action, out: Output) -> anyhow::Result<ExitCode> {
        self.confirm.check()?;
        self.why.as_ref().map_or(Ok(()), |why| confirm::why("--why", why))?;
        let service = self.service.service()?;
        let by = self.by.name(service.subject())?;
        let broker = self.target.connect().await?;
        let stream = broker::stream(&broker, DEAD_LETTERS).await?;
        let chosen = self.which.choose(&stream).await?;
        if chosen.sequences.is_empty() {
            tell("There is no such dead letter.");
            return Ok(ExitCode::SUCCESS);
        }
        tell(&chosen.text());
        if !self.confirm.ask(&format!(
            "{} {} dead letters?",
            if action == Action::Drop { "Delete for good" } else { "Redrive" },
            chosen.sequences.len()
        ))? {
            return Ok(ExitCode::FAILURE);
        }
        let deed = Deed { by, action: action.word(), about: chosen.words(), saga: chosen.saga, reason: self.why };
        let recorded = Recorded::begin(&service, deed).await;
        let recorded = recorded.context("nothing was done: it cannot be written down who does it, and why")?;
        let (report, failed) = act::run(&broker, &stream, &action, chosen).await;
        recorded.end_or_tell(&report.words(&action, failed.as_ref())).await;
        match failed {
            None => report.tell(&action, out),
            Some(error) => Err(error),
        }
    }
}

async fn list(broker: &Broker, filter: &Filter, limit: usize, out: Output) -> anyhow::Result<ExitCode> {
    let stream = broker::stream(broker, DEAD_LETTERS).await?;
    let mut letters = filter.read(&stream).await?;
    let mut shown = Vec::new();
    let mut more = false;
    while let Some(letter) = letters.next().await? {
        more = shown.len() == limit;
        if more {
            break;
        }
        if out.format == Format::Jsonl {
            out.document(&letter)?;
        }
        shown.push(letter.without_payload());
    }
    match out.format {
        Format::Table => write_out(&table(Letter::HEADER, shown.iter().map(Letter::row)))?,
        Format::Json => out.document(&serde_json::json!({ "items": shown }))?,
        Format::Jsonl => {}
    }
    if more {
        tell(&format!("There are more than these {limit}: raise --limit."));
    }
    Ok(ExitCode::SUCCESS)
}

async fn show(broker: &Broker, sequence: u64, out: Output) -> anyhow::Result<ExitCode> {
    let stream = broker::stream(broker, DEAD_LETTERS).await?;
    let Some(letter) = dead_letter::get(&stream, sequence).await? else {
        anyhow::bail!("there is no dead letter {sequence}; `waybill dead-letter list` shows those that are there");
    };
    match out.format {
        Format::Table => {
            out.one(&letter)?;
            write_out(&format!("\n{}", letter.pretty()))?;
        }
        Format::Json | Format::Jsonl => out.document(&letter.whole())?,
    }
    Ok(ExitCode::SUCCESS)
}
