//! What a saga is asked, decides and says, in words.

use events::Message as _;
use events::OrderId;
use events::order::Status;
use order::saga::{Order, Reply, Step};
use saga::{Action, Effect, IgnoredBecause, Input, Milestone, Phase, Progress, State, Verdict};
use serde::Serialize;
use serde_json::Value;

use crate::output::plain;

/// A step's name as it is persisted.
pub fn name(value: impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(Value::String(name)) => name,
        Ok(other) => other.to_string(),
        Err(error) => error.to_string(),
    }
}

/// The service that does a step.
pub fn service(step: Step) -> &'static str {
    match step {
        Step::ValidateUser => "user service",
        Step::ReserveStock => "product service",
    }
}

/// The command that gives back what a step holds whose compensation was given up.
pub fn remedy(step: Step, order: OrderId) -> Option<String> {
    (step == Step::ReserveStock).then(|| format!("waybill product release {order} --reason TEXT"))
}

/// What came.
pub fn came(input: &Input<Order>) -> String {
    let words = match input {
        Input::Start => "the order was placed".to_owned(),
        Input::Reply(answer) => answered(answer),
        Input::Due(step) => format!("no answer yet: {} ({})", name(step), service(*step)),
        Input::Expired(step) => format!("no answer in time: {} ({})", name(step), service(*step)),
        Input::Overdue => "the order took too long".to_owned(),
        Input::Cancel => "the customer cancels".to_owned(),
        Input::Operator { action, by, reason } => format!("operator {by}: {} (\"{reason}\")", hand(action)),
    };
    plain(words)
}

fn answered(answer: &Reply) -> String {
    let (whom, kind, reason) = match answer {
        Reply::User(reply) => {
            let events::user::Reply::Refused(refused) = reply else { return said("user", reply.kind()) };
            ("user", reply.kind(), &refused.reason)
        }
        Reply::Product(reply) => {
            let events::product::Reply::Refused(refused) = reply else { return said("product", reply.kind()) };
            ("product", reply.kind(), &refused.reason)
        }
    };
    format!("{}, {}", said(whom, kind), name(reason.code))
}

/// `waybill.product.reserved.v1` says: reserved.
fn said(whom: &str, kind: &str) -> String {
    format!("{whom} service: {}", kind.split('.').nth(2).unwrap_or(kind))
}

/// What an operator does.
pub fn hand(action: &Action<Step>) -> String {
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

/// What was decided, from where the saga stood before and after. Commands are told as what is sent.
pub fn decided(before: &State<Order>, verdict: Verdict, after: &State<Order>) -> String {
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
            Phase::Completed | Phase::Compensated(_) => words.push(Order::status(after).as_str().to_uppercase()),
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
pub fn sent(messages: &[Effect<Order>], after: &State<Order>) -> String {
    messages.iter().map(|message| say(message, after)).collect::<Vec<_>>().join("; ")
}

/// One message.
pub fn say(message: &Effect<Order>, after: &State<Order>) -> String {
    let again = |attempt: u32| if attempt > 1 { format!(" (attempt {attempt})") } else { String::new() };
    match message {
        Effect::Execute { step, attempt } => format!("ask {}{}", name(step), again(*attempt)),
        Effect::Compensate { step, attempt } => format!("undo {}{}", name(step), again(*attempt)),
        Effect::Notify(notice) => format!("tell {}", told(*notice, after)),
    }
}

/// The event everyone is told.
fn told(notice: Milestone, after: &State<Order>) -> &'static str {
    match notice {
        Milestone::Started => "placed",
        Milestone::Compensating => "compensating",
        Milestone::Completed => "confirmed",
        Milestone::Compensated if Order::status(after) == Status::Cancelled => "cancelled",
        Milestone::Compensated => "rejected",
    }
}

/// The phase.
pub fn phase(phase: &Phase<Order>) -> &'static str {
    match phase {
        Phase::New => "new",
        Phase::Running => "running",
        Phase::Compensating(_) => "going back",
        Phase::Completed => "complete",
        Phase::Compensated(_) => "undone",
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
