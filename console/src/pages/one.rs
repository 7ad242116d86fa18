//! One saga: where it stands, its steps in time, every entry, and each entry as this build decides it.

mod bars;
mod entries;
mod replayed;

use std::convert::Infallible;
use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::sse::{Event, KeepAlive};
use axum::response::{IntoResponse as _, Response, Sse};
use chrono::{DateTime, Utc};
use futures_util::stream;
use saga::{Action, Direction, Exportable as _, State as SagaState, Transcript};
use saga_commands::output::{plain, visible_json};
use saga_commands::preview::Preview;
use saga_commands::{CommandLine, Live, View, age, phrases, source};
use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use self::bars::Chart;
use self::entries::Entry;
use self::replayed::Replayed;
use crate::asked::{Path, Query};
use crate::failed::{Failed, page};
use crate::frame::Frame;
use crate::links::link;
use crate::setup::{Console, LIVE};
use crate::verbs::meaning;
use crate::words::{ago, clock, exact, json};

#[derive(Template)]
#[template(path = "saga.html")]
struct Page {
    frame: Frame,
    id: String,
    path: String,
    status: String,
    stuck: bool,
    /// What was asked for, and what came of it, a line each.
    head: Vec<String>,
    outcome: Vec<String>,
    facts: Vec<Fact>,
    cause: Option<String>,
    actions: Vec<Button>,
    /// What was just done.
    done: Option<String>,
    /// Why this build cannot read its history; then what follows is empty.
    unread: Option<Unread>,
    /// Whether it could not be decided when it was due.
    aside: bool,
    /// Where this build decides otherwise.
    divergence: Option<String>,
    chart: Chart,
    entries: Vec<Entry>,
    at: Option<Replayed>,
    /// Whether more will come.
    live: bool,
    last: u32,
}

/// What this build cannot read of a saga.
pub struct Unread {
    pub what: &'static str,
    pub why: String,
}

impl Unread {
    /// Its history.
    pub fn history(why: &saga::Unreadable) -> Self {
        Self { what: "This build cannot read its history.", why: plain(why.to_string()) }
    }

    /// Its state, or the plan it goes by.
    pub fn state<C>(view: &View<C>) -> Option<Self> {
        let why = || plain(view.cause.clone().unwrap_or_default());
        (!view.readable).then(|| Self { what: "This build cannot go on with it.", why: why() })
    }
}

/// A line of where it stands.
struct Fact {
    name: &'static str,
    value: String,
    /// The exact moment, where it is one.
    at: Option<String>,
}

/// An action that would be taken.
struct Button {
    path: String,
    word: String,
    what: &'static str,
}

/// Which entry is looked at, and what was just done.
#[derive(Deserialize)]
pub struct Asked {
    at: Option<u32>,
    done: Option<String>,
}

/// The page.
pub async fn show<C: CommandLine>(
    State(console): State<Arc<Console<C>>>,
    Path(id): Path<String>,
    Query(asked): Query<Asked>,
) -> Result<Response, Failed> {
    let id = parse::<C>(&id)?;
    let view: View<C> = console.service.get(&format!("/sagas/{id}")).await?;
    let line = source::line_from_service(&console.service, id).await?;
    let (transcript, unread) = match Transcript::<C::Saga>::read(&line) {
        Ok(transcript) => (Some(transcript), None),
        Err(why) => (None, Some(Unread::history(&why))),
    };
    let state = transcript.as_ref().and_then(Transcript::state);
    let settled = state.is_some_and(SagaState::is_settled);
    let ended = settled.then(|| transcript.as_ref()?.entries.last().map(|entry| entry.time)).flatten();
    let entries = transcript.as_ref().map(|transcript| entries::of::<C>(transcript, asked.at)).unwrap_or_default();
    let at = transcript.as_ref().zip(asked.at).map(|(transcript, at)| replayed::of::<C>(transcript, at));
    let lines = |lines: Vec<String>| lines.into_iter().map(plain).collect::<Vec<_>>();
    page(&Page {
        frame: Frame::of(&console, "/sagas"),
        id: id.to_string(),
        path: Console::<C>::path(id),
        status: view.status.clone(),
        stuck: view.stuck,
        head: transcript.as_ref().map(|transcript| lines(C::head(&transcript.plan))).unwrap_or_default(),
        outcome: transcript
            .as_ref()
            .zip(state)
            .map(|(transcript, state)| lines(C::outcome(&transcript.plan, state)))
            .unwrap_or_default(),
        facts: facts(&view),
        cause: view.cause.clone().map(plain),
        actions: transcript.as_ref().filter(|_| view.readable).map(|transcript| buttons::<C>(id, transcript)).unwrap_or_default(),
        done: asked.done.filter(|verb| meaning(verb).is_some()),
        unread,
        aside: view.aside.is_some(),
        divergence: transcript.as_ref().and_then(Transcript::divergence).map(|divergence| plain(divergence.to_string())),
        chart: transcript
            .as_ref()
            .map(|transcript| Chart::of::<C>(transcript, ended.unwrap_or_else(Utc::now), asked.at))
            .unwrap_or_default(),
        last: transcript.as_ref().and_then(|transcript| transcript.entries.last()).map_or(0, |entry| entry.sequence),
        live: transcript.is_some() && !settled,
        entries,
        at,
    })
}

