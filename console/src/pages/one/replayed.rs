//! One entry as this build decides it: the state before, the state after, and their difference; where the history says otherwise, both.

use saga::Transcript;
use saga_commands::{CommandLine, phrases};

use crate::changes::{Changed, Sides};
use crate::words::{exact, json};

/// An entry decided again, or why it was not.
pub struct Replayed {
    pub at: u32,
    pub last: u32,
    pub time: String,
    pub came: String,
    /// What this build decides; `None`: it does not come this far.
    pub now: Option<Now>,
    /// Where the history says otherwise.
    pub divergence: Option<Diverged>,
}

/// What this build decides.
pub struct Now {
    pub decided: String,
    pub sides: Sides,
    pub changes: Vec<Changed>,
    /// What it would send, each with its command.
    pub sends: Vec<(String, String)>,
}

/// What the history and this build disagree about.
pub struct Diverged {
    /// The entry where they part.
    pub sequence: u32,
    pub field: String,
    pub recorded: String,
    pub now: String,
}

/// The entry with this sequence; the nearest where there is none.
pub fn of<C: CommandLine>(transcript: &Transcript<C::Saga>, at: u32) -> Replayed {
    let last = transcript.entries.last().map_or(0, |entry| entry.sequence);
    let at = at.clamp(1.min(last), last);
    let replay = transcript.replay(Some(at));
    let plan = &transcript.plan;
    let recorded = transcript.entries.iter().find(|entry| entry.sequence == at);
    let step = replay.steps.iter().find(|step| step.entry.sequence == at);
    let now = step.map(|step| Now {
        decided: phrases::decided::<C>(&step.before, step.now.verdict, &step.now.state),
        sides: Sides::of(&step.before, &step.now.state),
        changes: Changed::all(&step.changes),
        sends: step
            .now
            .effects
            .iter()
            .map(|effect| {
                let command = step.now.state.command(plan, effect).map(|command| json(&command));
                (phrases::effect::<C>(effect, &step.now.state), command.unwrap_or_default())
            })
            .collect(),
    });
    let divergence = replay.divergence.as_ref().map(|divergence| Diverged {
        sequence: divergence.sequence,
        field: divergence.field.clone(),
        recorded: json(&divergence.recorded),
        now: json(&divergence.now),
    });
    Replayed {
        at,
        last,
        time: recorded.map(|entry| exact(entry.time)).unwrap_or_default(),
        came: recorded.map(|entry| phrases::came::<C>(plan, &entry.input)).unwrap_or_default(),
        now,
        divergence,
    }
}
