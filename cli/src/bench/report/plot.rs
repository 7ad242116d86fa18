//! Curves in a frame, as inline SVG: drawn once, no script.

use std::fmt::Write as _;

use super::html::escape;

// The frame, in SVG units; the page scales it.
const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 360.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 46.0;

/// Colours there are; further series repeat them, dashed.
const COLOURS: usize = 8;

/// One direction of a frame.
#[derive(Clone, Debug)]
pub struct Axis {
    /// What it measures, and in what.
    pub label: &'static str,
    /// Where it begins and ends.
    pub range: (f64, f64),
    /// Whether equal steps are equal ratios.
    pub log: bool,
    /// Marks, each with its text.
    pub ticks: Vec<(f64, String)>,
}

impl Axis {
    /// From 1, 2 or 5 times a power of ten to another, equal ratios apart.
    pub fn logarithmic(label: &'static str, values: impl Iterator<Item = f64>) -> Self {
        let (low, high) = extent(values.filter(|value| *value > 0.0));
        let steps = |power: i32| [1.0, 2.0, 5.0].map(|step| step * 10_f64.powi(power));
        let all: Vec<f64> = (-4..8).flat_map(steps).collect();
        let first = all.iter().rposition(|tick| *tick <= low).unwrap_or(0);
        let last = all.iter().position(|tick| *tick >= high).unwrap_or(all.len() - 1).max(first + 1);
        let ticks: Vec<_> = all[first..=last].iter().map(|tick| (*tick, plain(*tick))).collect();
        Self { label, range: (all[first], all[last]), log: true, ticks }
    }

    /// From zero, equal steps apart.
    pub fn linear(label: &'static str, values: impl Iterator<Item = f64>) -> Self {
        let (_, high) = extent(values);
        let rough = (high / 5.0).max(1e-9);
        let power = 10_f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|step| step * power).into_iter().find(|step| *step >= rough).unwrap_or(rough);
        let count = (high / step).ceil().max(1.0);
        let ticks = (0..=count as usize).map(|number| (number as f64 * step, plain(number as f64 * step))).collect();
        Self { label, range: (0.0, count * step), log: false, ticks }
    }

    /// Where a value lies, from 0 to 1.
    fn place(&self, value: f64) -> f64 {
        let (low, high) = self.range;
        let place = if self.log { (value.max(low) / low).ln() / (high / low).ln() } else { (value - low) / (high - low) };
        place.clamp(0.0, 1.0)
    }
}

/// A curve and the points on it that are marked.
#[derive(Clone, Debug)]
pub struct Series {
    /// Its name in the legend.
    pub name: String,
    /// The curve.
    pub curve: Vec<(f64, f64)>,
    /// Marks: where, and what a mark tells who points at it.
    pub marks: Vec<(f64, f64, String)>,
}