/// The id in an address.
pub fn parse<C: CommandLine>(id: &str) -> Result<Uuid, Failed> {
    id.parse().map_err(|_| Failed::missing(format!("`{id}` is no id of a {}.", C::Saga::NAME)))
}

fn facts<C: CommandLine>(view: &View<C>) -> Vec<Fact> {
    let plainly = |name, value: String| Fact { name, value, at: None };
    let since = |name, at: DateTime<Utc>| Fact { name, value: format!("{} ago · {}", ago(at), clock(at)), at: Some(exact(at)) };
    let mut facts = vec![
        plainly("Phase", view.phase()),
        plainly("Plan", view.plan.map_or_else(|| "unreadable".to_owned(), |plan| format!("version {plan}"))),
        since("Began", view.created_at),
        since("Last moved", view.updated_at),
    ];
    if view.waiting.is_empty() {
        facts.push(plainly("Took", age::show(view.updated_at - view.created_at)));
    } else {
        facts.push(plainly("Waiting for", view.waiting_for()));
        facts.push(plainly("Attempts", view.attempts()));
        facts.extend(view.waiting_since.map(|at| since("Waiting since", at)));
    }
    facts.extend(view.due_at.map(|due| {
        let when = if due > Utc::now() { format!("in {}", age::show(due - Utc::now())) } else { "now".to_owned() };
        Fact { name: "Asked again", value: format!("{when} · {}", clock(due)), at: Some(exact(due)) }
    }));
    facts
}

/// The actions that this build would take, and no others.
fn buttons<C: CommandLine>(id: Uuid, transcript: &Transcript<C::Saga>) -> Vec<Button> {
    let Some(state) = transcript.state() else { return Vec::new() };
    let undoing = state.outstanding().filter(|(_, direction, _)| *direction == Direction::Compensate);
    let skips = undoing.map(|(step, ..)| (Action::Skip(step), "give up this compensation"));
    let actions =
        [(Action::Retry, "ask again now"), (Action::Cancel, C::CANCEL_HELP), (Action::Compensate, "undo what was done")];
    let actions = actions.into_iter().chain(skips);
    let taken = actions.filter(|(action, _)| {
        Preview::<C>::of(transcript, *action, "console", "a look").is_some_and(|preview| preview.refused().is_none())
    });
    let button = |(action, what): (Action<_>, &'static str)| {
        let step = if let Action::Skip(step) = action { phrases::name(step) } else { String::new() };
        let word = phrases::action(&action);
        let verb = word.split(' ').next().unwrap_or_default();
        Button { path: link(&format!("{}/{verb}", Console::<C>::path(id)), [("step", step.as_str())]), word, what }
    };
    taken.map(button).collect()
}

/// The saga as it is exported.
pub async fn raw<C: CommandLine>(State(console): State<Arc<Console<C>>>, Path(id): Path<String>) -> Result<Response, Failed> {
    let id = parse::<C>(&id)?;
    let line = source::line_from_service(&console.service, id).await?;
    let text = serde_json::from_str::<Value>(&line).map_or_else(|_| visible_json(&line), |value| json(&value));
    Ok(([(header::CONTENT_TYPE, "application/json; charset=utf-8")], text).into_response())
}

/// After which entry to begin.
#[derive(Deserialize)]
pub struct After {
    #[serde(default)]
    after: u32,
}

/// An event for each entry that comes, with its sequence; `end` when none will.
pub async fn live<C: CommandLine>(
    State(console): State<Arc<Console<C>>>,
    Path(id): Path<String>,
    Query(After { after }): Query<After>,
) -> Result<Response, Failed> {
    let live = Live::<C>::new(console.service.clone(), parse::<C>(&id)?, after).quiet();
    let Ok(room) = console.live.clone().try_acquire_owned() else {
        let why = format!("{LIVE} pages are live already: reload this one to see what came.");
        return Err(Failed::new(StatusCode::SERVICE_UNAVAILABLE, why));
    };
    let shutdown = console.shutdown.clone();
    let events = stream::unfold(Some((live, shutdown, room)), |following| async move {
        let (mut live, shutdown, room) = following?;
        let next = tokio::select! {
            next = live.next() => next,
            () = shutdown.cancelled() => return None,
        };
        let (event, rest) = match next {
            Ok(Some(entry)) => (Event::default().event("entry").data(entry.sequence.to_string()), Some((live, shutdown, room))),
            Ok(None) | Err(_) => (Event::default().event("end").data("end"), None),
        };
        Some((Ok::<_, Infallible>(event), rest))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::default()).into_response())
}
