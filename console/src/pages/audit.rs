//! Audit log: what operators did, who, when, why, and what came of it, from the histories of the sagas themselves.

use std::collections::BTreeMap;
use std::sync::Arc;

use askama::Template;
use axum::extract::{Query, State};
use axum::response::Response;
use chrono::{DateTime, Utc};
use saga::{Effect, Milestone, State as SagaState};
use saga_commands::output::plain;
use saga_commands::{CommandLine, View, phrases};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::failed::{Failed, page};
use crate::frame::Frame;
use crate::links::link;
use crate::setup::Console;
use crate::words::When;

/// Actions on a page.
const ROWS: &str = "100";

#[derive(Template)]
#[template(path = "audit.html")]
struct Page {
    frame: Frame,
    rows: Vec<Row>,
    first: bool,
    next: Option<String>,
}

/// An action.
struct Row {
    when: When,
    by: String,
    action: String,
    path: String,
    id: String,
    reason: String,
    status: String,
    sent: Vec<String>,
}

/// An action as the service tells it.
#[derive(Deserialize)]
struct Told {
    sequence: u32,
    time: DateTime<Utc>,
    #[serde(default)]
    action: String,
    #[serde(default)]
    step: String,
    #[serde(default)]
    by: String,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    status: String,
    #[serde(default)]
    sent: Vec<Value>,
    #[serde(default)]
    unreadable: String,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

impl Row {
    fn of<C: CommandLine>(told: Told) -> Self {
        let id = told.rest.get(View::<C>::id_field()).and_then(Value::as_str).unwrap_or_default().to_owned();
        let effect = |sent: &Value| match serde_json::from_value::<Effect<C::Saga>>(sent.clone()) {
            Ok(effect @ (Effect::Execute { .. } | Effect::Compensate { .. })) => {
                phrases::effect::<C>(&effect, &SagaState::<C::Saga>::new())
            }
            Ok(Effect::Notify(milestone @ (Milestone::Started | Milestone::Compensating))) => {
                format!("tell {}", C::event(milestone, &SagaState::new()))
            }
            // The word for its end is where it stands.
            Ok(Effect::Notify(_)) => format!("tell {}", told.status),
            Err(_) => plain(sent.to_string()),
        };
        Self {
            when: When::at(told.time),
            by: plain(told.by.clone()),
            action: format!("{} {}", told.action, told.step).trim().to_owned(),
            path: link(&format!("/sagas/{id}"), [("at", told.sequence.to_string().as_str())]) + "#at",
            sent: told.sent.iter().map(effect).collect(),
            reason: plain(if told.unreadable.is_empty() { told.reason.clone() } else { told.unreadable.clone() }),
            status: told.status.clone(),
            id,
        }
    }
}

/// The page.
pub async fn show<C: CommandLine>(
    State(console): State<Arc<Console<C>>>,
    Query(asked): Query<BTreeMap<String, String>>,
) -> Result<Response, Failed> {
    let cursor = asked.get("cursor").filter(|cursor| !cursor.is_empty());
    let query: Vec<(&str, String)> =
        [("limit", ROWS.to_owned())].into_iter().chain(cursor.map(|cursor| ("cursor", cursor.clone()))).collect();
    let found = console.service.page::<Told>("/sagas/actions", &query).await?;
    page(&Page {
        frame: Frame::of(&console, "/audit"),
        rows: found.items.into_iter().map(Row::of::<C>).collect(),
        first: cursor.is_none(),
        next: found.next_cursor.map(|cursor| link("/audit", [("cursor", cursor.as_str())])),
    })
}
