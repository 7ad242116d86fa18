//! A saga's steps in time: a lane each, in it a bar for the step and one for its compensation, with a mark for every attempt.

use chrono::{DateTime, TimeDelta, Utc};
use saga::{Direction, Effect, Plan, Progress, Transcript};
use saga_commands::{CommandLine, age, phrases};

use crate::words::clock;

/// How wide the drawing is, in units of its own: it is stretched to what room there is.
const WIDTH: f64 = 1_000.0;

/// How it is with what still goes on.
const WAITING: &str = "waiting";

/// A pause in which nobody was waited for takes at most this share of the time in which somebody was.
const PAUSE: f64 = 0.2;

/// The drawing.
#[derive(Default)]
pub struct Chart {
    pub lanes: Vec<Lane>,
    /// Where the pauses are that are drawn shorter than they were, and how long they were.
    pub pauses: Vec<(Span, String)>,
    /// From the first entry to the last, or to now.
    pub took: String,
    /// The two.
    pub span: [String; 2],
    /// Where the entry is that is looked at.
    pub cursor: Option<f64>,
}

/// One step.
pub struct Lane {
    pub step: String,
    pub whom: String,
    pub bars: Vec<Bar>,
}

/// A stretch of the drawing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Span {
    pub x: f64,
    pub width: f64,
}

/// One way of a step: done, or undone.
pub struct Bar {
    pub span: Span,
    /// `execute` or `compensate`, and how it ended.
    pub class: String,
    /// Where each attempt was sent.
    pub attempts: Vec<f64>,
    pub title: String,
}

type Step<C> = <<C as CommandLine>::Saga as Plan>::Step;

/// A bar before anything is known of the room.
struct Stretch<S> {
    step: S,
    direction: Direction,
    attempts: Vec<DateTime<Utc>>,
    end: Option<DateTime<Utc>>,
    how: &'static str,
}

impl Chart {
    /// Of a saga; `end`: its end, or now; `at`: the entry that is looked at.
    pub fn of<C: CommandLine>(transcript: &Transcript<C::Saga>, end: DateTime<Utc>, at: Option<u32>) -> Self {
        let Some(first) = transcript.entries.first() else { return Self::default() };
        let stretches = stretches::<C>(transcript);
        let mut moments: Vec<DateTime<Utc>> = transcript.entries.iter().map(|entry| entry.time).collect();
        moments.push(end.max(*moments.last().unwrap_or(&end)));
        moments.sort();
        moments.dedup();
        let end = *moments.last().unwrap_or(&end);
        let busy = |from: DateTime<Utc>, to: DateTime<Utc>| {
            stretches.iter().any(|stretch| stretch.attempts[0] <= from && stretch.end.unwrap_or(end) >= to)
        };
        let scale = Scale::new(&moments, busy);
        let mut lanes: Vec<Lane> = Vec::new();
        for stretch in &stretches {
            let step = phrases::name(stretch.step);
            let lane = match lanes.iter_mut().find(|lane| lane.step == step) {
                Some(lane) => lane,
                None => {
                    lanes.push(Lane { whom: phrases::service::<C>(stretch.step), step: step.clone(), bars: Vec::new() });
                    lanes.last_mut().expect("it was just added")
                }
            };
            lane.bars.push(bar(stretch, &scale, end));
        }
        let looked_at = transcript.entries.iter().find(|entry| Some(entry.sequence) == at);
        let cursor = looked_at.map(|entry| scale.x(entry.time));
        let pauses = scale.pauses.iter().map(|(from, to)| (scale.span(*from, *to), age::show(*to - *from))).collect();
        Self { lanes, pauses, took: age::show(end - first.time), span: [clock(first.time), clock(end)], cursor }
    }
}

fn bar<S>(stretch: &Stretch<S>, scale: &Scale, end: DateTime<Utc>) -> Bar {
    let Stretch { direction, attempts, end: ended, how, .. } = stretch;
    let (began, ended) = (attempts[0], ended.unwrap_or(end));
    let way = if *direction == Direction::Execute { "execute" } else { "compensate" };
    let verb = if *direction == Direction::Execute { "asked" } else { "asked to undo it" };
    // What still goes on has no end yet.
    let after = if *how == WAITING { "for" } else { "after" };
    let times = if attempts.len() > 1 { format!(", {} attempts recorded", attempts.len()) } else { String::new() };
    Bar {
        span: scale.span(began, ended),
        class: format!("{way} {how}"),
        attempts: attempts.iter().map(|at| scale.x(*at)).collect(),
        title: format!("{verb}, {how} {after} {}{times}", age::show(ended - began)),
    }
}

