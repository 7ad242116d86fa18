//! Needs attention: what is stuck, grouped by cause, compensations that do not come through first.

use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use saga_commands::CommandLine;
use saga_commands::output::plain;

use super::sagas::Row;
use crate::attention::Group;
use crate::failed::{Failed, page};
use crate::frame::Frame;
use crate::links::link;
use crate::setup::Console;
use crate::words::When;

#[derive(Template)]
#[template(path = "attention.html")]
struct Page {
    frame: Frame,
    groups: Vec<Card>,
    count: String,
    more: bool,
}

/// A group on the page.
struct Card {
    cause: String,
    count: u64,
    undoing: bool,
    oldest: Option<When>,
    /// What can be done with all of them.
    actions: Vec<(String, &'static str)>,
    rows: Vec<Row>,
    /// All of them, as a list.
    all: String,
}

impl Card {
    fn of<C: CommandLine>(group: &Group<C>) -> Self {
        let verbs: &[&'static str] = match (group.readable, group.undoing) {
            (false, _) => &[],
            (true, true) => &["retry", "skip"],
            (true, false) => &["retry", "cancel", "compensate"],
        };
        let act = |verb: &'static str| (link(&format!("/bulk/{verb}"), [("stuck", "1"), ("cause", group.cause.as_str())]), verb);
        let waiting = group.some.first().and_then(|view| view.waiting.first()).map(|waiting| waiting.step.as_str());
        Self {
            cause: plain(group.cause.clone()),
            count: group.count,
            undoing: group.undoing,
            oldest: group.oldest.map(When::at),
            actions: verbs.iter().copied().map(act).collect(),
            rows: group.some.iter().map(Row::of_view).collect(),
            all: link("/sagas", [("stuck", "1"), ("step", waiting.unwrap_or_default())]),
        }
    }
}

/// The page.
pub async fn show<C: CommandLine>(State(console): State<Arc<Console<C>>>) -> Result<Response, Failed> {
    let found = console.attention.find(&console.service).await?;
    page(&Page {
        frame: Frame::of(&console, "/attention"),
        groups: found.groups.iter().map(Card::of).collect(),
        count: found.count(),
        more: found.more,
    })
}
