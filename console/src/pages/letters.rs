//! Dead letters: by what is wrong with them, one by one, and what is done about one.

use std::collections::BTreeMap;
use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::response::{IntoResponse as _, Redirect, Response};
use chassis::causes;
use futures_util::future::try_join_all;
use saga_commands::CommandLine;
use saga_commands::bulk::Outcome;
use saga_commands::dead_letter::{self, Action, Letter};
use saga_commands::json_text::compact;
use saga_commands::output::{Tabular as _, plain, visible_json};

use crate::asked::{Path, Query};
use crate::failed::{Failed, page};
use crate::forms::Posted;
use crate::frame::Frame;
use crate::letters::{Group, Reason, Which, kept};
use crate::links::link;
use crate::setup::Console;
use crate::words::When;

/// Letters on a page.
const ROWS: usize = 50;

/// Kinds on a page, those of which there are most: whoever may write to the broker makes as many as they like.
const KINDS: usize = 100;

/// What an address says in place of a reason: those that are not told apart, and those without one.
const OTHERS: &str = "others";
const SILENT: &str = "silent";

#[derive(Template)]
#[template(path = "letters.html")]
struct List {
    frame: Frame,
    count: u64,
    groups: Vec<Kind>,
    /// The kinds that are not shown.
    unshown: usize,
    more: bool,
    /// Whether only some kind is shown.
    narrowed: bool,
    rows: Vec<Row>,
    next: Option<String>,
    done: Option<String>,
}

/// A kind of letters.
struct Kind {
    count: u64,
    stream: String,
    consumer: String,
    reason: String,
    oldest: When,
    path: String,
    redrive: String,
    drop: String,
}

/// A letter among others.
struct Row {
    path: String,
    sequence: u64,
    buried: When,
    kind: String,
    saga: Option<(String, String)>,
    deliveries: u64,
    redrives: u32,
    reason: String,
}

#[derive(Template)]
#[template(path = "letter.html")]
struct One {
    frame: Frame,
    sequence: u64,
    facts: Vec<(String, String)>,
    saga: Option<String>,
    payload: String,
    /// Why it cannot go back.
    cannot: Option<String>,
    /// Whether its content is text that can be put right.
    text: bool,
    failed: Option<String>,
}

/// What an address says of which letters are meant.
pub fn which(asked: &BTreeMap<String, String>) -> Result<Which, Failed> {
    let value = |name: &str| asked.get(name).cloned().unwrap_or_default();
    let reason = match (value("kind").as_str(), value("reason")) {
        ("", reason) if reason.is_empty() => Reason::Any,
        ("", reason) => Reason::Is(reason),
        (SILENT, reason) if reason.is_empty() => Reason::Is(reason),
        (OTHERS, reason) if reason.is_empty() => Reason::Others,
        _ => return Err(Failed::wrong("There is no such kind of dead letters. Nothing was done.")),
    };
    Ok(Which { stream: value("stream"), consumer: value("consumer"), reason })
}

