//! An operator's actions: `waybill saga retry|cancel|compensate|skip`. The service decides; what is shown before is what this build would
//! decide, from the saga's own history.

use std::process::ExitCode;

use anyhow::bail;
use clap_complete::ArgValueCandidates;
use events::OrderId;
use order::saga::{Order, Step};
use saga::{Action, Decision, Input, State, Transcript, Verdict, decide};

use super::place::Place;
use super::select::steps;
use super::view::View;
use super::{source, words};
use crate::output::{Output, Tabular as _, pairs, tell};
use crate::system::announce;
use crate::usage::Usage;
use crate::{complete, confirm};

/// Shown under `waybill saga retry --help`.
pub const RETRY: &str = "Resends every unanswered command now, instead of when its timer is up. Participants answer a repeated command as they answered the
first, so a retry can do nothing twice.

Exit status: 0 done, 1 refused by the service (it says why) or failed, or not confirmed; 2 wrong usage, or nobody to ask.

Examples:
  waybill saga retry $ORDER --reason \"the product service is back\"
  waybill saga retry $ORDER --reason \"INC-4711\" --by night-shift --yes";

/// Shown under `waybill saga cancel --help`.
pub const CANCEL: &str =
    "Cancels in the customer's name: what was done is undone, and the order ends as cancelled. Also for a confirmed order.

Exit status: 0 done, 1 refused by the service (it says why) or failed, or not confirmed; 2 wrong usage, or nobody to ask.

Examples:
  waybill saga cancel $ORDER --reason \"the customer called\"";

/// Shown under `waybill saga compensate --help`.
pub const COMPENSATE: &str =
    "Undoes what was done so far, and what may have been; the order ends as rejected, with the reason given here.

Exit status: 0 done, 1 refused by the service (it says why) or failed, or not confirmed; 2 wrong usage, or nobody to ask.

Examples:
  waybill saga compensate $ORDER --reason \"the supplier withdrew the product\"";

/// Shown under `waybill saga skip --help`.
pub const SKIP: &str = "Without it a compensation is repeated until it is answered, however long that takes. With it the saga ends although its step may
still hold something. The audit finds stock that is still held, and `product release` gives it back.

Exit status: 0 done, 1 refused by the service (it says why) or failed, or not confirmed; 2 wrong usage, or nobody to ask.

Examples:
  waybill saga skip $ORDER --reason \"released by hand, INC-4711\"
  waybill saga skip $ORDER --step reserve_stock --reason \"the shelf no longer exists\" --yes";

/// On which saga, and why.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub struct Args {
    /// The order's id.
    #[arg(add = ArgValueCandidates::new(complete::sagas_in_flight))]
    order: OrderId,
    #[command(flatten)]
    signed: confirm::Signed,
    #[command(flatten)]
    place: Place,
}

/// The same, and which step.
#[derive(Debug, clap::Args)]
pub struct SkipArgs {
    /// The step whose compensation is given up; needed only where several are under way.
    #[arg(long, value_parser = steps())]
    step: Option<String>,
    #[command(flatten)]
    args: Args,
}

impl SkipArgs {
    /// Runs the command.
    pub async fn run(self, out: Output) -> anyhow::Result<ExitCode> {
        let step = self.step.and_then(|name| serde_json::from_value::<Step>(name.into()).ok());
        self.args.act("skip", step, out, |state| Ok(Action::Skip(step.map_or_else(|| undone(state), Ok)?))).await
    }
}

/// The step being undone, where it is only one.
fn undone(state: &State<Order>) -> anyhow::Result<Step> {
    let undoing: Vec<Step> = state
        .outstanding()
        .filter(|(_, direction, _)| *direction == saga::Direction::Compensate)
        .map(|(step, ..)| step)
        .collect();
    match undoing.as_slice() {
        [step] => Ok(*step),
        [] => bail!("no compensation is under way: there is nothing to give up"),
        several => {
            let names: Vec<String> = several.iter().map(words::name).collect();
            Err(Usage(format!("several compensations are under way: name one with --step ({})", names.join(", "))).into())
        }
    }
}

impl Args {
    /// Runs a command that needs no step.
    pub async fn run(self, word: &str, action: Action<Step>, out: Output) -> anyhow::Result<ExitCode> {
        self.act(word, None, out, |_| Ok(action)).await
    }

    async fn act(
        self,
        word: &str,
        step: Option<Step>,
        out: Output,
        action: impl FnOnce(&State<Order>) -> anyhow::Result<Action<Step>>,
    ) -> anyhow::Result<ExitCode> {
        let by = self.signed.check()?;
        let service = self.place.service()?;
        announce("order service", &[self.place.url()?.as_str()]);
        let saga: View = service.get(&format!("/sagas/{}", self.order)).await?;
        tell(&pairs(&saga.details()));
        if !saga.readable {
            bail!("the order service cannot act on this order: {}", saga.cause.as_deref().unwrap_or("its state cannot be read"));
        }
        let waybill = source::from_service(&service, self.order).await?;
        if let Some(state) = waybill.state() {
            tell(&self.preview(by, &waybill, state, action(state)?));
        }
        if !self.signed.ask(&format!("{} the order {}?", capitalised(word), self.order))? {
            return Ok(ExitCode::FAILURE);
        }
        let mut body = self.signed.body()?;
        if let Some(step) = step {
            body["step"] = words::name(step).into();
        }
        let after: View = service.post(&format!("/sagas/{}/{word}", self.order), &body).await?;
        out.one(&after)?;
        Ok(ExitCode::SUCCESS)
    }

    /// What this build would decide. The service decides for itself, on the state it has then.
    fn preview(&self, by: &str, waybill: &Transcript<Order>, state: &State<Order>, action: Action<Step>) -> String {
        let input = Input::Operator { action, by: by.to_owned(), reason: self.signed.reason.clone() };
        let Decision { verdict, state: after, effects } = decide(&waybill.plan, state, &input);
        match verdict {
            Verdict::Moved => {
                let sent = words::sent(&effects, &after);
                let sent = if sent.is_empty() { String::new() } else { format!("; {sent}") };
                format!("\n{}: {}{sent}", words::hand(&action), words::decided(state, verdict, &after))
            }
            Verdict::Ignored(why) => format!("\n{}: would be refused, {}", words::hand(&action), words::ignored(why)),
        }
    }
}

fn capitalised(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}
