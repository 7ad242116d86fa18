//! A saga from the broker alone. Once it has ended, its last event carries its whole history. Before that, what the streams hold is
//! folded: they carry what was answered, but neither timers nor cancellations nor operators. What cannot be known is said, not guessed.

use anyhow::Context as _;
use async_nats::jetstream::consumer::DeliverPolicy;
use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::stream::{DirectGetErrorKind, Stream};
use chassis::broker::Broker;
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use envelope::{CloudEvent, Message as _, event_subject, split_batch};
use saga::{Entry, Exportable as _, IgnoredBecause, Input, Milestone, Phase, Plan, Recording, State, Transcript, Verdict, apply};
use saga_runtime::Saga;
use saga_runtime::steps::reply_consumers;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::phrases;
use super::source::{self, Found};
use crate::broker::{Reader, Stored, stream};
use crate::client::Gateway;
use crate::command_line::{Claim, CommandLine, History, Told};

/// A reply may be stored before the event that says the saga began: they are published side by side.
const BEFORE: TimeDelta = TimeDelta::seconds(60);

type Event<C> = <<C as CommandLine>::Saga as Saga>::Event;
type Reply<C> = <<C as CommandLine>::Saga as Plan>::Reply;

/// Reads the saga. `service`: where a history is claimed that was too large for the broker.
pub async fn load<C: CommandLine>(broker: &Broker, id: Uuid, service: &Gateway) -> anyhow::Result<Found<C>> {
    let (name, events) = (C::Saga::NAME, stream(broker, C::Saga::EVENTS.name).await?);
    let compensating = C::event(Milestone::Compensating, &State::new());
    let started = C::event(Milestone::Started, &State::new());
    let mut last: Option<(Stored, Event<C>)> = None;
    for word in C::Saga::STATUSES.iter().filter(|word| word.is_final) {
        let found = newest::<C>(&events, word.name, id).await?;
        last = last.into_iter().chain(found).max_by_key(|(stored, _)| stored.sequence);
    }
    let back = newest::<C>(&events, compensating, id).await?;
    if let Some((stored, event)) = last {
        let told = told::<C>(&event)?;
        let transcript = match &told.history {
            History::Whole(entries) => Transcript::of_entries(told.saga, entries)?,
            History::Claimed(claim) => claimed::<C>(told.saga, claim, service).await?,
            History::Open => anyhow::bail!("the event that tells how this {name} ended does not carry its history"),
        };
        let mut found = Found::whole(transcript);
        if let Some((later, _)) = back.filter(|(later, _)| later.sequence > stored.sequence) {
            found.gaps.push(format!("the {name} went back at {}, after this history was told", moment(later.time)));
        }
        return Ok(found);
    }
    let state = events.cached_info().state.clone();
    let began = newest::<C>(&events, started, id).await?.with_context(|| {
        let since = if state.first_sequence > 1 {
            format!(" (it keeps nothing before {})", moment(state.first_timestamp))
        } else {
            String::new()
        };
        format!("the broker holds no event of the {name} {id}{since}")
    })?;
    from_streams::<C>(broker, began, back).await
}

/// What an event says, if that is enough.
fn told<C: CommandLine>(event: &Event<C>) -> anyhow::Result<Told<'_, C::Saga>> {
    C::told(event).with_context(|| format!("the events of a {} do not say enough to replay from them", C::Saga::NAME))
}

/// A saga whose history was too large for its last event: read where its service has it, and compared with what the event says of it. The
/// path is made here, so that a message cannot send us anywhere else.
async fn claimed<C: CommandLine>(saga: C::Saga, claim: &Claim, service: &Gateway) -> anyhow::Result<Transcript<C::Saga>> {
    let (length, whom) = (claim.length, C::SERVICE.name);
    let entries = source::entries_from_service::<C>(service, saga.id(), claim.entries).await.with_context(|| {
        format!(
            "the history of {length} bytes was too large for the broker, and the {whom}, which keeps it, cannot be asked for it"
        )
    })?;
    (claim.verify)(&entries).map_err(|why| anyhow::anyhow!("not the history that is meant: {why}"))?;
    Ok(Transcript::of_entries(saga, &entries)?)
}

/// The newest event of one kind about a saga.
async fn newest<C: CommandLine>(events: &Stream, word: &str, id: Uuid) -> anyhow::Result<Option<(Stored, Event<C>)>> {
    let name = C::Saga::EVENTS.name;
    let message = match events.direct_get_last_for_subject(event_subject(C::Saga::NAME, word, &id)).await {
        Ok(message) => message,
        Err(error) if error.kind() == DirectGetErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("{name} cannot be read")),
    };
    let kind = message.headers.get("ce-type").map(|kind| kind.as_str().to_owned()).context("an event without its type")?;
    let data: &RawValue = serde_json::from_slice(&message.payload)?;
    let event = Event::<C>::decode(&kind, data).with_context(|| format!("the message {} of {name}", message.sequence))?;
    let StreamMessage { subject, sequence, headers, payload, time } = message;
    Ok(Some((Stored { subject: subject.into_string(), sequence, time, headers, payload }, event)))
}

