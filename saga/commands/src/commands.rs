//! The operators' commands of a saga: read any story, replay it, and put right what does not come through by itself.

mod act;
mod act_many;
mod actions;
pub mod causes;
mod chunks;
mod export;
mod filters;
mod from_nats;
#[cfg(test)]
mod fuzz;
mod gate;
mod list;
pub mod live;
pub mod many;
mod offer;
pub mod phrases;
pub mod preview;
mod replay;
mod select;
mod show;
pub mod source;
mod summary;
mod tail;
mod target;
mod timeline;
mod upgrade;
mod view;

use std::process::ExitCode;

use clap::Subcommand;
use saga::Action;

pub use self::actions::Taken;
pub use self::from_nats::Fold;
pub use self::target::Target;
pub use self::timeline::Timeline;
pub use self::view::View;
use crate::command_line::{CommandLine, help};
use crate::output::Output;

/// What can be done with the sagas of one kind.
#[derive(Debug, Subcommand)]
pub enum Command<C: CommandLine> {
    /// List sagas in flight, and what they wait for.
    #[command(after_help = help::<C>(list::EXAMPLES))]
    List(list::Args<C>),
    /// Count sagas in flight by what they wait for.
    #[command(after_help = help::<C>(causes::EXAMPLES))]
    Causes(causes::Args<C>),
    /// Show a saga's story as a timeline.
    #[command(after_help = help::<C>(show::EXAMPLES))]
    Show(show::Args<C>),
    /// Decide a history again with this build, one saga's or everyone's. Nothing is sent.
    #[command(after_help = help::<C>(replay::EXAMPLES))]
    Replay(replay::Args<C>),
    /// Write sagas with their histories, a JSON line each.
    #[command(after_help = help::<C>(export::EXAMPLES))]
    Export(export::Args<C>),
    /// Tell whether this build continues every saga in flight.
    #[command(after_help = help::<C>(upgrade::EXAMPLES))]
    UpgradeCheck(upgrade::Args<C>),
    /// Follow the events of sagas live, a line each, until interrupted.
    #[command(after_help = help::<C>(tail::EXAMPLES))]
    Tail(tail::Args<C>),
    /// List what operators did, and what came of it.
    #[command(after_help = help::<C>(actions::EXAMPLES))]
    Actions(actions::Args<C>),
    /// Ask every unanswered command again, now.
    #[command(after_help = help::<C>(act::RETRY))]
    Retry(act::Args<C>),
    /// Cancel a saga in the name of whoever began it.
    #[command(after_help = help::<C>(act::CANCEL))]
    Cancel(act::Args<C>),
    /// Undo what was done so far: as if a participant had refused.
    #[command(after_help = help::<C>(act::COMPENSATE))]
    Compensate(act::Args<C>),
    /// Give up one compensation that can never succeed.
    #[command(after_help = help::<C>(act::SKIP))]
    Skip(act::SkipArgs<C>),
}

impl<C: CommandLine> Command<C> {
    /// Runs the command.
    pub async fn run(self, out: Output) -> anyhow::Result<ExitCode> {
        match self {
            Self::List(args) => args.run(out).await,
            Self::Causes(args) => args.run(out).await,
            Self::Show(args) => args.run(out).await,
            Self::Replay(args) => args.run(out).await,
            Self::Export(args) => args.run().await,
            Self::UpgradeCheck(args) => args.run(out).await,
            Self::Tail(args) => args.run(out).await,
            Self::Actions(args) => args.run(out).await,
            Self::Retry(args) => args.run("retry", Action::Retry, out).await,
            Self::Cancel(args) => args.run("cancel", Action::Cancel, out).await,
            Self::Compensate(args) => args.run("compensate", Action::Compensate, out).await,
            Self::Skip(args) => args.run(out).await,
        }
    }
}

/// Examples of these commands, for the help of the noun they stand under.
pub fn examples<C: CommandLine>() -> String {
    help::<C>(
        "Examples:
  {saga} list --stuck
  {saga} show ${id}
  {saga} replay ${id}
  {saga} retry ${id} --reason \"it is back\"

These commands ask the {service} itself: nobody else serves operators.",
    )
}
