//! An operator's actions: `retry`, `cancel`, `compensate`, `skip`. The service decides; what is shown before is what this build would decide,
//! from the saga's own history.

use std::process::ExitCode;

use anyhow::bail;
use clap_complete::ArgValueCandidates;
use saga::{Action, Decision, Direction, Exportable as _, Input, Plan, State, Transcript, Verdict, decide};
use uuid::Uuid;

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
  {saga} retry ${id} --reason \"INC-4711\" --by night-shift --yes";

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

/// On which saga, and why.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub struct Args<C: CommandLine> {
    #[arg(help = format!("The {}'s id", C::Saga::NAME), value_name = C::ID, value_parser = id, add = ArgValueCandidates::new(offer::in_flight::<C>))]
    id: Uuid,
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
        let step = self.step.and_then(|name| serde_json::from_value::<Step<C>>(name.into()).ok());
        self.args.act("skip", step, out, |state| Ok(Action::Skip(step.map_or_else(|| undone::<C>(state), Ok)?))).await
    }
}

/// The step being undone, where it is only one.
fn undone<C: CommandLine>(state: &State<C::Saga>) -> anyhow::Result<Step<C>> {
    let undoing = state.outstanding().filter(|(_, direction, _)| *direction == Direction::Compensate);
    let undoing: Vec<Step<C>> = undoing.map(|(step, ..)| step).collect();
    match undoing.as_slice() {
        [step] => Ok(*step),
        [] => bail!("no compensation is under way: there is nothing to give up"),
        several => {
            let names: Vec<String> = several.iter().map(phrases::name).collect();
            Err(Usage(format!("several compensations are under way: name one with --step ({})", names.join(", "))).into())
        }
    }
}

impl<C: CommandLine> Args<C> {
    /// Runs a command that needs no step.
    pub async fn run(self, word: &str, action: Action<Step<C>>, out: Output) -> anyhow::Result<ExitCode> {
        self.act(word, None, out, |_| Ok(action)).await
    }

    async fn act(
        self,
        word: &str,
        step: Option<Step<C>>,
        out: Output,
        action: impl FnOnce(&State<C::Saga>) -> anyhow::Result<Action<Step<C>>>,
    ) -> anyhow::Result<ExitCode> {
        let service = self.target.service()?;
        let by = self.signed.check(service.subject())?;
        announce(C::SERVICE.name, &[self.target.url()?.as_str()]);
        let saga: View<C> = service.get(&format!("/sagas/{}", self.id)).await?;
        tell(&pairs(&saga.details()));
        let (name, whom) = (C::Saga::NAME, C::SERVICE.name);
        if !saga.readable {
            bail!("the {whom} cannot act on this {name}: {}", saga.cause.as_deref().unwrap_or("its state cannot be read"));
        }
        let transcript = source::from_service::<C>(&service, self.id).await?;
        if let Some(state) = transcript.state() {
            tell(&self.preview(&by, &transcript, state, action(state)?));
        }
        if !self.signed.ask(&format!("{} the {name} {}?", capitalised(word), self.id))? {
            return Ok(ExitCode::FAILURE);
        }
        let mut body = self.signed.body(&by);
        if let Some(step) = step {
            body["step"] = phrases::name(step).into();
        }
        let after: View<C> = service.post(&format!("/sagas/{}/{word}", self.id), &body).await?;
        out.one(&after)?;
        Ok(ExitCode::SUCCESS)
    }

    /// What this build would decide. The service decides for itself, on the state it has then.
    fn preview(&self, by: &str, transcript: &Transcript<C::Saga>, state: &State<C::Saga>, action: Action<Step<C>>) -> String {
        let input = Input::Operator { action, by: by.to_owned(), reason: self.signed.reason.clone() };
        let Decision { verdict, state: after, effects } = decide(&transcript.plan, state, &input);
        match verdict {
            Verdict::Moved => {
                let sent = phrases::sent::<C>(&effects, &after);
                let sent = if sent.is_empty() { String::new() } else { format!("; {sent}") };
                format!("\n{}: {}{sent}", phrases::action(&action), phrases::decided::<C>(state, verdict, &after))
            }
            Verdict::Ignored(why) => format!("\n{}: would be refused, {}", phrases::action(&action), phrases::ignored(why)),
        }
    }
}

fn capitalised(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}
