//! A hand in many sagas: those chosen in a list, or all that are stuck for the same reason. First what it would do, then the reason and the pace.

use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Redirect, Response};
use futures_util::{StreamExt as _, stream};
use saga::{Action, Plan, Transcript};
use saga_commands::bulk::rate;
use saga_commands::causes::{Causes, Group};
use saga_commands::many::{Act, Which};
use saga_commands::output::plain;
use saga_commands::preview::{Preview, undone};
use saga_commands::{CommandLine, View, phrases, source};
use serde_json::json;
use uuid::Uuid;

use crate::asked::{Path, Query};
use crate::failed::{Failed, page};
use crate::forms::Posted;
use crate::frame::Frame;
use crate::jobs::Ask;
use crate::setup::Console;
use crate::verbs::meaning;
use crate::words::count as shown;

/// So many are looked at for one that shows what would be done.
const EXAMPLES: usize = 5;

/// The pace that is offered: a thousand in less than a minute, and no burden to a service that has just come back.
const RATE: f64 = 20.0;

#[derive(Template)]
#[template(path = "bulk.html")]
struct Page {
    frame: Frame,
    verb: String,
    what: &'static str,
    count: String,
    expected: String,
    causes: Vec<(u64, String)>,
    /// How many it said there were, where there are more now.
    fewer: Option<String>,
    /// One of them, and what would be done with it.
    example: Option<Example>,
    /// What says which they are, for the form.
    hidden: Vec<(String, String)>,
    rate: f64,
}

struct Example {
    path: String,
    id: String,
    would: String,
    refused: bool,
}

/// Which sagas an address or a form means.
enum Meant {
    Chosen(Vec<Uuid>),
    All(Which),
}

impl Meant {
    fn read(fields: &[(String, String)]) -> Result<Self, Failed> {
        let first = |name: &str| fields.iter().find(|(field, value)| field == name && !value.is_empty());
        let ids = fields
            .iter()
            .filter(|(field, _)| field == "id")
            .map(|(_, id)| id.parse().map_err(|_| Failed::wrong(format!("`{id}` is no id. Nothing was done."))));
        let ids = ids.collect::<Result<Vec<Uuid>, Failed>>()?;
        if !ids.is_empty() {
            return Ok(Self::Chosen(ids));
        }
        if first("stuck").is_none() {
            return Err(Failed::wrong("Choose at least one. Nothing was done."));
        }
        Ok(Self::All(Which::stuck(first("cause").map_or("", |(_, cause)| cause))))
    }

    fn hidden(&self) -> Vec<(String, String)> {
        match self {
            Self::Chosen(ids) => ids.iter().map(|id| ("id".to_owned(), id.to_string())).collect(),
            Self::All(which) => vec![("stuck".to_owned(), "1".to_owned()), ("cause".to_owned(), which.cause.clone())],
        }
    }

    fn words(&self) -> String {
        match self {
            Self::Chosen(ids) => phrases::count(ids.len() as u64, "chosen saga", "chosen sagas"),
            Self::All(which) if which.cause.is_empty() => "all that are stuck".to_owned(),
            Self::All(which) => format!("all that are stuck: {}", which.cause),
        }
    }
}

type Step<C> = <<C as CommandLine>::Saga as Plan>::Step;

fn action<C: CommandLine>(verb: &str, transcript: &Transcript<C::Saga>) -> Option<Action<Step<C>>> {
    Some(match verb {
        "retry" => Action::Retry,
        "cancel" => Action::Cancel,
        "compensate" => Action::Compensate,
        _ => Action::Skip(undone::<C>(transcript.state()?).ok()?),
    })
}

/// What it would do, and the form that begins it.
pub async fn confirm<C: CommandLine>(
    State(console): State<Arc<Console<C>>>,
    Path(verb): Path<String>,
    Query(fields): Query<Vec<(String, String)>>,
) -> Result<Response, Failed> {
    confirmed(&console, verb, &Meant::read(&fields)?, None).await
}

/// The groups of stuck sagas that are meant.
fn those<'a, C>(found: &'a Causes<C>, which: &Which) -> impl Iterator<Item = &'a Group<C>> {
    let cause = which.cause.to_lowercase();
    found.groups.iter().filter(move |group| group.stuck && group.cause.to_lowercase().contains(&cause))
}

