//! Small curves, drawn on the server: the values of some minutes, stretched to what room there is.

/// The drawing's own units.
const WIDTH: f64 = 300.0;
const HEIGHT: f64 = 60.0;

/// A curve.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Curve {
    /// The line, as the `d` of a path; gaps where nothing was known.
    pub line: String,
    /// The same with what is below it.
    pub area: String,
    /// The largest value.
    pub most: f64,
}

impl Curve {
    /// Through these values, the newest last; so many of them fill the width.
    pub fn through(values: &[Option<f64>], room: usize) -> Self {
        let most = values.iter().flatten().copied().fold(0.0, f64::max);
        let scale = if most > 0.0 { (HEIGHT - 2.0) / most } else { 0.0 };
        let step = WIDTH / (room.max(2) - 1) as f64;
        let first = room.saturating_sub(values.len());
        let (mut line, mut area) = (String::new(), String::new());
        let mut run: Vec<(f64, f64)> = Vec::new();
        let mut end = |run: &mut Vec<(f64, f64)>| {
            if let (Some(first), Some(last)) = (run.first(), run.last()) {
                let points: Vec<String> = run.iter().map(|(x, y)| format!("{x:.1} {y:.1}")).collect();
                let points = points.join("L");
                line += &format!("M{points}");
                area += &format!("M{:.1} {HEIGHT}L{points}L{:.1} {HEIGHT}Z", first.0, last.0);
            }
            run.clear();
        };
        for (at, value) in values.iter().enumerate() {
            match value {
                Some(value) => run.push(((first + at) as f64 * step, HEIGHT - 1.0 - value * scale)),
                None => end(&mut run),
            }
        }
        end(&mut run);
        Self { line, area, most }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_ends_at_the_right_and_has_gaps_where_nothing_was_known() {
        let curve = Curve::through(&[Some(1.0), Some(2.0), None, Some(0.0)], 7);
        assert_eq!(curve.line, "M150.0 30.0L200.0 1.0M300.0 59.0");
        assert!(curve.area.starts_with("M150.0 60L150.0 30.0L200.0 1.0L200.0 60Z"), "{}", curve.area);
        assert_eq!(curve.most, 2.0);
        assert_eq!(Curve::through(&[], 7), Curve::default());
        assert_eq!(Curve::through(&[Some(0.0), Some(0.0)], 2).line, "M0.0 59.0L300.0 59.0");
    }
}
