//! The charts of latency: by percentile, and against the load.

use super::super::result::Run;
use super::html::section;
use super::plot::{Axis, Series, plain, plot};

/// The marks on a latency curve.
const PERCENTILES: [(f64, &str); 6] =
    [(0.0, "0%"), (0.5, "50%"), (0.9, "90%"), (0.99, "99%"), (0.999, "99.9%"), (0.9999, "99.99%")];

/// Points of a latency curve.
const POINTS: u32 = 160;

/// How far to the right a quantile lies: each nine as far as the one before.
pub fn nines(quantile: f64) -> f64 {
    -(1.0 - quantile).log10()
}

/// Latency by percentile, one curve a run.
pub fn distribution(runs: &[Run], labels: &[String]) -> String {
    let most = runs.iter().map(|run| run.latency.len()).max().unwrap_or(0).max(10);
    let end = (most as f64).log10();
    let series: Vec<Series> = runs.iter().zip(labels).map(|(run, label)| curve(run, label)).collect();
    let ticks = PERCENTILES.iter().filter(|(quantile, _)| nines(*quantile) <= end);
    let ticks = ticks.map(|(quantile, text)| (nines(*quantile), (*text).to_owned())).collect();
    let x = Axis { label: "percentile", range: (0.0, end), log: false, ticks };
    let y = Axis::logarithmic("milliseconds", series.iter().flat_map(|series| &series.curve).map(|(_, ms)| *ms));
    plot("Latency in milliseconds by percentile, one curve a run", &x, &y, &series, false)
}

fn curve(run: &Run, label: &str) -> Series {
    let ms = |quantile| run.latency.value_at_quantile(quantile) as f64 / 1_000.0;
    let end = (run.latency.len().max(1) as f64).log10();
    let points = (0..=POINTS).map(|number| end * f64::from(number) / f64::from(POINTS));
    let marks = PERCENTILES[1..].iter().filter(|(quantile, _)| nines(*quantile) <= end);
    let tells = |quantile, text| format!("{label}: {text} within {} ms", plain(ms(quantile)));
    Series {
        name: label.to_owned(),
        curve: points.map(|nines| (nines, ms(1.0 - 10_f64.powf(-nines)))).collect(),
        marks: marks.map(|(quantile, text)| (nines(*quantile), ms(*quantile), tells(*quantile, text))).collect(),
    }
}

/// Latency and completed orders against what was offered; `None` where there is but one load.
pub fn against_load(runs: &[Run], labels: &[String]) -> Option<String> {
    let offered = runs.iter().all(|run| run.rate.is_some());
    let mut ordered: Vec<(&Run, &String)> = runs.iter().zip(labels).collect();
    // Closed loops are ordered by their clients: beyond the peak more of them complete less.
    ordered.sort_by(|(a, _), (b, _)| a.concurrency.cmp(&b.concurrency).then(load(a).total_cmp(&load(b))));
    let (first, last) = (ordered.first()?.0, ordered.last()?.0);
    if (first.concurrency, first.rate) == (last.concurrency, last.rate) {
        return None;
    }
    let series = [
        latency(&ordered, "p50", |run| run.p50_ms),
        latency(&ordered, "p99", |run| run.p99_ms),
        latency(&ordered, "p99.9", |run| run.p999_ms),
    ];
    let x = Axis::linear(if offered { "orders/s offered" } else { "orders/s completed" }, runs.iter().map(load));
    let y = Axis::logarithmic("milliseconds", series.iter().flat_map(|series| &series.curve).map(|(_, ms)| *ms));
    let mut html = String::new();
    let title = if offered { "Latency against offered load" } else { "Latency against throughput" };
    section(&mut html, title, "", &plot(&format!("{title}: p50, p99 and p99.9"), &x, &y, &series, false));
    if offered {
        const ABOUT: &str = "On the dashed line everything that is offered is completed.";
        section(&mut html, "Completed against offered", ABOUT, &completed(&ordered, &x));
    }
    Some(html)
}

fn latency(ordered: &[(&Run, &String)], name: &str, of: fn(&Run) -> f64) -> Series {
    let mark = |(run, label): &(&Run, &String)| (load(run), of(run), format!("{label}: {name} {} ms", plain(of(run))));
    let marks: Vec<_> = ordered.iter().map(mark).collect();
    Series { name: name.to_owned(), curve: marks.iter().map(|(x, y, _)| (*x, *y)).collect(), marks }
}

fn load(run: &Run) -> f64 {
    run.rate.unwrap_or(run.orders_per_s)
}

fn completed(ordered: &[(&Run, &String)], x: &Axis) -> String {
    let point = |(run, label): &(&Run, &String)| {
        let tells = format!("{label}: {} orders/s, {} errors", plain(run.orders_per_s.round()), run.errors);
        (load(run), run.orders_per_s, tells)
    };
    let marks: Vec<_> = ordered.iter().map(point).collect();
    let curve = marks.iter().map(|(x, y, _)| (*x, *y)).collect();
    let y = Axis::linear("orders/s completed", marks.iter().map(|(_, y, _)| *y));
    plot("Orders completed against orders offered", x, &y, &[Series { name: String::new(), curve, marks }], true)
}