/// The same as an address, or a form, says it.
pub fn fields(which: &Which) -> [(&'static str, &str); 4] {
    let (kind, reason) = match &which.reason {
        Reason::Any => ("", ""),
        Reason::Is(reason) if reason.is_empty() => (SILENT, ""),
        Reason::Is(reason) => ("", reason.as_str()),
        Reason::Others => (OTHERS, ""),
    };
    [("stream", which.stream.as_str()), ("consumer", which.consumer.as_str()), ("kind", kind), ("reason", reason)]
}

/// The reason in words.
pub fn reason(which: &Which) -> String {
    match &which.reason {
        Reason::Any => String::new(),
        Reason::Is(reason) if reason.is_empty() => "no reason is given".to_owned(),
        Reason::Is(reason) => reason.clone(),
        Reason::Others => "others, whose reasons are not told apart here".to_owned(),
    }
}

impl Kind {
    fn of(group: Group) -> Self {
        let query = fields(&group.which);
        Self {
            count: group.count,
            path: link("/dead-letters", query),
            redrive: link("/dead-letters/all/redrive", query),
            drop: link("/dead-letters/all/drop", query),
            oldest: When::at(group.oldest),
            reason: plain(reason(&group.which)),
            stream: plain(group.which.stream.clone()),
            consumer: plain(group.which.consumer.clone()),
        }
    }
}

impl Row {
    fn of<C>(letter: &Letter) -> Self
    where
        C: CommandLine,
    {
        Self {
            path: format!("/dead-letters/{}", letter.sequence),
            sequence: letter.sequence,
            buried: When::at(letter.time),
            kind: plain(letter.event_type.clone().unwrap_or_default()),
            saga: letter.saga.map(|id| (Console::<C>::path(id), id.to_string())),
            deliveries: letter.deliveries,
            redrives: letter.redrives,
            reason: plain(letter.reason.clone()),
        }
    }
}

/// All of them, or those of a kind.
pub async fn list<C: CommandLine>(
    State(console): State<Arc<Console<C>>>,
    Query(asked): Query<BTreeMap<String, String>>,
) -> Result<Response, Failed> {
    let (_, stream) = kept(console.broker.as_ref()).await?;
    let which = which(&asked)?;
    let from = asked.get("from").and_then(|from| from.parse().ok()).unwrap_or(1);
    let (index, more) = console.letters.at_once(&stream).await?;
    let mut sequences: Vec<u64> = index.those(&which, from).take(ROWS + 1).collect();
    let next = (sequences.len() > ROWS).then(|| sequences.pop()).flatten();
    let letters = try_join_all(sequences.into_iter().map(|sequence| dead_letter::get(&stream, sequence))).await?;
    let letters: Vec<Letter> = letters.into_iter().flatten().collect();
    let kept = asked.iter().filter(|(name, _)| !["from", "done", "letter"].contains(&name.as_str()));
    let next = next.map(|next| {
        let kept = kept.map(|(name, value)| (name.as_str(), value.as_str()));
        link("/dead-letters", kept.chain([("from", next.to_string().as_str())]))
    });
    let groups = index.groups();
    page(&List {
        frame: Frame::of(&console, "/dead-letters"),
        count: stream.cached_info().state.messages,
        unshown: groups.len().saturating_sub(KINDS),
        groups: groups.into_iter().take(KINDS).map(Kind::of).collect(),
        more,
        narrowed: which != Which::default(),
        rows: letters.iter().map(Row::of::<C>).collect(),
        next,
        done: done(&asked),
    })
}

/// What was just done, as an address says it.
fn done(asked: &BTreeMap<String, String>) -> Option<String> {
    let letter: u64 = asked.get("letter")?.parse().ok()?;
    let done = match asked.get("done")?.as_str() {
        "redrive" | "mend" => "sent back",
        "drop" => "deleted",
        _ => return None,
    };
    Some(format!("dead letter {letter} was {done}"))
}

/// One.
pub async fn show<C: CommandLine>(
    State(console): State<Arc<Console<C>>>,
    Path(sequence): Path<String>,
) -> Result<Response, Failed> {
    let letter = find(&console, &sequence).await?;
    one(&console, &letter, None)
}

async fn find<C: CommandLine>(console: &Console<C>, sequence: &str) -> Result<Letter, Failed> {
    let missing = || Failed::missing(format!("There is no dead letter {}.", plain(sequence.to_owned())));
    let sequence = sequence.parse().ok().filter(|sequence| *sequence > 0).ok_or_else(missing)?;
    let (_, stream) = kept(console.broker.as_ref()).await?;
    dead_letter::get(&stream, sequence).await?.ok_or_else(missing)
}

fn one<C: CommandLine>(console: &Console<C>, letter: &Letter, failed: Option<String>) -> Result<Response, Failed> {
    page(&One {
        frame: Frame::of(console, "/dead-letters"),
        sequence: letter.sequence,
        facts: letter.details().into_iter().map(|(name, value)| (name, plain(value))).collect(),
        saga: letter.saga.map(Console::<C>::path),
        payload: said(letter),
        cannot: dead_letter::packed(letter, &console.topology).err(),
        text: serde_json::from_slice::<serde_json::Value>(&letter.payload).is_ok(),
        failed,
    })
}

/// What it says, as it is shown to be put right.
fn said(letter: &Letter) -> String {
    visible_json(&letter.pretty())
}

/// It with what was typed in place of what it said: what nobody touched stays as it was, to the last digit.
fn mended(letter: &Letter, typed: &str) -> Result<Action, String> {
    let typed = typed.replace("\r\n", "\n");
    if typed.trim() == said(letter).trim() {
        return Ok(Action::Redrive);
    }
    let value: serde_json::Value = serde_json::from_str(&typed).map_err(|error| format!("it is no JSON. {error}"))?;
    let (whole, fits) = match (letter.index, letter.indices.as_slice()) {
        (Some(_), _) => ("an event is a JSON object", value.is_object()),
        (None, []) => ("a message is a JSON array, or an object", value.is_array() || value.is_object()),
        (None, _) => ("several events are a JSON array", value.is_array()),
    };
    if fits { Ok(Action::Mend(compact(&typed).into())) } else { Err(format!("{whole}.")) }
}

/// Sends it back, as it was or put right, or deletes it.
pub async fn act<C: CommandLine>(
    State(console): State<Arc<Console<C>>>,
    Path((sequence, verb)): Path<(String, String)>,
    posted: Posted,
) -> Result<Response, Failed> {
    let letter = find(&console, &sequence).await?;
    let action = match verb.as_str() {
        "redrive" => Action::Redrive,
        "drop" => Action::Drop,
        "mend" => match mended(&letter, posted.required_long("payload")?) {
            Ok(action) => action,
            Err(why) => return one(&console, &letter, Some(format!("Nothing was sent: {why}"))),
        },
        other => return Err(Failed::missing(format!("There is no action `{other}`."))),
    };
    let reason = posted.why("why")?;
    let (broker, stream) = kept(console.broker.as_ref()).await?;
    let about = format!("dead letter {} of {} to {}", letter.sequence, letter.stream, letter.consumer);
    let done = action.done();
    let recorded = console.record(action.word(), about, letter.saga, reason).await?;
    let acted = dead_letter::act(&broker, &stream, &console.topology, action, letter.sequence).await;
    Console::<C>::recorded(recorded, came(&acted, done)).await;
    match acted? {
        Outcome::Done => {
            let done = [("done", verb.as_str()), ("letter", &letter.sequence.to_string())];
            Ok(Redirect::to(&link("/dead-letters", done)).into_response())
        }
        Outcome::Gone => Err(Failed::missing("Somebody else was faster: it is not there any more.")),
        Outcome::Left(why) => one(&console, &letter, Some(format!("It is left where it is: {why}."))),
    }
}

/// What came of it, in a line; `done`: where it was done.
fn came(acted: &anyhow::Result<Outcome>, done: &str) -> String {
    match acted {
        Ok(Outcome::Done) => done.to_owned(),
        Ok(Outcome::Gone) => "nothing: it was gone already".to_owned(),
        Ok(Outcome::Left(why)) => format!("left where it is: {why}"),
        Err(error) => format!("failed: {}", causes(error)),
    }
}
