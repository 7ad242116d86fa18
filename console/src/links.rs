//! Addresses of pages, with what was asked for in them: a page can be kept and passed on.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

const KEPT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A path with a query; what is empty is left out.
pub fn link<'a>(path: &str, query: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let pairs = query.into_iter().filter(|(_, value)| !value.is_empty());
    let pairs: Vec<String> = pairs.map(|(name, value)| format!("{name}={}", utf8_percent_encode(value, KEPT))).collect();
    if pairs.is_empty() { path.to_owned() } else { format!("{path}?{}", pairs.join("&")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_typed_stays_one_value() {
        assert_eq!(link("/sagas", [("a", ""), ("b", "")]), "/sagas");
        assert_eq!(link("/sagas", [("cause", "a&b=c d"), ("step", "x_y")]), "/sagas?cause=a%26b%3Dc%20d&step=x_y");
    }
}
