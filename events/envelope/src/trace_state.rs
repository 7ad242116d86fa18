//! What the systems that a trace came through keep in it for themselves.

/// The most members a list may have, and the most characters that are passed on.
const MEMBERS_MAX: usize = 32;
const KEPT_MAX: usize = 512;

/// Members longer than this go first where there are too many characters.
const LONG: usize = 128;

/// The most characters of a key, and of a value.
const WORD_MAX: usize = 256;

/// A valid `tracestate` (W3C Trace Context, level 2): `vendor=value,other=value`. It is passed on and never read; nothing of ours is added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceState(Box<str>);

impl TraceState {
    /// Checks a header's value, of several headers those joined by commas; `None` where it says nothing or is not valid, which the specification says to
    /// drop as a whole. Of more than 512 characters the long members are dropped first, then the last.
    pub fn parse(text: &str) -> Option<Self> {
        let mut members: Vec<(&str, &str)> = Vec::new();
        for member in text.split(',').map(|member| member.trim_matches([' ', '\t'])).filter(|member| !member.is_empty()) {
            let (key, value) = member.split_once('=')?;
            if !is_key(key) || !is_value(value) || members.iter().any(|(known, _)| *known == key) {
                return None;
            }
            members.push((key, member));
        }
        if members.is_empty() || members.len() > MEMBERS_MAX {
            return None;
        }
        let length = |members: &[(&str, &str)]| members.iter().map(|(_, member)| member.len() + 1).sum::<usize>() - 1;
        while length(&members) > KEPT_MAX {
            let long = members.iter().rposition(|(_, member)| member.len() > LONG);
            members.remove(long.unwrap_or(members.len() - 1));
            if members.is_empty() {
                return None;
            }
        }
        let members: Vec<&str> = members.into_iter().map(|(_, member)| member).collect();
        Some(Self(members.join(",").into()))
    }

    /// The header's value.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_key(key: &str) -> bool {
    let simple = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    key.len() <= WORD_MAX
        && key.bytes().next().is_some_and(simple)
        && key.bytes().all(|byte| simple(byte) || matches!(byte, b'_' | b'-' | b'*' | b'/' | b'@'))
}

/// Its blanks at the end are those of the list.
fn is_value(value: &str) -> bool {
    (1..=WORD_MAX).contains(&value.len()) && value.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b',' && byte != b'=')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Option<String> {
        TraceState::parse(text).map(|state| state.as_str().to_owned())
    }

    #[test]
    fn a_valid_list_is_passed_on_without_its_blanks() {
        assert_eq!(parsed("congo=t61rcWkgMzE,rojo=00f067aa0ba902b7").as_deref(), Some("congo=t61rcWkgMzE,rojo=00f067aa0ba902b7"));
        assert_eq!(parsed(" 1a-_*/@b=x y\"\\! ,\t,b= 2 ,").as_deref(), Some("1a-_*/@b=x y\"\\!,b= 2"));
    }

    #[test]
    fn what_is_no_list_is_dropped_as_a_whole() {
        let many: Vec<String> = (0..33).map(|key| format!("k{key}=1")).collect();
        assert_eq!(parsed(&many[1..].join(",")), Some(many[1..].join(",")), "32 are few enough");
        let (long_key, long_value) = (format!("{}=1", "k".repeat(257)), format!("k={}", "v".repeat(257)));
        let bad = [
            "",
            " , ",
            "a",
            "a=",
            "=1",
            "a=1,b",
            "A=1",
            "_a=1",
            "a b=1",
            "a=1=2",
            "a=1,b=2,a=3",
            "a=\u{e9}",
            "a=1\n",
            &many.join(","),
            &long_key,
            &long_value,
        ];
        for bad in bad {
            assert_eq!(parsed(bad), None, "{bad}");
        }
    }

    #[test]
    fn of_too_many_characters_the_long_members_go_first_and_then_the_last() {
        let (long, longer) = (format!("long={}", "x".repeat(200)), format!("longer={}", "x".repeat(250)));
        let short: Vec<String> = (0..10).map(|key| format!("k{key}={}", "x".repeat(40))).collect();
        let kept = parsed(&[long.as_str(), &short[0], &longer, &short[1]].join(",")).unwrap();
        assert_eq!(kept, [long.as_str(), &short[0], &short[1]].join(","), "the last of the long ones is enough");
        let many: Vec<String> = (0..20).map(|key| format!("k{key}={}", "x".repeat(40))).collect();
        let kept = parsed(&many.join(",")).unwrap();
        assert!(kept.len() <= KEPT_MAX && kept.len() + 45 > KEPT_MAX, "{}", kept.len());
        assert!(many.join(",").starts_with(&kept));
        assert_eq!(TraceState::parse(&kept).unwrap().as_str(), kept);
    }
}
