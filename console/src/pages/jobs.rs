//! What is done to many: how far it is, and the buttons that pause it, let it go on and stop it.

use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::response::{IntoResponse as _, Redirect, Response};
use saga_commands::CommandLine;
use saga_commands::bulk::Wish;
use saga_commands::output::plain;

use crate::asked::Path;
use crate::failed::{Failed, page};
use crate::forms::Posted;
use crate::frame::Frame;
use crate::jobs::Job;
use crate::setup::Console;
use crate::words::When;

#[derive(Template)]
#[template(path = "jobs.html")]
struct List {
    frame: Frame,
    jobs: Vec<Shown>,
    live: bool,
}

#[derive(Template)]
#[template(path = "job.html")]
struct One {
    frame: Frame,
    job: Shown,
}

/// A job as it is shown.
struct Shown {
    path: String,
    what: String,
    reason: String,
    rate: f64,
    began: When,
    state: &'static str,
    done: u64,
    gone: u64,
    left: u64,
    seen: u64,
    expected: Option<u64>,
    /// The last that were left as they were: path, id and why.
    why: Vec<(String, String, String)>,
    failed: Option<String>,
    running: bool,
    paused: bool,
}

impl Shown {
    fn of(job: &Job) -> Self {
        let (tally, ended, wished) = (job.bulk.tally(), job.bulk.ended(), job.bulk.wished());
        let running = ended.is_none();
        let state = match (&ended, wished) {
            (Some(Err(_)), _) => "failed",
            (Some(Ok(())), Wish::Stop) => "stopped",
            (Some(Ok(())), _) => "done",
            (None, Wish::Run) => "working",
            (None, Wish::Pause) => "paused",
            (None, Wish::Stop) => "stopping",
        };
        let why = tally.why.iter().rev().map(|(id, why)| (format!("{}/{id}", job.within), id.clone(), plain(why.clone())));
        Self {
            path: format!("/jobs/{}", job.number),
            what: plain(job.what.clone()),
            reason: plain(job.reason.clone()),
            rate: job.rate,
            began: When::at(job.began),
            state,
            done: tally.done,
            gone: tally.gone,
            left: tally.left,
            seen: tally.seen(),
            expected: job.expected.map(|expected| expected.max(tally.seen())).filter(|_| running).or(job.expected),
            why: why.collect(),
            failed: ended.and_then(Result::err),
            running,
            paused: wished == Wish::Pause,
        }
    }
}

/// All of them.
pub async fn list<C: CommandLine>(State(console): State<Arc<Console<C>>>) -> Result<Response, Failed> {
    let jobs: Vec<Shown> = console.jobs.all().iter().map(|job| Shown::of(job)).collect();
    let live = jobs.iter().any(|job| job.running);
    page(&List { frame: Frame::of(&console, "/jobs"), jobs, live })
}

/// One.
pub async fn show<C: CommandLine>(
    State(console): State<Arc<Console<C>>>,
    Path(number): Path<String>,
) -> Result<Response, Failed> {
    page(&One { frame: Frame::of(&console, "/jobs"), job: Shown::of(&*find(&console, &number)?) })
}

fn find<C>(console: &Console<C>, number: &str) -> Result<Arc<Job>, Failed> {
    let job = number.parse().ok().and_then(|number| console.jobs.get(number));
    job.ok_or_else(|| Failed::missing("There is no such bulk action. They are forgotten when the console ends."))
}

/// Pauses it, lets it go on, or stops it.
pub async fn wish<C: CommandLine>(
    State(console): State<Arc<Console<C>>>,
    Path((number, wish)): Path<(String, String)>,
    _posted: Posted,
) -> Result<Response, Failed> {
    let job = find(&console, &number)?;
    job.bulk.wish(match wish.as_str() {
        "run" => Wish::Run,
        "pause" => Wish::Pause,
        "stop" => Wish::Stop,
        other => return Err(Failed::missing(format!("Nobody can wish for `{other}`."))),
    });
    Ok(Redirect::to(&format!("/jobs/{}", job.number)).into_response())
}
