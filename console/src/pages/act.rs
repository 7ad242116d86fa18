//! A hand in one saga: first what it would do, then the reason, then the act, by the same route as the command's.

use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::response::{IntoResponse as _, Redirect, Response};
use saga::{Action, Plan, Transcript, changes};
use saga_commands::preview::{Preview, undone};
use saga_commands::{CommandLine, View, phrases, source};
use saga_runtime::steps::step_named;
use serde::Deserialize;
use serde_json::{Value, json};

use super::one::{Unread, parse};
use crate::asked::{Path, Query};
use crate::changes::{Changed, Sides};
use crate::failed::{Failed, page};
use crate::forms::Posted;
use crate::frame::Frame;
use crate::links::link;
use crate::setup::Console;
use crate::verbs::meaning;

#[derive(Template)]
#[template(path = "act.html")]
struct Page {
    frame: Frame,
    id: String,
    path: String,
    action: String,
    verb: String,
    step: String,
    status: String,
    what: &'static str,
    /// Why it would be refused.
    refused: Option<&'static str>,
    decided: String,
    sent: Vec<String>,
    changes: Vec<Changed>,
    sides: Sides,
}

/// In place of the page, where this build cannot say what an action would do.
#[derive(Template)]
#[template(path = "act_not.html")]
struct Not {
    frame: Frame,
    id: String,
    path: String,
    verb: String,
    status: String,
    unread: Unread,
}

type Step<C> = <<C as CommandLine>::Saga as Plan>::Step;

/// Which step, where it is about one.
#[derive(Deserialize)]
pub struct Asked {
    #[serde(default)]
    step: String,
}

fn action<C: CommandLine>(verb: &str, step: &str, transcript: &Transcript<C::Saga>) -> Result<Action<Step<C>>, Failed> {
    Ok(match verb {
        "retry" => Action::Retry,
        "cancel" => Action::Cancel,
        "compensate" => Action::Compensate,
        "skip" if step.is_empty() => {
            let state = transcript.state().ok_or_else(|| Failed::wrong("It has no history."))?;
            Action::Skip(undone::<C>(state).map_err(|steps| match steps.is_empty() {
                true => Failed::wrong("No compensation is under way: there is nothing to give up."),
                false => Failed::wrong(format!("Several compensations are under way: {}.", steps.join(", "))),
            })?)
        }
        "skip" => Action::Skip(step_named::<C::Saga>(step).map_err(Failed::wrong)?),
        other => return Err(Failed::missing(format!("There is no action `{other}`."))),
    })
}

/// What it would do, and the form that does it.
pub async fn confirm<C: CommandLine>(
    State(console): State<Arc<Console<C>>>,
    Path((id, verb)): Path<(String, String)>,
    Query(asked): Query<Asked>,
) -> Result<Response, Failed> {
    let id = parse::<C>(&id)?;
    let what = meaning(&verb).ok_or_else(|| Failed::missing("There is no such page."))?;
    let view: View<C> = console.service.get(&format!("/sagas/{id}")).await?;
    let line = source::line_from_service(&console.service, id).await?;
    let path = Console::<C>::path(id);
    let read = match Unread::state(&view) {
        Some(unread) => Err(unread),
        None => Transcript::<C::Saga>::read(&line).map_err(|why| Unread::history(&why)),
    };
    let transcript = match read {
        Ok(transcript) => transcript,
        Err(unread) => {
            return page(&Not {
                frame: Frame::of(&console, "/sagas"),
                id: id.to_string(),
                path,
                verb,
                status: view.status,
                unread,
            });
        }
    };
    let action = action::<C>(&verb, &asked.step, &transcript)?;
    let preview = Preview::<C>::of(&transcript, action, &console.by, "").ok_or_else(|| Failed::wrong("It has no history."))?;
    page(&Page {
        frame: Frame::of(&console, "/sagas"),
        id: id.to_string(),
        path,
        action: phrases::action(&action),
        verb,
        step: asked.step,
        status: view.status,
        what,
        refused: preview.refused(),
        decided: preview.decided(),
        sent: preview.sent(),
        changes: Changed::all(&changes(&preview.before, &preview.decision.state)),
        sides: Sides::of(&preview.before, &preview.decision.state),
    })
}

/// Does it, and goes back to the saga.
pub async fn act<C: CommandLine>(
    State(console): State<Arc<Console<C>>>,
    Path((id, verb)): Path<(String, String)>,
    posted: Posted,
) -> Result<Response, Failed> {
    let id = parse::<C>(&id)?;
    meaning(&verb).ok_or_else(|| Failed::missing("There is no such action."))?;
    let mut body = json!({ "by": console.by, "reason": posted.why("reason")? });
    if !posted.text("step").is_empty() {
        body["step"] = posted.text("step").into();
    }
    let _: Value = console.service.post(&format!("/sagas/{id}/{verb}"), &body).await?;
    Ok(Redirect::to(&link(&Console::<C>::path(id), [("done", verb.as_str())])).into_response())
}
