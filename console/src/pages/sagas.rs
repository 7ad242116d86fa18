//! Sagas: in flight, or with a status, narrowed by what stands in the address.

use std::collections::BTreeMap;
use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::response::{Redirect, Response};
use chrono::SecondsFormat;
use saga::Exportable as _;
use saga_commands::output::plain;
use saga_commands::{CommandLine, View, age, phrases};
use saga_runtime::Saga as _;
use saga_runtime::steps::step_names;
use uuid::Uuid;

use crate::asked::Query;
use crate::failed::{Failed, page};
use crate::frame::Frame;
use crate::links::link;
use crate::setup::Console;
use crate::words::When;

/// Sagas on a page.
const ROWS: &str = "50";

#[derive(Template)]
#[template(path = "sagas.html")]
struct Page {
    frame: Frame,
    statuses: Vec<Choice>,
    steps: Vec<Choice>,
    cause: String,
    older_than: String,
    created_from: String,
    created_to: String,
    stuck: bool,
    /// Filters that this saga has and others have not.
    filters: Vec<Typed>,
    filtered: bool,
    rows: Vec<Row>,
    /// What was wrong with the filters, or with the service.
    wrong: Option<String>,
    first: Option<String>,
    next: Option<String>,
}

/// One of several words.
struct Choice {
    word: String,
    chosen: bool,
}

/// A filter that is typed.
struct Typed {
    name: &'static str,
    label: String,
    help: &'static str,
    value: String,
}

/// A saga among others.
pub struct Row {
    pub id: String,
    pub path: String,
    pub status: String,
    pub phase: String,
    pub waiting_for: String,
    pub since: Option<When>,
    pub attempts: String,
    pub stuck: bool,
    /// What else there is to say: the last answer, or why it cannot go on.
    pub cause: String,
    pub last: Option<String>,
    pub began: When,
}

impl Row {
    /// A saga as its service shows it.
    pub fn of_view<C: CommandLine>(view: &View<C>) -> Self {
        let id = view.id();
        let cause = match view.aside {
            Some(_) => view.cause.clone(),
            None => view.cause_in_short(),
        };
        let cause = plain(cause.unwrap_or_default());
        let last = cause.rsplit_once(", last answer: ").map(|(_, last)| last.to_owned());
        Self {
            id: id.to_string(),
            path: Console::<C>::path(id),
            status: view.status.clone(),
            phase: view.phase(),
            waiting_for: view.waiting_for(),
            since: view.waiting_since.map(When::at),
            attempts: view.attempts(),
            stuck: view.stuck,
            cause,
            last,
            began: When::at(view.created_at),
        }
    }
}

/// The filters of the address, by the names the service knows them by.
fn query<C: CommandLine>(asked: &BTreeMap<String, String>) -> Result<Vec<(&'static str, String)>, String> {
    let mut query = Vec::new();
    let given = |name: &str| asked.get(name).map(|value| value.trim()).filter(|value| !value.is_empty());
    for name in ["status", "step", "cause", "cursor"] {
        query.extend(given(name).map(|value| (name, value.to_owned())));
    }
    if let Some(text) = given("older_than") {
        query.push(("older_than", age::parse(text)?.as_secs_f64().to_string()));
    }
    for name in ["created_from", "created_to"] {
        if let Some(text) = given(name) {
            query.push((name, age::moment(text)?.to_rfc3339_opts(SecondsFormat::Micros, true)));
        }
    }
    query.extend(given("stuck").map(|_| ("stuck", "true".to_owned())));
    for filter in C::FILTERS {
        if let Some(value) = given(filter.query) {
            let check = |value: &str| (filter.check)(value.trim()).map_err(|why| format!("{}: {why}", filter.flag));
            if filter.many {
                value.split(',').try_for_each(check)?
            } else {
                check(value)?
            }
            query.push((filter.query, value.to_owned()));
        }
    }
    query.push(("limit", ROWS.to_owned()));
    Ok(query)
}

/// The page.
pub async fn list<C: CommandLine>(
    State(console): State<Arc<Console<C>>>,
    Query(asked): Query<BTreeMap<String, String>>,
) -> Result<Response, Failed> {
    let value = |name: &str| asked.get(name).cloned().unwrap_or_default();
    let choices = |name: &str, words: Vec<String>| {
        let chosen = value(name);
        words.into_iter().map(|word| Choice { chosen: word == chosen, word }).collect()
    };
    let found = match query::<C>(&asked) {
        Ok(query) => console.service.page::<View<C>>("/sagas", &query).await.map_err(Failed::from),
        Err(why) => Err(Failed::wrong(why)),
    };
    let (found, wrong) = match found {
        Ok(found) => (Some(found), None),
        Err(failed) => (None, Some(failed.why().to_owned())),
    };
    let next = found.as_ref().and_then(|found| found.next_cursor.clone());
    let with_cursor = |cursor: &str| {
        let kept = asked.iter().filter(|(name, _)| *name != "cursor").map(|(name, value)| (name.as_str(), value.as_str()));
        link("/sagas", kept.chain([("cursor", cursor)]))
    };
    let rows = found.into_iter().flat_map(|found| found.items);
    let rows = rows.map(|view| Row::of_view(&view)).collect();
    let filters = C::FILTERS.iter().map(|filter| Typed {
        name: filter.query,
        label: phrases::capitalised(filter.flag),
        help: filter.help,
        value: value(filter.query),
    });
    page(&Page {
        frame: Frame::of(&console, "/sagas"),
        statuses: choices("status", C::Saga::STATUSES.iter().map(|status| status.name.to_owned()).collect()),
        steps: choices("step", step_names::<C::Saga>()),
        cause: value("cause"),
        older_than: value("older_than"),
        created_from: value("created_from"),
        created_to: value("created_to"),
        stuck: !value("stuck").is_empty(),
        filters: filters.collect(),
        filtered: asked.iter().any(|(name, value)| name != "cursor" && !value.is_empty()),
        rows,
        wrong,
        first: asked.get("cursor").map(|_| with_cursor("")),
        next: next.map(|cursor| with_cursor(&cursor)),
    })
}

/// Goes to the saga with the id that was typed.
pub async fn find<C: CommandLine>(Query(asked): Query<BTreeMap<String, String>>) -> Result<Redirect, Failed> {
    let id = asked.get("id").map(|id| id.trim()).unwrap_or_default();
    let id: Uuid = id.parse().map_err(|_| Failed::missing(format!("`{id}` is no id of a {}.", C::Saga::NAME)))?;
    Ok(Redirect::to(&Console::<C>::path(id)))
}
