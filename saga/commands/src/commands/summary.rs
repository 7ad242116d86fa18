//! What came of replaying every history: counted by outcome, the divergences and the unreadable ones named.

use std::collections::BTreeMap;

use saga::{Divergence, Exportable as _, State, Transcript, Unreadable};
use saga_runtime::Saga;
use serde::Serialize;

use super::phrases;
use super::select::Select;
use crate::command_line::CommandLine;
use crate::output::{plain, table};

/// How many of each are named; all are counted.
const NAMED: usize = 100;

/// What one worker, or all of them, found.
#[derive(Debug, Default, Serialize)]
pub struct Summary {
    /// Histories decided again.
    pub histories: u64,
    /// Their entries.
    pub entries: u64,
    /// How the sagas stand.
    pub outcomes: BTreeMap<&'static str, u64>,
    /// Where this build decides otherwise.
    pub divergences: Named<Diverged>,
    /// What this build cannot read.
    pub unreadable: Named<NotRead>,
    /// How long it took.
    pub seconds: f64,
    /// How many a second.
    pub histories_per_s: f64,
}

/// A count, and the first of what was counted, by line.
#[derive(Debug, Serialize)]
#[serde(bound = "T: Serialize")]
pub struct Named<T> {
    /// How many.
    pub count: u64,
    /// The first of them.
    #[serde(serialize_with = "values")]
    pub first: BTreeMap<u64, T>,
}

/// A history this build decides otherwise.
#[derive(Debug, Serialize)]
pub struct Diverged {
    /// The saga's id, under its kind.
    #[serde(flatten)]
    pub saga: BTreeMap<&'static str, String>,
    /// The first place where.
    #[serde(flatten)]
    pub divergence: Divergence,
}

/// A line that is no history to this build.
#[derive(Debug, Serialize)]
pub struct NotRead {
    /// The line, from 1.
    pub line: u64,
    /// Why.
    pub why: String,
}

impl Summary {
    /// Decides the history on a line again; `false` where it is not one of those that are wanted.
    pub fn take<C: CommandLine>(&mut self, number: u64, line: &[u8], select: &Select<C>) -> bool {
        match read::<C>(line) {
            Err(why) => self.unreadable.add(number, NotRead { line: number, why }),
            Ok(transcript) if !select.wants(&transcript) => return false,
            Ok(transcript) => {
                self.histories += 1;
                self.entries += transcript.entries.len() as u64;
                let status = transcript.state().map_or_else(|| C::Saga::status(&State::new()), C::Saga::status);
                *self.outcomes.entry(status).or_default() += 1;
                if let Some(divergence) = transcript.divergence() {
                    let saga = [(C::Saga::NAME, transcript.plan.id().to_string())].into();
                    self.divergences.add(number, Diverged { saga, divergence });
                }
            }
        }
        true
    }

    /// Adds what another found.
    pub fn merge(&mut self, other: Self) {
        self.histories += other.histories;
        self.entries += other.entries;
        for (status, count) in other.outcomes {
            *self.outcomes.entry(status).or_default() += count;
        }
        self.divergences.merge(other.divergences);
        self.unreadable.merge(other.unreadable);
    }

    /// Whether every history was read and decided again as it was.
    pub fn is_clean(&self) -> bool {
        self.divergences.count == 0 && self.unreadable.count == 0
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut text = String::new();
        if self.divergences.count > 0 {
            let cell = |value: &serde_json::Value| value.to_string();
            let rows = self.divergences.first.values().map(|Diverged { saga, divergence: d }| {
                vec![
                    saga.values().next().cloned().unwrap_or_default(),
                    d.sequence.to_string(),
                    d.field.clone(),
                    cell(&d.recorded),
                    cell(&d.now),
                ]
            });
            text += &table(&["DIVERGES", "ENTRY", "FIELD", "RECORDED", "NOW"], rows);
            text += &self.divergences.more();
        }
        if self.unreadable.count > 0 {
            let rows = self.unreadable.first.values().map(|NotRead { line, why }| vec![line.to_string(), why.clone()]);
            text += &table(&["UNREADABLE LINE", "WHY"], rows);
            text += &self.unreadable.more();
        }
        for (status, count) in &self.outcomes {
            text += &format!("{status:<11} {count:>9}\n");
        }
        let Self { histories, entries, seconds, histories_per_s, .. } = self;
        text +=
            &format!("replayed {histories} histories, {entries} entries in {seconds:.2} s ({histories_per_s:.0} histories/s): ");
        text += &match (self.divergences.count, self.unreadable.count) {
            (0, 0) => "no divergence".to_owned(),
            (diverged, 0) => phrases::count(diverged, "diverges", "diverge"),
            (0, unreadable) => format!("{unreadable} cannot be read"),
            (diverged, unreadable) => format!("{}, {unreadable} cannot be read", phrases::count(diverged, "diverges", "diverge")),
        };
        text
    }
}

fn read<C: CommandLine>(line: &[u8]) -> Result<Transcript<C::Saga>, String> {
    let text = std::str::from_utf8(line).map_err(|error| error.to_string())?;
    let transcript = Transcript::<C::Saga>::read(text).map_err(|error: Unreadable| plain(error.to_string()))?;
    if transcript.entries.is_empty() {
        Err(format!("{}: a saga without its history", transcript.plan.id()))
    } else {
        Ok(transcript)
    }
}

impl<T> Named<T> {
    fn add(&mut self, line: u64, what: T) {
        self.count += 1;
        self.first.insert(line, what);
        self.cut();
    }

    fn merge(&mut self, mut other: Self) {
        self.count += other.count;
        self.first.append(&mut other.first);
        self.cut();
    }

    fn cut(&mut self) {
        while self.first.len() > NAMED {
            self.first.pop_last();
        }
    }

    fn more(&self) -> String {
        match self.count - self.first.len() as u64 {
            0 => "\n\n".to_owned(),
            more => format!("\nand {more} more\n\n"),
        }
    }
}

impl<T> Default for Named<T> {
    fn default() -> Self {
        Self { count: 0, first: BTreeMap::new() }
    }
}

fn values<T: Serialize, S: serde::Serializer>(map: &BTreeMap<u64, T>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(map.values())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_named_is_capped_and_what_is_counted_is_not() {
        let (mut one, mut other) = (Summary::default(), Summary::default());
        for line in 0..300 {
            let summary = if line % 2 == 0 { &mut one } else { &mut other };
            summary.unreadable.add(line, NotRead { line, why: "no JSON".to_owned() });
        }
        one.merge(other);
        assert_eq!((one.unreadable.count, one.unreadable.first.len()), (300, NAMED));
        assert_eq!(one.unreadable.first.keys().copied().collect::<Vec<_>>(), (0..100).collect::<Vec<_>>(), "the first by line");
        assert!(!one.is_clean());
        let text = one.text();
        assert!(text.contains("and 200 more") && text.ends_with(": 300 cannot be read"), "{text}");
    }
}
