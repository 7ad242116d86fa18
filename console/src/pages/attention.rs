//! Needs attention: what is stuck, grouped by cause, compensations that do not come through first.

use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use chrono::{TimeDelta, Utc};
use saga_commands::CommandLine;
use saga_commands::causes::{Causes, Group};
use saga_commands::output::plain;
use uuid::Uuid;

use super::sagas::Row;
use crate::failed::{Failed, page};
use crate::frame::Frame;
use crate::links::link;
use crate::setup::Console;
use crate::words::{When, count};

/// Among more than so many a list is begun where the first of a group is: a page goes past so many at most.
const MANY: u64 = 10_000;

/// What was counted so long ago is said to be.
const OLD: TimeDelta = TimeDelta::seconds(2);

#[derive(Template)]
#[template(path = "attention.html")]
struct Page {
    frame: Frame,
    groups: Vec<Card>,
    stuck: String,
    in_flight: String,
    /// When they were counted, where that was a while ago.
    counted: Option<When>,
}

/// A group on the page.
struct Card {
    cause: String,
    plan: String,
    count: String,
    one: bool,
    undoing: bool,
    /// Whether this build can go on with them.
    readable: bool,
    oldest: Option<When>,
    /// What can be done with all of them.
    actions: Vec<(String, &'static str)>,
    rows: Vec<Row>,
    /// All of them, as a list, where only some are here.
    all: Option<String>,
}

impl Card {
    fn of<C: CommandLine>(group: &Group<C>, in_flight: u64) -> Self {
        let verbs: &[&'static str] = match (group.readable, group.is_undoing()) {
            (false, _) => &[],
            (true, true) => &["retry", "skip"],
            (true, false) => &["retry", "cancel", "compensate"],
        };
        let act = |verb: &'static str| (link(&format!("/bulk/{verb}"), [("stuck", "1"), ("cause", group.cause.as_str())]), verb);
        // A cursor is the id before which a page begins.
        let first =
            group.newest.first().filter(|_| in_flight > MANY).map(|view| Uuid::from_u128(view.id().as_u128().saturating_add(1)));
        let cursor = first.map(|first| first.to_string()).unwrap_or_default();
        let all = link("/sagas", [("stuck", "1"), ("cause", group.cause.as_str()), ("cursor", cursor.as_str())]);
        Self {
            cause: plain(group.cause.clone()),
            plan: group.plan.map(|plan| plan.to_string()).unwrap_or_default(),
            count: count(group.sagas as f64),
            one: group.sagas == 1,
            undoing: group.is_undoing(),
            readable: group.readable,
            oldest: group.since.map(When::at),
            actions: verbs.iter().copied().map(act).collect(),
            rows: group.newest.iter().map(Row::of_view).collect(),
            all: (group.sagas > group.newest.len() as u64).then_some(all),
        }
    }
}

/// When it was counted, where that was a while ago.
pub fn counted<C>(causes: &Causes<C>) -> Option<When> {
    Some(causes.counted_at).filter(|at| Utc::now() - *at > OLD).map(When::at)
}

/// The page.
pub async fn show<C: CommandLine>(State(console): State<Arc<Console<C>>>) -> Result<Response, Failed> {
    let causes = Causes::<C>::of(&console.service).await?;
    page(&Page {
        frame: Frame::of(&console, "/attention"),
        groups: causes.groups.iter().filter(|group| group.stuck).map(|group| Card::of(group, causes.in_flight)).collect(),
        stuck: count(causes.stuck as f64),
        in_flight: count(causes.in_flight as f64),
        counted: counted(&causes),
    })
}
