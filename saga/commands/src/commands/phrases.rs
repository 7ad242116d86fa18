//! What a saga is asked, decides and says, in words.

use envelope::Message as _;
use saga::{Action, Direction, Effect, IgnoredBecause, Input, Outcome, Phase, Plan, Progress, State, Verdict};
use saga_runtime::Saga;
use serde::Serialize;
use serde_json::Value;

use crate::command_line::CommandLine;
use crate::output::plain;

type Step<C> = <<C as CommandLine>::Saga as Plan>::Step;
type Reply<C> = <<C as CommandLine>::Saga as Plan>::Reply;

/// A step's name as it is persisted.
pub fn name(value: impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(Value::String(name)) => name,
        Ok(other) => other.to_string(),
        Err(error) => error.to_string(),
    }
}

/// The service that does a step.
pub fn service<C: CommandLine>(step: Step<C>) -> String {
    format!("{} service", C::Saga::channel(step).participant.name)
}

/// What came.
pub fn came<C: CommandLine>(saga: &C::Saga, input: &Input<C::Saga>) -> String {
    let words = match input {
        Input::Start => C::began(),
        Input::Reply(reply) => replied::<C>(saga, reply),
        Input::Due(step) => format!("no answer yet: {} ({})", name(step), service::<C>(*step)),
        Input::Expired(step) => format!("no answer in time: {} ({})", name(step), service::<C>(*step)),
        Input::Overdue => format!("the {} took too long", <C::Saga as saga::Exportable>::NAME),
        Input::Cancel => C::cancels(),
        Input::Operator { action: taken, by, reason } => format!("operator {by}: {} (\"{reason}\")", action(taken)),
    };
    plain(words)
}

/// `waybill.product.reserved.v1` is: product service: reserved.
fn replied<C: CommandLine>(saga: &C::Saga, reply: &Reply<C>) -> String {
    let kind = reply.kind();
    let is_version = |word: &str| word.strip_prefix('v').is_some_and(|number| number.parse::<u32>().is_ok());
    let mut words = kind.rsplit('.').skip_while(|word| is_version(word));
    let (what, whom) = (words.next().unwrap_or(kind), words.next().unwrap_or(kind));
    match saga.outcome(reply) {
        Some((step, Outcome::Refused(refusal))) => format!("{}: {what}, {}", service::<C>(step), C::refusal(&refusal)),
        Some((step, _)) => format!("{}: {what}", service::<C>(step)),
        None => format!("{whom} service: {what}"),
    }
}

/// What an operator does.
pub fn action<S: Serialize>(action: &Action<S>) -> String {
    match action {
        Action::Retry => "retry".to_owned(),
        Action::Cancel => "cancel".to_owned(),
        Action::Compensate => "compensate".to_owned(),
        Action::Skip(step) => format!("skip {}", name(step)),
    }
}

/// A number of things: `1 entry`, `2 entries`.
pub fn count(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// A word as a sentence begins with it.
pub fn capitalised(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// What was decided, from where the saga stood before and after. Commands are told as what is sent.
pub fn decided<C: CommandLine>(before: &State<C::Saga>, verdict: Verdict, after: &State<C::Saga>) -> String {
    if let Verdict::Ignored(why) = verdict {
        return format!("ignored: {}", ignored(why));
    }
    let mut words = Vec::new();
    for (step, now) in after.steps().filter(|(step, now)| before.progress(*step) != Some(now)) {
        let step = name(step);
        match now {
            Progress::Asked(_) | Progress::Undoing(_) => {}
            Progress::Done(_) => words.push(format!("{step} done")),
            Progress::Refused => words.push(format!("{step} refused")),
            Progress::Undone(_) => words.push(format!("{step} undone")),
            Progress::Dropped => words.push(format!("{step} let go")),
            Progress::GivenUp(_) => words.push(format!("{step} given up")),
        }
    }
    if before.phase() != after.phase() {
        match after.phase() {
            Phase::Running if words.is_empty() => words.push("begins".to_owned()),
            Phase::Compensating(_) => words.push("goes back".to_owned()),
            Phase::Completed | Phase::Compensated(_) => words.push(C::Saga::status(after).to_uppercase()),
            Phase::New | Phase::Running => {}
        }
    }
    if words.is_empty() { "asks again".to_owned() } else { words.join(", ") }
}

/// Why an input changed nothing.
pub fn ignored(why: IgnoredBecause) -> &'static str {
    match why {
        IgnoredBecause::NotStarted => "the saga has not begun",
        IgnoredBecause::AlreadyStarted => "it has begun already",
        IgnoredBecause::Unexpected => "it means nothing here",
        IgnoredBecause::Repeated => "the same was said before",
        IgnoredBecause::Late => "too late",
        IgnoredBecause::AlreadyCompensating => "it is going back already",
        IgnoredBecause::Final => "its outcome stands",
        IgnoredBecause::NoWayBack => "there is no way back",
        IgnoredBecause::UnknownPlan => "this build does not know its plan",
        IgnoredBecause::NothingOutstanding => "nothing is unanswered",
        IgnoredBecause::NotUndoing => "this step is not being undone",
    }
}

/// What was sent; nothing, where nothing was.
pub fn sent<C: CommandLine>(effects: &[Effect<C::Saga>], after: &State<C::Saga>) -> String {
    effects.iter().map(|sent| effect::<C>(sent, after)).collect::<Vec<_>>().join("; ")
}

/// One command or event.
pub fn effect<C: CommandLine>(effect: &Effect<C::Saga>, after: &State<C::Saga>) -> String {
    let again = |attempt: u32| if attempt > 1 { format!(" (attempt {attempt})") } else { String::new() };
    match effect {
        Effect::Execute { step, attempt } => format!("ask {}{}", name(step), again(*attempt)),
        Effect::Compensate { step, attempt } => format!("undo {}{}", name(step), again(*attempt)),
        Effect::Notify(milestone) => format!("tell {}", C::event(*milestone, after)),
    }
}

/// What is waited for: `undo reserve_stock`.
pub fn outstanding(step: impl Serialize, direction: Direction) -> String {
    let undo = if direction == Direction::Compensate { "undo " } else { "" };
    format!("{undo}{}", name(step))
}

/// The phase.
pub fn phase<P: Plan>(phase: &Phase<P>) -> &'static str {
    match phase {
        Phase::New => "new",
        Phase::Running => "running",
        Phase::Compensating(_) => "compensating",
        Phase::Completed => "completed",
        Phase::Compensated(_) => "compensated",
    }
}

/// How far a step is, from its JSON: `asked (3)`, `done`.
pub fn progress(progress: &Value) -> String {
    match progress {
        Value::String(word) => word.clone(),
        Value::Object(named) => named
            .iter()
            .map(|(word, content)| if content.is_number() { format!("{word} ({content})") } else { word.clone() })
            .collect(),
        other => other.to_string(),
    }
}
