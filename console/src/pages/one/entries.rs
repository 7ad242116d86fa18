//! The entries of a saga, a row each: what came, what was decided, what was sent, where it stood afterwards.

use chrono::{DateTime, Utc};
use saga::{State, Transcript};
use saga_commands::{CommandLine, age, phrases};

use crate::words::{exact, json};

/// An entry as a row.
pub struct Entry {
    pub sequence: u32,
    pub time: String,
    /// The time of day; where the day is another than before, with it.
    pub shown: String,
    /// How long after the one before.
    pub elapsed: String,
    pub came: String,
    pub decided: String,
    pub sent: Vec<String>,
    pub phase: &'static str,
    /// How far each step is.
    pub steps: Vec<(String, String)>,
    /// The whole entry.
    pub json: String,
    /// Whether it is the one looked at.
    pub chosen: bool,
}

/// The entries; `at`: the one looked at.
pub fn of<C: CommandLine>(transcript: &Transcript<C::Saga>, at: Option<u32>) -> Vec<Entry> {
    let (mut before, mut last) = (State::new(), None);
    let entry = |entry: &saga::Entry<C::Saga>| {
        let since = last.replace(entry.time);
        let elapsed = since.map(|last: DateTime<Utc>| format!("+{}", age::show(entry.time - last)));
        let same_day = since.is_some_and(|last| last.date_naive() == entry.time.date_naive());
        let form = if same_day { "%H:%M:%S%.3f" } else { "%-d %b, %H:%M:%S%.3f" };
        let decided = phrases::decided::<C>(&before, entry.verdict, &entry.state);
        before = entry.state.clone();
        let progress = |(step, progress)| (phrases::name(step), phrases::progress(&serde_json::json!(progress)));
        Entry {
            sequence: entry.sequence,
            time: exact(entry.time),
            shown: entry.time.format(form).to_string(),
            elapsed: elapsed.unwrap_or_default(),
            came: phrases::came::<C>(&transcript.plan, &entry.input),
            decided,
            sent: entry.sent.iter().map(|effect| phrases::effect::<C>(effect, &entry.state)).collect(),
            phase: phrases::phase(entry.state.phase()),
            steps: entry.state.steps().map(progress).collect(),
            json: json(entry),
            chosen: at == Some(entry.sequence),
        }
    };
    transcript.entries.iter().map(entry).collect()
}
