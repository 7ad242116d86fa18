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

use chassis::settings::hidden;
use clap::Subcommand;
use reqwest::Url;

pub use self::view::View;
use crate::client::Gateway;
use crate::output::Output;
use crate::system::{ORDER, http_url, or_usual};

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

/// Where the order service is.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub struct Place {
    /// Where the order service listens [default: what `waybill up` started here, else http://127.0.0.1:8083].
    #[arg(long, env = "WAYBILL_ORDER_URL", hide_env_values = true, value_name = "URL", value_parser = hidden(http_url))]
    order_url: Option<Url>,
}

impl Place {
    pub(crate) fn service(&self) -> anyhow::Result<Gateway> {
        Ok(Gateway::new(&self.url()?)?)
    }

    fn url(&self) -> anyhow::Result<Url> {
        or_usual(&self.order_url, ORDER, "http://127.0.0.1:8083")
    }
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
            Self::Retry(args) => args.run(act::Hand::Retry, out).await,
            Self::Cancel(args) => args.run(act::Hand::Cancel, out).await,
            Self::Compensate(args) => args.run(act::Hand::Compensate, out).await,
            Self::Skip(args) => args.run(out).await,
        }
    }
}