/// A legend and a frame with curves. `even` draws the line on which both axes are equal.
pub fn plot(description: &str, x: &Axis, y: &Axis, series: &[Series], even: bool) -> String {
    let right = |value| LEFT + x.place(value) * (WIDTH - LEFT - RIGHT);
    let down = |value| HEIGHT - BOTTOM - y.place(value) * (HEIGHT - TOP - BOTTOM);
    let mut svg = legend(series.iter().map(|series| series.name.as_str()));
    let _ = write!(svg, r#"<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{}">"#, escape(description));
    frame(&mut svg, x, y);
    if even {
        let end = x.range.1.min(y.range.1);
        let _ = write!(svg, r#"<path class="even" d="M{:.1} {:.1}L{:.1} {:.1}"/>"#, right(0.0), down(0.0), right(end), down(end));
    }
    for (number, series) in series.iter().enumerate() {
        let colour = colour(number);
        let points: Vec<String> = series.curve.iter().map(|(x, y)| format!("{:.1} {:.1}", right(*x), down(*y))).collect();
        let repeat = if number >= COLOURS { " repeat" } else { "" };
        let _ = write!(svg, r#"<g class="{colour}"><path class="curve{repeat}" d="M{}"/>"#, points.join("L"));
        for (x, y, tells) in &series.marks {
            let (x, y) = (right(*x), down(*y));
            let title = escape(tells);
            let _ = write!(svg, r#"<circle class="dot" cx="{x:.1}" cy="{y:.1}" r="4.5"><title>{title}</title></circle>"#);
        }
        svg.push_str("</g>");
    }
    svg.push_str("</svg>");
    svg
}

/// Axes, ticks and their texts.
fn frame(svg: &mut String, x: &Axis, y: &Axis) {
    let (end, foot) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
    for (value, text) in &y.ticks {
        let at = foot - y.place(*value) * (foot - TOP);
        let _ = write!(svg, r#"<line class="grid" x1="{LEFT}" x2="{end}" y1="{at:.1}" y2="{at:.1}"/>"#);
        let _ = write!(svg, r#"<text x="{}" y="{:.1}" text-anchor="end">{}</text>"#, LEFT - 8.0, at + 4.0, escape(text));
    }
    for (value, text) in &x.ticks {
        let at = LEFT + x.place(*value) * (end - LEFT);
        let _ = write!(svg, r#"<line class="grid" x1="{at:.1}" x2="{at:.1}" y1="{TOP}" y2="{foot}"/>"#);
        let _ = write!(svg, r#"<text x="{at:.1}" y="{}" text-anchor="middle">{}</text>"#, foot + 18.0, escape(text));
    }
    let _ = write!(svg, r#"<line class="axis" x1="{LEFT}" x2="{end}" y1="{foot}" y2="{foot}"/>"#);
    let middle = LEFT + (end - LEFT) / 2.0;
    let _ = write!(svg, r#"<text x="{middle}" y="{}" text-anchor="middle">{}</text>"#, HEIGHT - 8.0, escape(x.label));
    let centre = TOP + (foot - TOP) / 2.0;
    let _ =
        write!(svg, r#"<text transform="translate(14 {centre}) rotate(-90)" text-anchor="middle">{}</text>"#, escape(y.label));
}

/// The names with their colours; none for a single one.
pub fn legend<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.collect();
    if names.len() < 2 {
        return String::new();
    }
    let items = names.iter().enumerate().map(|(number, name)| format!(r#"<li class="{}">{}</li>"#, colour(number), escape(name)));
    format!(r#"<ul class="legend">{}</ul>"#, items.collect::<String>())
}

/// The class of a colour.
pub fn colour(number: usize) -> String {
    format!("c{}", number % COLOURS + 1)
}

fn extent(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) = values.fold((f64::INFINITY, 0.0), |(low, high): (f64, f64), value| (low.min(value), high.max(value)));
    if low.is_finite() && high > 0.0 { (low, high) } else { (1.0, 10.0) }
}

/// A number without needless digits, thousands apart.
pub fn plain(number: f64) -> String {
    if number < 1_000.0 {
        return format!("{}", (number * 1e4).round() / 1e4);
    }
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_logarithmic_axis_begins_and_ends_at_round_numbers() {
        let axis = Axis::logarithmic("ms", [3.2, 77.0].into_iter());
        assert_eq!(axis.range, (2.0, 100.0));
        assert_eq!(axis.ticks.len(), 6);
        assert!((axis.place(14.142_135) - 0.5).abs() < 1e-6);
        assert_eq!((axis.place(0.0), axis.place(1e9)), (0.0, 1.0));
    }

    #[test]
    fn a_linear_axis_begins_at_zero() {
        let axis = Axis::linear("orders/s", [7_900.0].into_iter());
        assert_eq!(axis.range, (0.0, 8_000.0));
        assert_eq!(axis.ticks.last().map(|(_, text)| text.as_str()), Some("8,000"));
        assert_eq!(Axis::linear("", std::iter::empty()).range, (0.0, 10.0));
    }

    #[test]
    fn numbers_are_read_by_people() {
        assert_eq!([0.05, 2.5, 999.0, 1_000.0, 1_234_567.0].map(plain), ["0.05", "2.5", "999", "1,000", "1,234,567"]);
    }
}
