//! What is measured of sagas and their events. Each name bears the kind of saga in it or as a label.

use std::collections::BTreeMap;
use std::time::Instant;

use chassis::metrics::Metrics;
use chrono::{DateTime, Utc};
use metrics::{Counter, Histogram, counter, gauge, histogram};
use saga::{Direction, Kind, Progress, State, step_name};

use crate::plan_registry::Tally;
use crate::saga::{Record, Saga};

/// What is measured here, in the words of `# HELP`.
const HELP: [(&str, &str); 12] = [
    ("waybill_saga_seconds", "Time from when a saga began, or a completed one was cancelled, until its outcome stood."),
    ("waybill_step_seconds", "Time from the first command of a step until its reply, over all repetitions."),
    ("waybill_commands_repeated_total", "Commands sent again because there was no reply in time, or by an operator."),
    ("waybill_inputs_ignored_total", "Inputs that changed nothing, by why: late, repeated, or of no saga that is known."),
    (
        "waybill_sagas_in_flight",
        "Sagas that wait for somebody. The same at every instance of a service, as all of these counts are.",
    ),
    ("waybill_sagas_stuck", "Of these, sagas that have waited for one reply for too long, or that this build cannot continue."),
    ("waybill_sagas_unknown_plan", "Sagas of a plan version that this build does not know."),
    ("waybill_sagas_unreadable", "Sagas whose state this build cannot read."),
    ("waybill_sagas_set_aside", "Sagas that are due and could not be decided here; they are tried again."),
    ("waybill_events_checked_total", "Events looked for in their stream by a rebuild."),
    ("waybill_events_republished_total", "Events that were missing there and were published again."),
    ("waybill_events_rebuild_under_way", "1 at the instance that rebuilds the stream of events, else 0."),
];

/// What became of a command that was waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum StepEnd {
    /// The step is done.
    Done,
    /// The participant refused it.
    Refused,
    /// It is no longer waited for: its time was up, or the saga goes back for another reason.
    Abandoned,
    /// It is undone.
    Undone,
    /// An operator gave its compensation up.
    GivenUp,
}

impl StepEnd {
    const ALL: [Self; 5] = [Self::Done, Self::Refused, Self::Abandoned, Self::Undone, Self::GivenUp];

    /// What became of a command, by how far its step is now.
    fn of<S: Saga>(direction: Direction, now: Option<&Progress<S>>) -> Self {
        match (direction, now) {
            (Direction::Execute, Some(Progress::Done(_))) => Self::Done,
            (Direction::Execute, Some(Progress::Refused)) => Self::Refused,
            (Direction::Execute, _) => Self::Abandoned,
            (Direction::Compensate, Some(Progress::GivenUp(_))) => Self::GivenUp,
            (Direction::Compensate, _) => Self::Undone,
        }
    }

    fn direction(self) -> Direction {
        match self {
            Self::Done | Self::Refused | Self::Abandoned => Direction::Execute,
            Self::Undone | Self::GivenUp => Direction::Compensate,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Refused => "refused",
            Self::Abandoned => "abandoned",
            Self::Undone => "undone",
            Self::GivenUp => "given_up",
        }
    }
}

fn name_of(direction: Direction) -> &'static str {
    match direction {
        Direction::Execute => "execute",
        Direction::Compensate => "compensate",
    }
}

/// What a batch is found to have brought; counted once it is committed.
#[derive(Debug)]
pub(crate) struct Measured<S: Saga> {
    begun: Instant,
    now: DateTime<Utc>,
    steady: DateTime<Utc>,
    /// Commands no longer waited for, each with the seconds they were.
    steps: Vec<(S::Step, StepEnd, f64)>,
    /// Commands sent again, and how often.
    repeated: Vec<(S::Step, Direction, u32)>,
    /// Sagas that ended, each with its status and since when that was waited for.
    ended: Vec<(&'static str, f64)>,
}

impl<S: Saga> Measured<S> {
    /// Nothing yet. `now` and `steady`: the time of day and the steady clock, as the batch has them.
    pub fn new(now: DateTime<Utc>, steady: DateTime<Utc>) -> Self {
        Self { begun: Instant::now(), now, steady, steps: Vec::new(), repeated: Vec::new(), ended: Vec::new() }
    }