/// `fewer`: how many it said there were, where there are more now.
async fn confirmed<C: CommandLine>(
    console: &Console<C>,
    verb: String,
    meant: &Meant,
    fewer: Option<u64>,
) -> Result<Response, Failed> {
    let what = meaning(&verb).ok_or_else(|| Failed::missing("There is no such action."))?;
    let (count, expected, causes, some) = match meant {
        Meant::Chosen(ids) => {
            let count = ids.len().to_string();
            (count.clone(), count, Vec::new(), ids.iter().copied().take(EXAMPLES).collect())
        }
        Meant::All(which) => {
            let found = Causes::<C>::of(&console.service).await?;
            let groups: Vec<&Group<C>> = those(&found, which).collect();
            let causes = groups.iter().map(|group| (group.sagas, plain(group.cause.clone()))).collect();
            let expected: u64 = groups.iter().map(|group| group.sagas).sum();
            let some: Vec<Uuid> = groups.iter().flat_map(|group| &group.newest).take(EXAMPLES).map(View::id).collect();
            (shown(expected as f64), expected.to_string(), causes, some)
        }
    };
    let mut example_shown = None;
    for id in some {
        let example = example::<C>(console, id, &verb).await;
        let done = !example.refused;
        example_shown = Some(example);
        if done {
            break;
        }
    }
    page(&Page {
        frame: Frame::of(console, "/attention"),
        verb,
        what,
        count,
        expected,
        causes,
        fewer: fewer.map(|fewer| shown(fewer as f64)),
        example: example_shown,
        hidden: meant.hidden(),
        rate: RATE,
    })
}

async fn example<C: CommandLine>(console: &Console<C>, id: Uuid, verb: &str) -> Example {
    let (would, refused) = match source::from_service::<C>(&console.service, id).await {
        Ok(transcript) => {
            let action = action::<C>(verb, &transcript);
            match action.and_then(|action| Preview::<C>::of(&transcript, action, &console.by, "")) {
                Some(preview) => (preview.to_string(), preview.refused().is_some()),
                None => ("there is nothing it could be done to".to_owned(), true),
            }
        }
        // One of many that cannot be read keeps nobody from the others.
        Err(error) => (plain(format!("it cannot be said what, {}", chassis::causes(&error))), true),
    };
    Example { path: Console::<C>::path(id), id: id.to_string(), would, refused }
}

/// Begins it, and goes to where it can be watched.
pub async fn begin<C: CommandLine>(
    State(console): State<Arc<Console<C>>>,
    Path(verb): Path<String>,
    posted: Posted,
) -> Result<Response, Failed> {
    meaning(&verb).ok_or_else(|| Failed::missing("There is no such action."))?;
    let meant = Meant::read(posted.fields())?;
    let reason = posted.why("reason")?.to_owned();
    let rate = rate(posted.text("rate")).map_err(Failed::wrong)?;
    // What was seen is what is done: where there are more by now, it is asked again.
    let most = match &meant {
        Meant::Chosen(ids) => ids.len(),
        Meant::All(which) => {
            let seen = posted.text("expected").parse().map_err(|_| Failed::wrong("How many were there? Nothing was done."))?;
            let now: u64 = those(&Causes::<C>::of(&console.service).await?, which).map(|group| group.sagas).sum();
            if now > seen {
                return Ok((StatusCode::CONFLICT, confirmed(&console, verb, &meant, Some(seen)).await?).into_response());
            }
            usize::try_from(seen).unwrap_or(usize::MAX)
        }
    };
    let body = json!({ "by": console.by, "reason": reason });
    let ask = Ask {
        what: format!("{} {}", phrases::capitalised(&verb), meant.words()),
        reason,
        within: "/sagas",
        rate,
        expected: Some(most as u64),
    };
    let job = console.jobs.begin(ask)?;
    let (bulk, working) = (job.bulk.clone(), console.clone());
    let act = Act { service: console.service.clone(), verb, body };
    let ids = match meant {
        Meant::Chosen(ids) => stream::iter(ids.into_iter().map(Ok)).boxed(),
        Meant::All(which) => which.views::<C>(console.service.clone()).map(|view| view.map(|view| view.id())).boxed(),
    };
    tokio::spawn(async move {
        let work = bulk.run(ids.take(most), rate, |id| act.clone().on(id));
        tokio::select! {
            // How it ended is told where it is watched.
            _ = work => {}
            () = working.shutdown.cancelled() => {}
        }
    });
    Ok(Redirect::to(&format!("/jobs/{}", job.number)).into_response())
}
