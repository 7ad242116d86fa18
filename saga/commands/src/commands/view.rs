//! A saga as its service shows it to operators, and as they read it.

use std::marker::PhantomData;

use chrono::{DateTime, Utc};
use saga::upgrade::{Continuity, check};
use saga::{Milestone, Phase, Plan, State};
use saga_runtime::{Layout, Saga};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::phrases;
use crate::age;
use crate::command_line::CommandLine;
use crate::output::{Tabular, time};

/// A saga and what it waits for.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(bound = "")]
pub struct View<C> {
    /// What tells it from others: its id and whose it is.
    #[serde(flatten)]
    pub summary: Map<String, Value>,
    /// Where it stands.
    pub status: String,
    /// The plan version it began with; nothing where its state cannot be read.
    pub plan: Option<u32>,
    /// Whether the service can read its state and knows its plan.
    #[serde(default = "readable")]
    pub readable: bool,
    /// What that version meant to the build that used it first: 16 hexadecimal digits.
    pub fingerprint: Option<String>,
    /// Its state as it is persisted; kept raw, because another build may have written it.
    pub state: Value,
    /// The unanswered commands.
    pub waiting: Vec<Outstanding>,
    /// Since when.
    pub waiting_since: Option<DateTime<Utc>>,
    /// When it is looked at next.
    pub due_at: Option<DateTime<Utc>>,
    /// Whether it has waited too long.
    pub stuck: bool,
    /// Why the service could not decide it when it was due; it is tried again.
    #[serde(default)]
    pub aside: Option<String>,
    /// What it waits for, in words.
    pub cause: Option<String>,
    /// When it began.
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
    #[serde(skip)]
    line: PhantomData<C>,
}

/// A service that does not say so yet.
fn readable() -> bool {
    true
}

/// An unanswered command.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Outstanding {
    /// The step's name.
    pub step: String,
    /// `act` or `undo`.
    pub direction: String,
    /// How often it was sent.
    pub attempts: u32,
}

impl<C: CommandLine> View<C> {
    /// The field that says whose it is, if sagas are somebody's.
    const OWNER: Option<&'static str> = <<C::Saga as Saga>::Layout as Layout<C::Saga>>::TABLE.owner;

    /// The field of its id, by the column of its histories: `order_id`.
    pub fn id_field() -> &'static str {
        <<C::Saga as Saga>::Layout as Layout<C::Saga>>::TABLE.history_id
    }

    /// Its id; the nil UUID where the service does not say.
    pub fn id(&self) -> Uuid {
        self.summary.get(Self::id_field()).and_then(Value::as_str).and_then(|id| id.parse().ok()).unwrap_or_default()
    }

    /// What it waits for and the last answer, without what tells it from another that waits for the same: since when, how often asked.
    pub fn cause_in_short(&self) -> Option<String> {
        let cause = self.cause.as_deref()?;
        if let Some((what, _)) = cause.split_once(": ").filter(|_| self.aside.is_some()) {
            return Some(what.to_owned());
        }
        let Some((what, rest)) = cause.split_once(" since ") else { return Some(cause.to_owned()) };
        let last = rest.split_once("last answer: ").map_or("", |(_, last)| last);
        Some(format!("{what}, last answer: {last}"))
    }

    /// The phase's name.
    pub fn phase(&self) -> String {
        match serde_json::from_value::<State<C::Saga>>(self.state.clone()) {
            Ok(state) => phrases::phase(state.phase()).to_owned(),
            // Written by another build: the name alone.
            Err(_) => match &self.state["phase"] {
                Value::String(name) => name.clone(),
                Value::Object(named) => named.keys().next().cloned().unwrap_or_default(),
                _ => "unreadable".to_owned(),
            },
        }
    }

    /// Whether this build continues it.
    pub fn continuity(&self) -> Continuity {
        match self.fingerprint.as_deref().map(|digits| u64::from_str_radix(digits, 16)) {
            None => check::<C::Saga>(&self.state, None),
            Some(Ok(recorded)) => check::<C::Saga>(&self.state, Some(recorded)),
            Some(Err(_)) => Continuity::Unreadable("its plan's recorded fingerprint is no number".to_owned()),
        }
    }

    /// Whether an operator gave up this step's compensation.
    pub fn gave_up(&self, step: <C::Saga as Plan>::Step) -> bool {
        self.state["steps"][phrases::name(step)].get("given_up").is_some()
    }

    /// What it waits for: `undo reserve_stock`.
    pub fn waiting_for(&self) -> String {
        self.waiting.iter().map(Outstanding::words).collect::<Vec<_>>().join(", ")
    }

    /// How often each was sent.
    pub fn attempts(&self) -> String {
        self.waiting.iter().map(|waiting| waiting.attempts.to_string()).collect::<Vec<_>>().join(", ")
    }
}

impl Outstanding {
    fn words(&self) -> String {
        if self.direction == "undo" { format!("undo {}", self.step) } else { self.step.clone() }
    }
}

impl<C: CommandLine> Tabular for View<C> {
    const HEADER: &'static [&'static str] = match Self::OWNER {
        Some(_) => &[C::ID, "USER", "STATUS", "PHASE", "WAITING FOR", "SINCE", "ATTEMPTS", "CAUSE"],
        None => &[C::ID, "STATUS", "PHASE", "WAITING FOR", "SINCE", "ATTEMPTS", "CAUSE"],
    };

    fn row(&self) -> Vec<String> {
        let cause = self.cause.clone().unwrap_or_default();
        let owner = |column| self.summary.get(column).and_then(Value::as_str).unwrap_or_default().to_owned();
        let mut row = vec![self.id().to_string()];
        row.extend(Self::OWNER.map(owner));
        row.extend([
            self.status.clone(),
            self.phase(),
            self.waiting_for(),
            self.waiting_since.map(time).unwrap_or_default(),
            self.attempts(),
            if self.stuck { format!("STUCK: {cause}") } else { cause },
        ]);
        row
    }

    fn details(&self) -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let summary = self.summary.iter().map(|(name, value)| (name.trim_end_matches("_id"), text(value)));
        let mut pairs: Vec<(&str, String)> = summary.collect();
        pairs.extend([
            ("status", self.status.clone()),
            ("phase", self.phase()),
            ("plan", self.plan.map_or_else(|| "unreadable".to_owned(), |plan| format!("version {plan}"))),
        ]);
        let steps = self.state["steps"].as_object().into_iter().flatten();
        pairs.extend(steps.map(|(name, progress)| ("step", format!("{name}: {}", phrases::progress(progress)))));
        if let Some(since) = self.waiting_since {
            pairs.push(("waiting", format!("since {}, {}", time(since), age::show(Utc::now() - since))));
        }
        pairs.extend(self.cause.clone().map(|cause| ("cause", cause)));
        pairs.push(("stuck", if self.stuck { "yes" } else { "no" }.to_owned()));
        pairs.extend(self.due_at.map(|due| ("due", time(due))));
        pairs.push((C::event(Milestone::Started, &State::new()), time(self.created_at)));
        pairs.push(("updated", time(self.updated_at)));
        pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

/// Whether a saga stands where nothing but an answer moves it.
pub fn is_final<P: Plan>(phase: &Phase<P>) -> bool {
    matches!(phase, Phase::Completed | Phase::Compensated(_))
}