    /// A saga as the batch found it and leaves it, with its timers still from before; `ended`: since when its outcome, which is told now, was
    /// waited for.
    pub fn saga(&mut self, before: &State<S>, record: &Record<S>, ended: Option<DateTime<Utc>>) {
        let state = &record.state;
        for (step, direction, attempt) in before.outstanding() {
            match attempt_now(state, step, direction) {
                Some(again) if again > attempt => {
                    self.repeated.push((step, direction, again - attempt));
                }
                Some(_) => {}
                None => {
                    if let Some(timer) = record.timers.get(step) {
                        let end = StepEnd::of::<S>(direction, state.progress(step));
                        self.steps.push((step, end, seconds(timer.since, self.steady)));
                    }
                }
            }
        }
        if let Some(since) = ended {
            self.ended.push((record.status(), seconds(since, self.now)));
        }
    }
}

/// How often a command that is still waited for was sent.
fn attempt_now<S: Saga>(state: &State<S>, step: S::Step, direction: Direction) -> Option<u32> {
    match (direction, state.progress(step)?) {
        (Direction::Execute, Progress::Asked(attempt)) | (Direction::Compensate, Progress::Undoing(attempt)) => Some(*attempt),
        _ => None,
    }
}

fn seconds(since: DateTime<Utc>, now: DateTime<Utc>) -> f64 {
    (now - since).as_seconds_f64().max(0.0)
}

/// The metrics of one kind of saga: found once, so that counting looks nothing up by name.
pub(crate) struct SagaMetrics<S: Saga> {
    metrics: Metrics,
    ended: BTreeMap<&'static str, (Counter, Histogram)>,
    steps: BTreeMap<(S::Step, StepEnd), Histogram>,
    repeated: BTreeMap<(S::Step, Direction), Counter>,
}

impl<S: Saga> SagaMetrics<S> {
    /// Those of a service. Every series is there from the start: a counter that begins at one shows no increase.
    pub fn new(metrics: Metrics) -> Self {
        let (ended_total, left) = (Self::ended_total(), Self::rebuild_left());
        HELP.iter().for_each(|(name, help)| metrics.describe(*name, help));
        metrics.describe(
            ended_total.clone(),
            "Sagas that ended, by status. One that is cancelled after it was completed ends twice.",
        );
        metrics.describe(left, "Sagas that a rebuild of the stream of events has still to look at, counted up to a limit.");
        let (mut ended, mut steps, mut repeated) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        metrics.record(|| {
            let _ = counter!("waybill_events_checked_total");
            let _ = counter!("waybill_events_republished_total");
            let _ = counter!("waybill_inputs_ignored_total", "reason" => format!("unknown_{}", S::NAME));
            for word in S::STATUSES.iter().filter(|word| word.is_final) {
                let counter = counter!(ended_total.clone(), "status" => word.name);
                let labels = [("saga", S::NAME), ("status", word.name)];
                ended.insert(word.name, (counter, histogram!("waybill_saga_seconds", &labels)));
            }
            for spec in S::VERSIONS.iter().flat_map(|(_, stages)| stages.iter().flatten()) {
                let can_be_undone = matches!(spec.kind, Kind::Compensatable { .. });
                for end in StepEnd::ALL.into_iter().filter(|end| can_be_undone || end.direction() == Direction::Execute) {
                    let (direction, step) = (end.direction(), step_name::<S>(spec.step));
                    let labels = [("saga", S::NAME.to_owned()), ("step", step), ("direction", name_of(direction).to_owned())];
                    repeated.insert((spec.step, direction), counter!("waybill_commands_repeated_total", &labels));
                    let [saga, step, direction] = labels;
                    let labels = [saga, step, direction, ("outcome", end.name().to_owned())];
                    steps.insert((spec.step, end), histogram!("waybill_step_seconds", &labels));
                }
            }
        });
        Self { metrics, ended, steps, repeated }
    }

    fn ended_total() -> String {
        format!("waybill_{}s_ended_total", S::NAME)
    }

    fn rebuild_left() -> String {
        format!("waybill_events_rebuild_{}s_left", S::NAME)
    }

    /// Counts what a batch brought.
    pub fn count(&self, measured: &Measured<S>) {
        let since = measured.begun.elapsed().as_secs_f64();
        for (step, end, seconds) in &measured.steps {
            if let Some(histogram) = self.steps.get(&(*step, *end)) {
                histogram.record(*seconds);
            }
        }
        for (step, direction, times) in &measured.repeated {
            if let Some(counter) = self.repeated.get(&(*step, *direction)) {
                counter.increment(u64::from(*times));
            }
        }
        for (status, seconds) in &measured.ended {
            if let Some((counter, histogram)) = self.ended.get(status) {
                counter.increment(1);
                // Whoever waits is told after the commit.
                histogram.record(seconds + since);
            }
        }
    }

    /// Inputs changed nothing, and why: one of a closed set of words.
    pub fn ignored(&self, reason: &'static str, inputs: u64) {
        self.metrics.record(|| counter!("waybill_inputs_ignored_total", "reason" => reason).increment(inputs));
    }

    /// Replies came for sagas that nobody knows.
    pub fn unknown(&self, replies: u64) {
        let reason = format!("unknown_{}", S::NAME);
        self.metrics.record(|| counter!("waybill_inputs_ignored_total", "reason" => reason).increment(replies));
    }

    /// How many sagas are in flight, and how many of them are in what kind of trouble.
    pub fn sagas(&self, tally: &Tally) {
        self.metrics.record(|| {
            gauge!("waybill_sagas_in_flight").set(tally.in_flight as f64);
            gauge!("waybill_sagas_stuck").set(tally.stuck as f64);
            gauge!("waybill_sagas_unknown_plan").set(tally.unknown_plan() as f64);
            gauge!("waybill_sagas_unreadable").set(tally.unreadable as f64);
        });
    }

    /// How many sagas that are due could not be decided, and wait to be tried again.
    pub fn set_aside(&self, sagas: usize) {
        self.metrics.record(|| gauge!("waybill_sagas_set_aside").set(sagas as f64));
    }

    /// Events were looked for in their stream, and published again where they were missing.
    pub fn events_rebuilt(&self, checked: i64, published: i64) {
        self.metrics.record(|| {
            counter!("waybill_events_checked_total").increment(checked.unsigned_abs());
            counter!("waybill_events_republished_total").increment(published.unsigned_abs());
        });
    }

    /// How many sagas a rebuild of the events has still to look at; none where none is under way here.
    pub fn events_rebuild(&self, left: Option<i64>) {
        self.metrics.record(|| {
            gauge!("waybill_events_rebuild_under_way").set(if left.is_some() { 1.0 } else { 0.0 });
            gauge!(Self::rebuild_left()).set(left.unwrap_or_default() as f64);
        });
    }
}
