//! Audit log: what operators did, who, when, why, and what came of it: from the histories of the sagas themselves, and outside of any as it was written
//! down.

use std::collections::BTreeMap;
use std::sync::Arc;

use askama::Template;
use axum::extract::{Query, State};
use axum::response::Response;
use saga_commands::{CommandLine, Taken};
use uuid::Uuid;

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
    let cursor = asked.get("cursor").filter(|cursor| !cursor.is_empty());
    let query: Vec<(&str, String)> =
        [("limit", ROWS.to_owned())].into_iter().chain(cursor.map(|cursor| ("cursor", cursor.clone()))).collect();
    let found = console.service.page::<Taken<C>>("/actions", &query).await?;
    page(&Page {
        frame: Frame::of(&console, "/audit"),
        rows: found.items.into_iter().map(Row::of).collect(),
        first: cursor.is_none(),
        next: found.next_cursor.map(|cursor| link("/audit", [("cursor", cursor.as_str())])),
    })
}
