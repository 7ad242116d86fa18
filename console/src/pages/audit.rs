//! Audit log: what operators did, who, when, why, and what came of it: from the histories of the sagas themselves, and outside of any as it was written
//! down.

use std::collections::BTreeMap;
use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use chrono::SecondsFormat;
use saga_commands::output::plain;
use saga_commands::{CommandLine, Taken, age};
use uuid::Uuid;

use crate::asked::Query;
use crate::failed::{Failed, page};
use crate::frame::Frame;
use crate::links::link;
use crate::setup::Console;
use crate::words::When;

/// What a list may be narrowed by.
const FILTERS: [&str; 4] = ["by", "action", "from", "to"];

/// Actions on a page.
const ROWS: &str = "100";

#[derive(Template)]
#[template(path = "audit.html")]
struct Page {
    frame: Frame,
    rows: Vec<Row>,
    /// What was asked for.
    by: String,
    action: String,
    from: String,
    to: String,
    filtered: bool,
    /// What was wrong with it.
    wrong: Option<String>,
    first: bool,
    newest: String,
    next: Option<String>,
}

/// An action.
struct Row {
    when: Option<When>,
    by: String,
    action: String,
    about: String,
    /// The saga it is about: its path and its id.
    saga: Option<(String, String)>,
    reason: String,
    status: String,
    came: Vec<String>,
}

impl Row {
    fn of<C: CommandLine>(taken: Taken<C>) -> Self {
        let page = |id: Uuid| {
            let at = taken.sequence().map(|sequence| sequence.to_string());
            let path = link(&Console::<C>::path(id), at.iter().map(|at| ("at", at.as_str())));
            (if at.is_some() { path + "#at" } else { path }, id.to_string())
        };
        Self {
            when: taken.time().map(When::at),
            by: taken.by(),
            action: taken.action(),
            about: taken.about(),
            saga: taken.saga().map(page),
            reason: taken.reason(),
            status: taken.status().to_owned(),
            came: taken.outcome(),
        }
    }
}

/// The page.
pub async fn show<C: CommandLine>(
    State(console): State<Arc<Console<C>>>,
    Query(asked): Query<BTreeMap<String, String>>,
) -> Result<Response, Failed> {
    let value = |name: &str| asked.get(name).map(|value| value.trim().to_owned()).unwrap_or_default();
    let (found, wrong) = match query(&value) {
        Ok(query) => (Some(console.service.page::<Taken<C>>("/actions", &query).await?), None),
        Err(why) => (None, Some(plain(why))),
    };
    let next = found.as_ref().and_then(|found| found.next_cursor.clone());
    let [by, action, from, to] = FILTERS.map(value);
    let filters = || FILTERS.into_iter().zip([by.as_str(), &action, &from, &to]);
    page(&Page {
        frame: Frame::of(&console, "/audit"),
        rows: found.into_iter().flat_map(|found| found.items).map(Row::of).collect(),
        filtered: filters().any(|(_, value)| !value.is_empty()),
        wrong,
        first: value("cursor").is_empty(),
        newest: link("/audit", filters()),
        next: next.map(|cursor| link("/audit", filters().chain([("cursor", cursor.as_str())]))),
        by: by.clone(),
        action: action.clone(),
        from: from.clone(),
        to: to.clone(),
    })
}

/// As the service is asked for them.
fn query(value: &impl Fn(&str) -> String) -> Result<Vec<(&'static str, String)>, String> {
    let mut query = vec![("limit", ROWS.to_owned())];
    for name in ["by", "action", "cursor"] {
        query.extend(Some(value(name)).filter(|value| !value.is_empty()).map(|value| (name, value)));
    }
    for name in ["from", "to"] {
        let text = value(name);
        if !text.is_empty() {
            query.push((name, age::moment(&text)?.to_rfc3339_opts(SecondsFormat::Micros, true)));
        }
    }
    Ok(query)
}
