//! CPU by part as stacked bars, one a run, with the floor as a mark on each.

use std::fmt::Write as _;

use super::super::meter::Part;
use super::super::result::Run;
use super::html::escape;
use super::plot::{Axis, colour, plain};

// In SVG units; the page scales them.
const WIDTH: f64 = 960.0;
const LEFT: f64 = 130.0;
const RIGHT: f64 = 70.0;
const ROW: f64 = 40.0;
const THICK: f64 = 24.0;
const FOOT: f64 = 44.0;

/// The bars, and what their colours mean.
pub fn bars(runs: &[Run], labels: &[String]) -> String {
    let of = |run: &Run, part| run.cpu_us_per_order.parts.of(part);
    let parts: Vec<Part> = Part::ALL.into_iter().filter(|&part| runs.iter().any(|run| of(run, part).is_some())).collect();
    let axis = Axis::linear("CPU microseconds an order", runs.iter().map(|run| run.cpu_us_per_order.total));
    let height = runs.len() as f64 * ROW + FOOT;

    let names = parts.iter().enumerate().map(|(number, part)| format!(r#"<li class="{}">{}</li>"#, colour(number), part.name()));
    let mut html = format!(r#"<ul class="legend">{}"#, names.collect::<String>());
    if runs.iter().any(|run| run.floor_us_per_order.is_some()) {
        html.push_str(r#"<li class="floor">the floor: the same messages and rows alone</li>"#);
    }
    html.push_str("</ul>");
    let _ = write!(html, r#"<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="CPU microseconds an order by process">"#);
    let foot = height - FOOT + 4.0;
    for (value, text) in &axis.ticks {
        let at = right(&axis, *value);
        let _ = write!(html, r#"<line class="grid" x1="{at:.1}" x2="{at:.1}" y1="0" y2="{foot}"/>"#);
        let _ = write!(html, r#"<text x="{at:.1}" y="{}" text-anchor="middle">{text}</text>"#, foot + 16.0);
    }
    let middle = LEFT + (WIDTH - LEFT - RIGHT) / 2.0;
    let _ = write!(html, r#"<text x="{middle}" y="{}" text-anchor="middle">{}</text>"#, height - 6.0, axis.label);
    for (number, (run, label)) in runs.iter().zip(labels).enumerate() {
        bar(&mut html, &axis, number as f64 * ROW + (ROW - THICK) / 2.0, run, label, &parts);
    }
    html.push_str("</svg>");
    html
}

/// One bar, its name before it, its total behind it.
fn bar(html: &mut String, axis: &Axis, top: f64, run: &Run, label: &str, parts: &[Part]) {
    let text = top + THICK / 2.0 + 4.0;
    let _ = write!(html, r#"<text class="name" x="{}" y="{text}" text-anchor="end">{}</text>"#, LEFT - 10.0, escape(label));
    let mut begin = 0.0;
    for (number, part) in parts.iter().enumerate() {
        let Some(us) = run.cpu_us_per_order.parts.of(*part).filter(|us| *us > 0.0) else { continue };
        let (x, class) = (right(axis, begin), colour(number));
        let wide = right(axis, begin + us) - x;
        let title = escape(&format!("{label}: {} {} µs", part.name(), plain(us)));
        let _ = write!(html, r#"<rect class="bar {class}" x="{x:.1}" y="{top}" width="{wide:.1}" height="{THICK}" rx="3">"#);
        let _ = write!(html, "<title>{title}</title></rect>");
        begin += us;
    }
    let total = plain(run.cpu_us_per_order.total.round());
    let _ = write!(html, r#"<text class="total" x="{:.1}" y="{text}">{total}</text>"#, right(axis, begin) + 8.0);
    if let Some(floor) = run.floor_us_per_order {
        let at = right(axis, floor.total.min(axis.range.1));
        let (from, to) = (top - 5.0, top + THICK + 5.0);
        let _ = write!(html, r#"<line class="floor" x1="{at:.1}" x2="{at:.1}" y1="{from}" y2="{to}">"#);
        let _ = write!(html, "<title>the floor: {} µs</title></line>", plain(floor.total));
    }
}

fn right(axis: &Axis, value: f64) -> f64 {
    LEFT + value / axis.range.1 * (WIDTH - LEFT - RIGHT)
}
