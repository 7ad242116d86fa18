//! `actions`: what operators did, with sagas and outside of them, who, when, why and what came of it.

use std::marker::PhantomData;
use std::process::ExitCode;

use chrono::{DateTime, SecondsFormat, Utc};
use saga::{Effect, Milestone, State};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::phrases;
use super::target::Target;
use super::view::View;
use crate::command_line::CommandLine;
use crate::output::{Output, Tabular, plain, time};
use crate::{age, list};

/// Shown under `actions --help`.
pub const EXAMPLES: &str = "What moved a saga stands in its history. What was done outside of any, with dead letters for example, was written down before it was done,
and what came of it after; where that is missing it is under way, or whoever did it never came to say so.

Examples:
  {saga} actions
  {saga} actions --by ann --action skip --from 7d
  {saga} actions --all -o jsonl | jq -r .reason";

/// Which part of the list.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub struct Args<C: CommandLine> {
    /// Only what this person did, in any case of letters.
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
    /// Only those of this word: retry, cancel, compensate, skip, redrive, drop.
    #[arg(long, value_name = "WORD")]
    action: Option<String>,
    /// Only those taken then or later: a moment (2026-01-02T03:04:05Z) or how long ago (24h).
    #[arg(long, value_name = "MOMENT", value_parser = age::moment, allow_hyphen_values = true)]
    from: Option<DateTime<Utc>>,
    /// Only those taken before then.
    #[arg(long, value_name = "MOMENT", value_parser = age::moment, allow_hyphen_values = true)]
    to: Option<DateTime<Utc>>,
    #[command(flatten)]
    list: list::Args,
    #[command(flatten)]
    target: Target<C>,
}

impl<C: CommandLine> Args<C> {
    /// Runs the command.
    pub async fn run(self, out: Output) -> anyhow::Result<ExitCode> {
        let said = |moment: DateTime<Utc>| moment.to_rfc3339_opts(SecondsFormat::Micros, true);
        let asked = [("by", self.by), ("action", self.action), ("from", self.from.map(said)), ("to", self.to.map(said))];
        let query = asked.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
        self.list.run::<Taken<C>>(&self.target.service()?, out, "/actions", query).await
    }
}

/// An operator's action, as the service tells it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent, bound = "")]
pub struct Taken<C> {
    fields: Map<String, Value>,
    #[serde(skip)]
    line: PhantomData<C>,
}

impl<C: CommandLine> Taken<C> {
    fn text(&self, name: &str) -> &str {
        self.fields.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    /// When.
    pub fn time(&self) -> Option<DateTime<Utc>> {
        self.text("time").parse().ok()
    }

    /// Who.
    pub fn by(&self) -> String {
        plain(self.text("by").to_owned())
    }

    /// What: `skip reserve_stock`.
    pub fn action(&self) -> String {
        plain(format!("{} {}", self.text("action"), self.text("step")).trim().to_owned())
    }

    /// With what, where it is outside of any saga.
    pub fn about(&self) -> String {
        plain(self.text("about").to_owned())
    }

    /// The saga it is about.
    pub fn saga(&self) -> Option<Uuid> {
        self.text(View::<C>::id_field()).parse().ok()
    }

    /// The place in that saga's history, where it moved the saga.
    pub fn sequence(&self) -> Option<u64> {
        self.fields.get("sequence").and_then(Value::as_u64)
    }

    /// Why; or why that cannot be read.
    pub fn reason(&self) -> String {
        let unreadable = self.text("unreadable");
        plain(if unreadable.is_empty() { self.text("reason") } else { unreadable }.to_owned())
    }

    /// Where its saga stood afterwards; empty outside of any.
    pub fn status(&self) -> &str {
        self.text("status")
    }

    /// What came of it: what was sent; outside of a saga what was said.
    pub fn outcome(&self) -> Vec<String> {
        match self.fields.get("outcome") {
            Some(Value::String(outcome)) => vec![plain(outcome.clone())],
            Some(_) => vec!["not known: under way, or never told".to_owned()],
            None => self.fields.get("sent").and_then(Value::as_array).into_iter().flatten().map(|sent| self.sent(sent)).collect(),
        }
    }

    fn sent(&self, sent: &Value) -> String {
        match serde_json::from_value::<Effect<C::Saga>>(sent.clone()) {
            Ok(effect @ (Effect::Execute { .. } | Effect::Compensate { .. })) => phrases::effect::<C>(&effect, &State::new()),
            Ok(Effect::Notify(milestone @ (Milestone::Started | Milestone::Compensating))) => {
                format!("tell {}", C::event(milestone, &State::new()))
            }
            // The word for its end is where it stands.
            Ok(Effect::Notify(_)) => format!("tell {}", self.status()),
            Err(_) => plain(sent.to_string()),
        }
    }
}

impl<C: CommandLine> Tabular for Taken<C> {
    const HEADER: &'static [&'static str] = &["TIME", "WHO", "ACTION", "ABOUT", "WHY", "WHAT CAME OF IT"];

    fn row(&self) -> Vec<String> {
        let about = [self.about(), self.saga().map(|id| id.to_string()).unwrap_or_default()];
        let came = [self.status().to_owned(), self.outcome().join("; ")];
        let told = |parts: [String; 2], between: &str| {
            parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(between)
        };
        vec![
            self.time().map(time).unwrap_or_default(),
            self.by(),
            self.action(),
            told(about, ", "),
            self.reason(),
            told(came, ": "),
        ]
    }
}