/// From when to when each step, and each compensation, was waited for.
fn stretches<C: CommandLine>(transcript: &Transcript<C::Saga>) -> Vec<Stretch<Step<C>>> {
    let mut stretches: Vec<Stretch<Step<C>>> = Vec::new();
    for entry in &transcript.entries {
        for stretch in stretches.iter_mut().filter(|stretch| stretch.end.is_none()) {
            let progress = entry.state.progress(stretch.step);
            let how = match (stretch.direction, progress) {
                (Direction::Execute, Some(Progress::Asked(_))) | (Direction::Compensate, Some(Progress::Undoing(_))) => continue,
                (_, Some(Progress::Done(_))) => "done",
                (_, Some(Progress::Refused)) => "refused",
                (_, Some(Progress::Undone(_))) => "undone",
                (_, Some(Progress::GivenUp(_))) => "given-up",
                _ => "unanswered",
            };
            (stretch.end, stretch.how) = (Some(entry.time), how);
        }
        for effect in &entry.sent {
            let (step, direction) = match effect {
                Effect::Execute { step, .. } => (*step, Direction::Execute),
                Effect::Compensate { step, .. } => (*step, Direction::Compensate),
                Effect::Notify(_) => continue,
            };
            let open =
                |stretch: &&mut Stretch<Step<C>>| stretch.end.is_none() && stretch.step == step && stretch.direction == direction;
            match stretches.iter_mut().find(open) {
                Some(stretch) => stretch.attempts.push(entry.time),
                None => stretches.push(Stretch { step, direction, attempts: vec![entry.time], end: None, how: WAITING }),
            }
        }
    }
    stretches
}

/// From moments to places: even, but for pauses in which nobody was waited for.
struct Scale {
    /// Each moment and its place.
    places: Vec<(DateTime<Utc>, f64)>,
    pauses: Vec<(DateTime<Utc>, DateTime<Utc>)>,
}

impl Scale {
    fn new(moments: &[DateTime<Utc>], busy: impl Fn(DateTime<Utc>, DateTime<Utc>) -> bool) -> Self {
        let seconds = |length: TimeDelta| length.num_microseconds().unwrap_or(i64::MAX) as f64 / 1e6;
        let gaps: Vec<(DateTime<Utc>, DateTime<Utc>, f64, bool)> =
            moments.windows(2).map(|two| (two[0], two[1], seconds(two[1] - two[0]), busy(two[0], two[1]))).collect();
        let active: f64 = gaps.iter().filter(|(.., busy)| *busy).map(|(_, _, gap, _)| gap).sum();
        let (mut places, mut pauses, mut at) = (vec![], vec![], 0.0);
        places.extend(moments.first().map(|first| (*first, 0.0)));
        for (from, to, gap, busy) in gaps {
            let longest = active * PAUSE;
            if !busy && active > 0.0 && gap > longest {
                pauses.push((from, to));
                at += longest;
            } else {
                at += gap;
            }
            places.push((to, at));
        }
        let whole = if at > 0.0 { at } else { 1.0 };
        places.iter_mut().for_each(|(_, place)| *place = *place / whole * WIDTH);
        Self { places, pauses }
    }

    /// The place of one of the moments.
    fn x(&self, moment: DateTime<Utc>) -> f64 {
        let after = self.places.partition_point(|(known, _)| *known < moment);
        let place = self.places.get(after).map_or(WIDTH, |(_, place)| *place);
        (place * 10.0).round() / 10.0
    }

    fn span(&self, from: DateTime<Utc>, to: DateTime<Utc>) -> Span {
        let x = self.x(from);
        // What took no time at all is seen all the same.
        Span { x, width: (self.x(to) - x).max(2.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_even_and_a_pause_in_which_nobody_was_waited_for_is_short() {
        let at = |seconds: i64| DateTime::from_timestamp(seconds, 0).unwrap();
        let scale = Scale::new(&[at(0), at(10), at(3_610), at(3_620)], |from, _| from != at(10));
        assert_eq!([at(0), at(10), at(3_610), at(3_620)].map(|moment| scale.x(moment)), [0.0, 416.7, 583.3, 1_000.0]);
        assert_eq!(scale.pauses, [(at(10), at(3_610))]);
        assert_eq!(scale.span(at(10), at(10)).width, 2.0);
        assert_eq!(Scale::new(&[at(7)], |_, _| false).x(at(7)), 0.0);
    }
}
