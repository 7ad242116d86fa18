//! All dead letters of a kind: sent back at a pace, or deleted.

use std::collections::BTreeMap;
use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::response::{IntoResponse as _, Redirect, Response};
use chassis::causes;
use futures_util::stream;
use saga_commands::bulk::{Bulk, Outcome, Tally, Wish, rate};
use saga_commands::dead_letter::{self, Action};
use saga_commands::output::plain;
use saga_commands::{CommandLine, phrases};

use super::letters::{fields, reason, which};
use crate::asked::{Path, Query};
use crate::failed::{Failed, page};
use crate::forms::Posted;
use crate::frame::Frame;
use crate::jobs::Ask;
use crate::letters::{Which, kept};
use crate::setup::Console;

/// The pace that is offered.
const RATE: f64 = 50.0;

#[derive(Template)]
#[template(path = "letters_all.html")]
struct Page {
    frame: Frame,
    verb: String,
    drops: bool,
    count: usize,
    words: String,
    /// Whether there may be more than were seen so far.
    more: bool,
    /// The last that was seen: what comes later is not meant.
    last: u64,
    hidden: [(&'static str, String); 4],
    rate: f64,
}

fn action(verb: &str) -> Result<Action, Failed> {
    match verb {
        "redrive" => Ok(Action::Redrive),
        "drop" => Ok(Action::Drop),
        _ => Err(Failed::missing("There is no such page.")),
    }
}

fn words(which: &Which) -> String {
    let of = |what: &str, name: &str| if name.is_empty() { String::new() } else { format!("{what}{name}") };
    let (stream, consumer) = (of(" of ", &which.stream), of(" to ", &which.consumer));
    plain(format!("dead letters{stream}{consumer}{}", of(": ", &reason(which))))
}

/// How many they are, and the form that begins it.
pub async fn confirm<C: CommandLine>(
    State(console): State<Arc<Console<C>>>,
    Path(verb): Path<String>,
    Query(asked): Query<BTreeMap<String, String>>,
) -> Result<Response, Failed> {
    let (action, which) = (action(&verb)?, which(&asked)?);
    let (_, stream) = kept(console.broker.as_ref()).await?;
    let (index, more) = console.letters.at_once(&stream).await?;
    page(&Page {
        frame: Frame::of(&console, "/dead-letters"),
        verb,
        drops: action == Action::Drop,
        count: index.those(&which, 0).count(),
        words: words(&which),
        more,
        last: index.last(),
        hidden: fields(&which).map(|(name, value)| (name, value.to_owned())),
        rate: RATE,
    })
}

/// Begins it with those that were there when it was asked for, and goes to where it can be watched.
pub async fn begin<C: CommandLine>(
    State(console): State<Arc<Console<C>>>,
    Path(verb): Path<String>,
    posted: Posted,
) -> Result<Response, Failed> {
    let (action, which) = (action(&verb)?, which(&posted.fields().iter().cloned().collect())?);
    let last: u64 = posted.text("last").parse().map_err(|_| Failed::wrong("Up to which letter? Nothing was done."))?;
    let rate = rate(posted.text("rate")).map_err(Failed::wrong)?;
    let reason = posted.why("why")?.to_owned();
    let (broker, stream) = kept(console.broker.as_ref()).await?;
    let index = console.letters.all(&stream).await?;
    let sequences: Vec<u64> = index.those(&which, 0).take_while(|sequence| *sequence <= last).collect();
    let recorded = console.record(action.word(), format!("{} {}", sequences.len(), words(&which)), None, &reason).await?;
    let begun = console.jobs.begin(Ask {
        what: format!("{} {}", phrases::capitalised(&verb), words(&which)),
        reason,
        within: "/dead-letters",
        rate,
        expected: Some(sequences.len() as u64),
    });
    let job = match begun {
        Ok(job) => job,
        Err(full) => {
            Console::<C>::recorded(recorded, format!("nothing: {full}")).await;
            return Err(full.into());
        }
    };
    let (bulk, working, stream) = (job.bulk.clone(), console.clone(), Arc::new(stream));
    tokio::spawn(async move {
        let act = |sequence: u64| {
            let (broker, stream, action, topology) = (broker.clone(), stream.clone(), action.clone(), working.topology);
            async move {
                let acted = dead_letter::act(&broker, &stream, &topology, action, sequence).await;
                acted.unwrap_or_else(|error| Outcome::Left(causes(&error)))
            }
        };
        let work = bulk.run(stream::iter(sequences.into_iter().map(Ok)), rate, act);
        tokio::select! {
            // How it ended is told where it is watched.
            _ = work => {}
            () = working.shutdown.cancelled() => {}
        }
        Console::<C>::recorded(recorded, came(&bulk)).await;
    });
    Ok(Redirect::to(&format!("/jobs/{}", job.number)).into_response())
}

/// What came of it, in a line.
fn came(bulk: &Bulk) -> String {
    let (Tally { done, gone, left, .. }, ended) = (bulk.tally(), bulk.ended());
    let how = match (&ended, bulk.wished()) {
        (Some(Err(why)), _) => format!("; ended by: {why}"),
        (None, _) => "; ended with the console".to_owned(),
        (Some(Ok(())), Wish::Stop) => "; stopped".to_owned(),
        (Some(Ok(())), _) => String::new(),
    };
    format!("{done} done, {left} left, {gone} gone already{how}")
}
