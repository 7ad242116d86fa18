//! The overview: what flows, how fast, what waits, and how each service is.

use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use saga_commands::CommandLine;
use saga_commands::output::plain;

use crate::chart::Curve;
use crate::failed::{Failed, page};
use crate::frame::Frame;
use crate::samples::{KEPT, Place, Sample, quantile, rates};
use crate::setup::Console;
use crate::words::count;

#[derive(Template)]
#[template(path = "overview.html")]
struct Page {
    frame: Frame,
    figures: Vec<Figure>,
    places: Vec<Service>,
    /// Whether the service that runs the sagas answers.
    answers: bool,
}

/// A number, and how it came to be.
struct Figure {
    name: &'static str,
    value: String,
    /// What else there is to say.
    beside: String,
    path: &'static str,
    bad: bool,
    curves: Vec<(&'static str, Curve)>,
    most: String,
}

/// A service at an address.
pub struct Service {
    pub service: String,
    pub address: String,
    pub version: String,
    pub state: &'static str,
    pub class: &'static str,
    pub says: Vec<String>,
    pub outbox: String,
    pub oldest: String,
}

impl Service {
    /// As it is shown.
    pub fn of(place: Place) -> Self {
        let (state, class) = match place.ready {
            Some(true) => ("ready", "good"),
            Some(false) => ("not ready", "bad"),
            None => ("no answer", "bad"),
        };
        let (rows, oldest) = place.outbox.map_or((String::new(), String::new()), |(rows, oldest)| (count(rows), seconds(oldest)));
        let says = place.says.into_iter().map(plain).collect();
        let Place { service, address, version, .. } = place;
        Self { service, address, version, state, class, says, outbox: rows, oldest }
    }
}

fn rate(value: f64) -> String {
    if value > 0.0 && value < 10.0 { format!("{value:.1}") } else { count(value) }
}

fn seconds(value: f64) -> String {
    match value {
        value if value <= 0.0 => "0 ms".to_owned(),
        value if value < 1.0 => format!("{:.0} ms", value * 1_000.0),
        value => format!("{value:.1} s"),
    }
}

fn shown(value: Option<f64>, show: impl Fn(f64) -> String) -> String {
    value.map_or_else(|| "–".to_owned(), show)
}

/// The page.
pub async fn show<C: CommandLine>(State(console): State<Arc<Console<C>>>) -> Result<Response, Failed> {
    let samples = console.samples.all();
    let places: Vec<Service> = console.samples.places().into_iter().map(Service::of).collect();
    let answers = samples.last().is_none_or(Sample::answered);
    page(&Page { frame: Frame::of(&console, "/"), figures: figures(&samples), places, answers })
}

fn figures(samples: &[Sample]) -> Vec<Figure> {
    let last = samples.len().saturating_sub(1);
    let each = |value: &dyn Fn(usize) -> Option<f64>| (0..samples.len()).map(value).collect::<Vec<_>>();
    let ended = |at| rates(samples, at).map(|rates| rates.values().sum::<f64>());
    let by_status = rates(samples, last).unwrap_or_default();
    let by_status: Vec<String> = by_status.iter().map(|(status, each)| format!("{status} {}", rate(*each))).collect();
    let quick = |at| quantile(samples, at, 0.5);
    let slow = |at| quantile(samples, at, 0.99);
    let curve = |name, value: &dyn Fn(usize) -> Option<f64>| (name, Curve::through(&each(value), KEPT));
    let figure =
        |name, path, value: String, beside: String, bad, curves: Vec<(&'static str, Curve)>, show: &dyn Fn(f64) -> String| {
            let most = curves.iter().map(|(_, curve)| curve.most).fold(0.0, f64::max);
            Figure { name, value, beside, path, bad, curves, most: show(most) }
        };
    // `alarms`: any is too many.
    let counted = |name, path, alarms, of: &dyn Fn(&Sample) -> Option<f64>| {
        let value = |at: usize| of(samples.get(at)?);
        let now = value(last);
        let bad = alarms && now.is_some_and(|now| now > 0.0);
        figure(name, path, shown(now, count), String::new(), bad, vec![curve("all", &value)], &count)
    };
    vec![
        figure(
            "Final a second",
            "/sagas",
            shown(ended(last), rate),
            by_status.join(", "),
            false,
            vec![curve("all", &ended)],
            &rate,
        ),
        figure(
            "Time to final, p50",
            "/sagas",
            shown(quick(last), seconds),
            format!("p99 {}", shown(slow(last), seconds)),
            false,
            vec![curve("p99", &slow), curve("p50", &quick)],
            &seconds,
        ),
        counted("In flight", "/sagas", false, &|sample| sample.in_flight),
        counted("Stuck", "/attention", true, &|sample| sample.stuck),
        counted("Dead letters", "/dead-letters", true, &|sample| sample.letters),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_shown_short() {
        assert_eq!(
            (count(1_234_567.0), count(0.0), rate(3.21), rate(5_200.4)),
            ("1\u{202f}234\u{202f}567".into(), "0".into(), "3.2".into(), "5\u{202f}200".into())
        );
        assert_eq!((seconds(0.0471), seconds(2.5), shown(None, count)), ("47 ms".into(), "2.5 s".into(), "–".into()));
    }
}
