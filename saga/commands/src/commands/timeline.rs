//! A history as a timeline: a line an entry, each with how long after the one before it came.

use std::ops::Range;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use saga::{Effect, Entry, Plan as _, Progress, State, Transcript};
use saga_runtime::Saga;

use super::phrases;
use super::view::is_final;
use crate::command_line::CommandLine;
use crate::output::{plain, width};
use crate::{age, layout};

/// What a line of the timeline takes, with what is sent.
const WIDE: usize = 180;

/// Its columns, but for the last.
const COLUMNS: [usize; 5] = [4, 24, 12, 50, 36];

fn is_narrow() -> bool {
    width().is_some_and(|columns| columns < WIDE)
}

/// A line of cells. On a terminal a cell that is too long goes on below; in a pipe a line is a line.
fn cells(cells: [String; 6]) -> String {
    let before: usize = COLUMNS.iter().map(|columns| columns + 2).sum();
    let last = width().map_or(0, |columns| columns - before);
    let widths: Vec<usize> = COLUMNS.into_iter().chain([last]).collect();
    layout::row(&cells, &widths, width().is_some())
}

/// The line that says which entries are not there.
fn missing(sequences: Range<u32>) -> Option<String> {
    let which = match sequences.len() {
        0 => return None,
        1 => format!("entry {} is", sequences.start),
        _ => format!("entries {} to {} are", sequences.start, sequences.end - 1),
    };
    Some(format!("      {which} missing from the history\n"))
}

/// A timeline in the making: it remembers what the next line is measured against.
pub struct Timeline<C: CommandLine> {
    saga: C::Saga,
    first: Option<DateTime<Utc>>,
    last: Option<DateTime<Utc>>,
    ended: Option<DateTime<Utc>>,
    before: State<C::Saga>,
    sequence: u32,
    entries: u32,
    commands: u32,
    repeated: u32,
}

impl<C: CommandLine> Timeline<C> {
    /// A timeline without entries.
    pub fn new(saga: C::Saga) -> Self {
        let (first, last, ended) = (None, None, None);
        Self { saga, first, last, ended, before: State::new(), sequence: 0, entries: 0, commands: 0, repeated: 0 }
    }

    /// What stands above the entries.
    pub fn head(transcript: &Transcript<C::Saga>) -> String {
        let plan = transcript.state().map(State::plan_version).unwrap_or_default();
        let mut lines: Vec<String> = C::head(&transcript.plan).into_iter().map(plain).collect();
        let known = C::Saga::VERSIONS.iter().any(|(version, _)| *version == plan) || transcript.entries.is_empty();
        lines.push(format!("plan  version {plan}{}\n", if known { "" } else { ", which this build does not know" }));
        let text = lines.join("\n");
        if is_narrow() {
            return text.trim_end().to_owned() + "\n";
        }
        let header = ["   #", "TIME", "     ELAPSED", "WHAT CAME", "DECIDED", "SENT"];
        let header = cells(header.map(str::to_owned));
        format!("{text}\n{header}")
    }

    /// The line of the next entry; above it what is missing before it.
    pub fn line(&mut self, entry: &Entry<C::Saga>) -> String {
        let missing = missing(self.sequence + 1..entry.sequence);
        self.sequence = entry.sequence;
        missing.unwrap_or_default() + &if is_narrow() { self.lines(entry) } else { self.row(entry) }
    }

    /// As a row.
    fn row(&mut self, entry: &Entry<C::Saga>) -> String {
        let elapsed = self.last.map(|last| format!("+{}", age::show(entry.time - last))).unwrap_or_default();
        let line = cells([
            format!("{:>4}", entry.sequence),
            entry.time.to_rfc3339_opts(SecondsFormat::Millis, true),
            format!("{elapsed:>12}"),
            phrases::came::<C>(&self.saga, &entry.input),
            phrases::decided::<C>(&self.before, entry.verdict, &entry.state),
            phrases::sent::<C>(&entry.sent, &entry.state),
        ]);
        self.count(entry);
        line
    }

    /// The same in as many lines as a narrow terminal needs: what came, then what was decided and sent.
    fn lines(&mut self, entry: &Entry<C::Saga>) -> String {
        let elapsed = self.last.map(|last| format!("  +{}", age::show(entry.time - last))).unwrap_or_default();
        let time = entry.time.to_rfc3339_opts(SecondsFormat::Millis, true);
        let mut text = format!("{:>4}  {time}{elapsed}\n      {}", entry.sequence, phrases::came::<C>(&self.saga, &entry.input));
        text += &format!("\n      {}", phrases::decided::<C>(&self.before, entry.verdict, &entry.state));
        let sent = phrases::sent::<C>(&entry.sent, &entry.state);
        if !sent.is_empty() {
            text += &format!("\n      sent: {sent}");
        }
        self.count(entry);
        text
    }

    fn count(&mut self, entry: &Entry<C::Saga>) {
        self.entries += 1;
        // Those that have no entry of their own.
        for (step, _, before) in self.before.outstanding() {
            let unrecorded = entry.attempts.get(&step).map_or(0, |now| now.saturating_sub(before));
            self.commands += unrecorded;
            self.repeated += unrecorded;
        }
        for message in &entry.sent {
            if let Effect::Execute { attempt, .. } | Effect::Compensate { attempt, .. } = message {
                self.commands += 1;
                self.repeated += u32::from(*attempt > 1);
            }
        }
        self.first.get_or_insert(entry.time);
        self.last = Some(entry.time);
        if entry.state.phase() != self.before.phase() {
            self.ended = is_final(entry.state.phase()).then_some(entry.time);
        }
        self.before = entry.state.clone();
    }

    /// What stands below the entries: how it ended, or what it waits for.
    pub fn end(&self, now: DateTime<Utc>) -> String {
        let took = |until: DateTime<Utc>| age::show(self.first.map_or(TimeDelta::zero(), |first| until - first));
        let state = &self.before;
        let status = C::Saga::status(state);
        let mut text = match self.ended {
            Some(ended) => format!("{status} after {}", took(ended)),
            None => format!("{status}, {} so far", took(now)),
        };
        let repeated = if self.repeated > 0 { format!(" ({} repeated)", self.repeated) } else { String::new() };
        let entries = phrases::count(self.entries.into(), "entry", "entries");
        let commands = phrases::count(self.commands.into(), "command", "commands");
        text += &format!(": {entries}, {commands}{repeated}");
        for line in C::outcome(&self.saga, state) {
            text += &format!("\n{}", plain(line));
        }
        for (step, progress) in state.steps() {
            match progress {
                Progress::Undone(_) => text += &format!("\ncompensated: {}", phrases::name(step)),
                Progress::GivenUp(_) => {
                    text += &format!("\ngiven up, to be put right by hand: {}", phrases::name(step));
                    if let Some(command) = C::remedy(&self.saga, step) {
                        text += &format!("\n        if it still holds something: {command}");
                    }
                }
                _ => {}
            }
        }
        for (step, direction, attempts) in state.outstanding() {
            let (whom, what) = (phrases::service::<C>(step), phrases::outstanding(step, direction));
            let attempts = phrases::count(attempts.into(), "attempt", "attempts");
            text += &format!("\nwaiting for the {whom}: {what}, {attempts}");
        }
        text
    }

    /// Whether the saga came to an end.
    pub fn is_final(&self) -> bool {
        is_final(self.before.phase())
    }
}
