//! `waybill saga`: any order's story, read, replayed and, where it is stuck, put right.

mod act;
mod chunks;
mod export;
mod follow;
#[cfg(test)]
mod fuzz;
mod gate;
mod jetstream;
mod list;
mod place;
mod replay;
mod select;
mod show;
mod source;
mod summary;
#[cfg(test)]
mod testing;
mod timeline;
mod upgrade;
mod view;
mod words;

use std::process::ExitCode;

use clap::Subcommand;
use saga::Action;

pub use self::place::Place;
pub use self::view::View;
use crate::output::Output;

/// Shown under `waybill saga --help`.
pub const EXAMPLES: &str = "Examples:
  waybill saga list --stuck
  waybill saga show $ORDER
  waybill saga replay $ORDER
  waybill saga retry $ORDER --reason \"the product service is back\"

These commands ask the order service itself: the gateway does not serve operators.";

/// What can be done with sagas.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List sagas in flight, and what they wait for.
    #[command(after_help = list::EXAMPLES)]
    List(list::Args),
    /// Show an order's story as a timeline.
    #[command(after_help = show::EXAMPLES)]
    Show(show::Args),
    /// Decide a history again with this build, one order's or everyone's. Nothing is sent.
    #[command(after_help = replay::EXAMPLES)]
    Replay(replay::Args),
    /// Write sagas with their histories, a JSON line each.
    #[command(after_help = export::EXAMPLES)]
    Export(export::Args),
    /// Tell whether this build continues every saga in flight.
    #[command(after_help = upgrade::EXAMPLES)]
    UpgradeCheck(upgrade::Args),
    /// Ask every unanswered command again, now.
    #[command(after_help = act::RETRY)]
    Retry(act::Args),
    /// Cancel an order in its customer's name.
    #[command(after_help = act::CANCEL)]
    Cancel(act::Args),
    /// Undo what was done so far; the order is rejected.
    #[command(after_help = act::COMPENSATE)]
    Compensate(act::Args),
    /// Give up one compensation that can never succeed; `waybill product release` gives back what its step holds.
    #[command(after_help = act::SKIP)]
    Skip(act::SkipArgs),
}

impl Command {
    /// Runs the command.
    pub async fn run(self, out: Output) -> anyhow::Result<ExitCode> {
        match self {
            Self::List(args) => args.run(out).await,
            Self::Show(args) => args.run(out).await,
            Self::Replay(args) => args.run(out).await,
            Self::Export(args) => args.run().await,
            Self::UpgradeCheck(args) => args.run(out).await,
            Self::Retry(args) => args.run("retry", Action::Retry, out).await,
            Self::Cancel(args) => args.run("cancel", Action::Cancel, out).await,
            Self::Compensate(args) => args.run("compensate", Action::Compensate, out).await,
            Self::Skip(args) => args.run(out).await,
        }
    }
}
