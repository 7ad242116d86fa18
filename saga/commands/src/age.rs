//! Lengths of time as people write and read them: `10m`, `1h30m`; `3 min 20 s`.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

/// The longest: a hundred years. Beyond are moments that a calendar cannot name.
const LONGEST: Duration = Duration::from_secs(36_525 * 86_400);

/// Reads `90s`, `10m`, `2h`, `1d`, `250ms` or several of them (`1h30m`); a bare number is seconds.
pub fn parse(text: &str) -> Result<Duration, String> {
    let length = length(text)?;
    if length > LONGEST { Err(format!("`{text}` is more than a hundred years")) } else { Ok(length) }
}

fn length(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is not a length of time: write 90s, 10m, 2h, 1d or 1h30m");
    if let Ok(seconds) = text.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).map_err(|_| wrong());
    }
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let number: u64 = rest[..digits].parse().map_err(|_| wrong())?;
        rest = &rest[digits..];
        let unit = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let millis: u64 = match &rest[..unit] {
            "ms" => 1,
            "s" => 1_000,
            "m" | "min" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(wrong()),
        };
        total =
            number.checked_mul(millis).map(Duration::from_millis).and_then(|more| total.checked_add(more)).ok_or_else(wrong)?;
        rest = &rest[unit..];
    }
    if text.is_empty() { Err(wrong()) } else { Ok(total) }
}

/// Reads a moment that has been: RFC 3339, or how long ago.
pub fn moment(text: &str) -> Result<DateTime<Utc>, String> {
    if let Ok(moment) = text.parse::<DateTime<Utc>>() {
        return if moment > Utc::now() { Err(format!("`{text}` is yet to come")) } else { Ok(moment) };
    }
    let ago = parse(text).ok().and_then(|ago| TimeDelta::from_std(ago).ok()).and_then(|ago| Utc::now().checked_sub_signed(ago));
    ago.ok_or_else(|| format!("`{text}` is neither a moment (2026-01-02T03:04:05Z) nor how long ago (24h)"))
}

/// A length of time with its two largest units, without a second one that is nothing.
pub fn show(length: TimeDelta) -> String {
    let millis = length.num_milliseconds().max(0);
    let (seconds, minutes, hours, days) = (millis / 1_000, millis / 60_000, millis / 3_600_000, millis / 86_400_000);
    let with = |length: String, rest: i64, unit: &str| if rest == 0 { length } else { format!("{length} {rest} {unit}") };
    match () {
        () if days > 0 => with(format!("{days} d"), hours % 24, "h"),
        () if hours > 0 => with(format!("{hours} h"), minutes % 60, "min"),
        () if minutes > 0 => with(format!("{minutes} min"), seconds % 60, "s"),
        () if seconds > 0 => format!("{:.1} s", millis as f64 / 1_000.0),
        () => format!("{millis} ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_read_as_people_write_them() {
        let seconds =
            [("90", 90), ("90s", 90), ("10m", 600), ("2h", 7_200), ("1d", 86_400), ("1h30m", 5_400), ("5min", 300), ("0", 0)];
        for (text, seconds) in seconds {
            assert_eq!(parse(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        assert_eq!(parse("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse("0.5"), Ok(Duration::from_millis(500)));
        for wrong in
            ["", "m", "10x", "-5", "ten", "1h 30m", "NaN", "99999999999999999999d", "99999999999999999d", "36526d", "1e300"]
        {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_moment_is_a_time_or_an_age() {
        assert_eq!(moment("2026-01-02T03:04:05Z").unwrap().timestamp(), 1_767_323_045);
        let hour_ago = moment("1h").unwrap();
        assert!((3_599..3_602).contains(&(Utc::now() - hour_ago).num_seconds()));
        assert!(moment("yesterday").is_err());
        assert!(moment("-1h").is_err());
        assert!(moment("3026-01-02T03:04:05Z").unwrap_err().contains("yet to come"));
        assert!(moment("9999999999d").is_err());
    }

    #[test]
    fn lengths_show_their_two_largest_units() {
        let shown = [
            (0, "0 ms"),
            (999, "999 ms"),
            (1_250, "1.2 s"),
            (59_900, "59.9 s"),
            (200_000, "3 min 20 s"),
            (300_000, "5 min"),
            (3_600_000, "1 h"),
            (7_500_000, "2 h 5 min"),
            (86_400_000, "1 d"),
        ];
        for (millis, text) in shown {
            assert_eq!(show(TimeDelta::milliseconds(millis)), text);
        }
        assert_eq!(show(TimeDelta::days(3) + TimeDelta::hours(4)), "3 d 4 h");
        assert_eq!(show(TimeDelta::milliseconds(-5)), "0 ms", "clocks differ");
    }
}
