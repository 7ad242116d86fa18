//! An operator's actions: `retry`, `cancel`, `compensate`, `skip`. The service decides; what is shown before is what this build would decide,
//! from the saga's own history.

use std::process::ExitCode;

use anyhow::bail;
use clap_complete::ArgValueCandidates;
use saga::{Action, Exportable as _, Plan, State};
use uuid::Uuid;

use super::act_many::Stuck;
use super::preview::{self, Preview};
use super::select::{id, steps};
use super::target::Target;
use super::view::View;
use super::{offer, phrases, source};
use crate::command_line::CommandLine;
use crate::confirm;
use crate::output::{Output, Tabular as _, pairs, tell};
use crate::system::announce;
use crate::usage::Usage;

type Step<C> = <<C as CommandLine>::Saga as Plan>::Step;

/// Shown under `retry --help`.
pub const RETRY: &str = "Resends every unanswered command now, instead of when its timer is up. Participants answer a repeated command as they answered the
first, so a retry can do nothing twice.

Exit status: 0 done, 1 refused by the service (it says why) or failed, or not confirmed; 2 wrong usage, or nobody to ask.

Examples:
  {saga} retry ${id} --reason \"it is back\"
  {saga} retry ${id} --reason \"INC-4711\" --by night-shift --yes
  {saga} retry --stuck --cause \"waiting for the\" --rate 50 --reason \"it is back\"";

/// Shown under `cancel --help`.
pub const CANCEL: &str =
    "Cancels in the name of whoever began it: what was done is undone. Also once every step is done, unless there is no way back.

Exit status: 0 done, 1 refused by the service (it says why) or failed, or not confirmed; 2 wrong usage, or nobody to ask.

Examples:
  {saga} cancel ${id} --reason \"they called\"";

/// Shown under `compensate --help`.
pub const COMPENSATE: &str = "Undoes what was done so far, and what may have been, with the reason given here.

Exit status: 0 done, 1 refused by the service (it says why) or failed, or not confirmed; 2 wrong usage, or nobody to ask.

Examples:
  {saga} compensate ${id} --reason \"withdrawn by the supplier\"";

/// Shown under `skip --help`.
pub const SKIP: &str = "Without it a compensation is repeated until it is answered, however long that takes. With it the saga ends although its step may
still hold something. {skip}

Exit status: 0 done, 1 refused by the service (it says why) or failed, or not confirmed; 2 wrong usage, or nobody to ask.

Examples:
  {saga} skip ${id} --reason \"released by hand, INC-4711\"
  {saga} skip ${id} --step {step} --reason \"nothing is left to undo\" --yes";

/// On which saga, or which of those that are stuck, and why.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub struct Args<C: CommandLine> {
    #[arg(help = format!("The {}'s id", C::Saga::NAME), required_unless_present = "stuck", value_name = C::ID, value_parser = id, add = ArgValueCandidates::new(offer::in_flight::<C>))]
    id: Option<Uuid>,
    #[command(flatten)]
    stuck: Stuck,
    #[command(flatten)]
    signed: confirm::Signed,
    #[command(flatten)]
    target: Target<C>,
}

/// The same, and which step.
#[derive(Debug, clap::Args)]
pub struct SkipArgs<C: CommandLine> {
    /// The step whose compensation is given up; needed only where several are under way.
    #[arg(long, value_parser = steps::<C>())]
    step: Option<String>,
    #[command(flatten)]
    args: Args<C>,
}

impl<C: CommandLine> SkipArgs<C> {
    /// Runs the command.
    pub async fn run(self, out: Output) -> anyhow::Result<ExitCode> {
        let Some(id) = self.args.id else {
            return self.args.stuck.act(&self.args.signed, &self.args.target, "skip", self.step, out).await;
        };
        let step = self.step.and_then(|name| serde_json::from_value::<Step<C>>(name.into()).ok());
        let undone = |state: &State<C::Saga>| preview::undone::<C>(state).map_err(|names| several(&names));
        self.args.act(id, "skip", step, out, |state| Ok(Action::Skip(step.map_or_else(|| undone(state), Ok)?))).await
    }
}

/// No step, or several, of which one is to be named.
fn several(names: &[String]) -> anyhow::Error {
    if names.is_empty() {
        return anyhow::anyhow!("no compensation is under way: there is nothing to give up");
    }
    Usage(format!("several compensations are under way: name one with --step ({})", names.join(", "))).into()
}

impl<C: CommandLine> Args<C> {
    /// Runs a command that needs no step.
    pub async fn run(self, word: &'static str, action: Action<Step<C>>, out: Output) -> anyhow::Result<ExitCode> {
        match self.id {
            Some(id) => self.act(id, word, None, out, |_| Ok(action)).await,
            None => self.stuck.act(&self.signed, &self.target, word, None, out).await,
        }
    }

    async fn act(
        self,
        id: Uuid,
        word: &'static str,
        step: Option<Step<C>>,
        out: Output,
        action: impl FnOnce(&State<C::Saga>) -> anyhow::Result<Action<Step<C>>>,
    ) -> anyhow::Result<ExitCode> {
        let service = self.target.service()?;
        let by = self.signed.check(service.subject())?;
        announce(C::SERVICE.name, &[self.target.url()?.as_str()]);
        let saga: View<C> = service.get(&format!("/sagas/{id}")).await?;
        tell(&pairs(&saga.details()));
        let (name, whom) = (C::Saga::NAME, C::SERVICE.name);
        if !saga.readable {
            bail!("the {whom} cannot act on this {name}: {}", saga.cause.as_deref().unwrap_or("its state cannot be read"));
        }
        let transcript = source::from_service::<C>(&service, id).await?;
        if let Some(state) = transcript.state() {
            let action = action(state)?;
            let preview = Preview::<C>::of(&transcript, action, &by, &self.signed.reason);
            preview.iter().for_each(|preview| tell(&format!("\n{}: {preview}", phrases::action(&action))));
            if preview.is_some_and(|preview| preview.refused().is_some()) && !self.signed.is_answered() {
                tell("Nothing was done. With --yes the service is asked all the same.");
                return Ok(ExitCode::FAILURE);
            }
        }
        if !self.signed.ask(&format!("{} the {name} {id}?", phrases::capitalised(word)))? {
            return Ok(ExitCode::FAILURE);
        }
        let mut body = self.signed.body(&by);
        if let Some(step) = step {
            body["step"] = phrases::name(step).into();
        }
        let after: View<C> = service.post(&format!("/sagas/{id}/{word}"), &body).await?;
        out.one(&after)?;
        Ok(ExitCode::SUCCESS)
    }
}
