//! What an operator's action would do: this build's decision on the saga's own history. The service decides for itself, on the state it has then.

use std::fmt;

use saga::{Action, Decision, Direction, Input, Plan, State, Transcript, Verdict, decide};

use super::phrases;
use crate::command_line::CommandLine;

type Step<C> = <<C as CommandLine>::Saga as Plan>::Step;

/// What would be decided.
#[derive(Clone, Debug)]
pub struct Preview<C: CommandLine> {
    /// Where the saga stands.
    pub before: State<C::Saga>,
    /// What would be decided, and where it would stand.
    pub decision: Decision<C::Saga>,
}

impl<C: CommandLine> Preview<C> {
    /// Of an action on a saga; `None`: it has no history.
    pub fn of(transcript: &Transcript<C::Saga>, action: Action<Step<C>>, by: &str, reason: &str) -> Option<Self> {
        let before = transcript.state()?.clone();
        let input = Input::Operator { action, by: by.to_owned(), reason: reason.to_owned() };
        let decision = decide(&transcript.plan, &before, &input);
        Some(Self { before, decision })
    }

    /// Why it would be refused; `None`: it would not.
    pub fn refused(&self) -> Option<&'static str> {
        match self.decision.verdict {
            Verdict::Moved => None,
            Verdict::Ignored(why) => Some(phrases::ignored(why)),
        }
    }

    /// What would be decided, in words.
    pub fn decided(&self) -> String {
        phrases::decided::<C>(&self.before, self.decision.verdict, &self.decision.state)
    }

    /// What would be sent, a command or an event each.
    pub fn sent(&self) -> Vec<String> {
        self.decision.effects.iter().map(|effect| phrases::effect::<C>(effect, &self.decision.state)).collect()
    }
}

impl<C: CommandLine> fmt::Display for Preview<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(why) = self.refused() {
            return write!(f, "would be refused, {why}");
        }
        f.write_str(&self.decided())?;
        let sent = self.sent().join("; ");
        if sent.is_empty() { Ok(()) } else { write!(f, "; {sent}") }
    }
}

/// The step being undone, where it is only one.
///
/// # Errors
/// The names of those being undone, where they are none or several.
pub fn undone<C: CommandLine>(state: &State<C::Saga>) -> Result<Step<C>, Vec<String>> {
    let undoing = state.outstanding().filter(|(_, direction, _)| *direction == Direction::Compensate);
    let undoing: Vec<Step<C>> = undoing.map(|(step, ..)| step).collect();
    match undoing.as_slice() {
        [step] => Ok(*step),
        several => Err(several.iter().map(phrases::name).collect()),
    }
}