async fn from_streams<C: CommandLine>(
    broker: &Broker,
    (began, event): (Stored, Event<C>),
    back: Option<(Stored, Event<C>)>,
) -> anyhow::Result<Found<C>> {
    let saga = told::<C>(&event)?.saga;
    let mut gaps = vec!["the saga is still open: timers, cancellations and operator actions are not stored in NATS".to_owned()];
    let mut answers: Vec<(DateTime<Utc>, Reply<C>)> = Vec::new();
    for consumer in reply_consumers::<C::Saga>() {
        answers.extend(replies::<C>(broker, consumer.stream, saga.id(), began.time - BEFORE, &mut gaps).await?);
    }
    answers.sort_by_key(|(time, _)| *time);
    let mut fold = Fold::<C>::new(saga, gaps);
    fold.take(began.time, Input::Start);
    answers.into_iter().for_each(|(time, answer)| fold.take(time, Input::Reply(answer)));
    if let Some((stored, event)) = back {
        fold.turned(stored.time, told::<C>(&event)?.reason);
    }
    Ok(Found { transcript: Transcript { plan: fold.saga, entries: fold.entries }, recorded: false, gaps: fold.gaps })
}

/// What a stream of replies still holds about a saga.
async fn replies<C: CommandLine>(
    broker: &Broker,
    name: &str,
    id: Uuid,
    since: DateTime<Utc>,
    gaps: &mut Vec<String>,
) -> anyhow::Result<Vec<(DateTime<Utc>, Reply<C>)>> {
    let stream = stream(broker, name).await?;
    let state = &stream.cached_info().state;
    if state.first_sequence > 1 && (state.messages == 0 || state.first_timestamp > since) {
        let since = if state.messages == 0 {
            "anything".to_owned()
        } else {
            format!("what came before {}", moment(state.first_timestamp))
        };
        gaps.push(format!("{name} no longer holds {since}: an answer may be missing"));
    }
    let wanted = id.to_string();
    let mut found = Vec::new();
    let mut reader = Reader::open(&stream, "", DeliverPolicy::ByStartTime { start_time: since }).await?;
    while let Some(stored) = reader.next().await? {
        let Ok(batch) = split_batch(&stored.payload) else { continue };
        // Looked at before it is read: nearly all of them are about other sagas.
        for json in batch.into_iter().filter(|json| json.get().contains(&wanted)) {
            match CloudEvent::<Reply<C>>::decode(json) {
                Ok(event) if event.subject == wanted => found.push((stored.time, event.message)),
                Ok(_) => {}
                Err(error) => gaps.push(format!("an answer in message {} of {name} cannot be read: {error}", stored.sequence)),
            }
        }
    }
    Ok(found)
}

/// A history in the making, from inputs without their decisions.
#[derive(Debug)]
pub struct Fold<C: CommandLine> {
    saga: C::Saga,
    /// What was made of the inputs.
    pub entries: Vec<Entry<C::Saga>>,
    /// What is missing, or cannot be known.
    pub gaps: Vec<String>,
}

impl<C: CommandLine> Fold<C> {
    /// Nothing yet, and what is known to be missing.
    pub fn new(saga: C::Saga, gaps: Vec<String>) -> Self {
        Self { saga, entries: Vec::new(), gaps }
    }

    /// The next input; one that does not fit is a gap.
    pub fn take(&mut self, time: DateTime<Utc>, input: Input<C::Saga>) {
        let mut state = self.entries.last().map_or_else(State::new, |entry| entry.state.clone());
        let last = self.entries.len() as u32;
        let applied = apply(&self.saga, &mut state, last, input.clone(), Recording::at(time));
        self.entries.extend(applied.entry);
        match applied.verdict {
            Verdict::Moved | Verdict::Ignored(IgnoredBecause::Repeated) => {}
            Verdict::Ignored(why) => self.gaps.push(format!(
                "after entry {last}, {} does not fit ({}): what came between is not on the broker",
                phrases::came::<C>(&self.saga, &input),
                phrases::ignored(why)
            )),
        }
    }

    /// An event says that the saga went back: a gap, where nothing on the broker made it go back.
    pub fn turned(&mut self, time: DateTime<Utc>, reason: Option<String>) {
        let phase = self.entries.last().map(|entry| entry.state.phase());
        if matches!(phase, Some(Phase::Compensating(_) | Phase::Compensated(_))) {
            return;
        }
        let reason = reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
        let (name, time) = (C::Saga::NAME, moment(time));
        self.gaps.push(format!("the {name} went back at {time}{reason}: what made it is not on the broker"));
    }
}

fn moment(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Millis, true)
}
