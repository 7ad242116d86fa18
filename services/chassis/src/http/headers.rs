//! Request headers with a meaning of their own.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use envelope::{TraceContext, TraceParent};

use crate::http::{Caller, FieldError, Problem};

/// The most characters of a key: enough for anything a client derives, and an index entry stays small.
const KEY_MAX: usize = 200;

/// The same as it is sent, in quotes.
pub(super) const KEY_SENT_MAX: usize = KEY_MAX + 2;

/// The longest a client may ask to be kept waiting.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// `Idempotency-Key`: a structured string or a bare token (IETF draft-ietf-httpapi-idempotency-key-header). It is kept as long as
/// what it created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotencyKey(pub String);

impl IdempotencyKey {
    /// Marks an answer as one that was given before.
    pub const REPLAYED: [(HeaderName, &str); 1] = [(HeaderName::from_static("idempotency-replayed"), "true")];

    /// The request's key; `None` without the header. A key belongs to the subject that uses it: what is kept begins with the subject, and a
    /// character that stands in neither. Where everybody is believed it is the key alone.
    pub fn of(caller: &Caller, headers: &HeaderMap) -> Result<Option<Self>, Problem> {
        let key = Self::from_headers(headers)?;
        Ok(key.map(|Self(key)| match caller.subject() {
            Some(subject) => Self(format!("{subject}\u{1f}{key}")),
            None => Self(key),
        }))
    }

    /// The request's key as it came.
    pub(super) fn from_headers(headers: &HeaderMap) -> Result<Option<Self>, Problem> {
        let mut values = headers.get_all("idempotency-key").iter();
        let Some(value) = values.next() else {
            return Ok(None);
        };
        if values.next().is_some() {
            return Err(Problem::malformed("`Idempotency-Key` is given twice"));
        }
        // What stands before and behind a header's value is no part of it; a tab within one is in no string of the draft's.
        let text = value.to_str().ok().map(str::trim).filter(|text| !text.contains('\t'));
        let text =
            text.ok_or_else(|| Problem::malformed("`Idempotency-Key` must be of ASCII letters, digits, signs and spaces"))?;
        let key = match text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
            Some(quoted) => quoted.replace("\\\"", "\"").replace("\\\\", "\\"),
            None => text.to_owned(),
        };
        // Quotes and spaces alone are more often a mistake than a key.
        let says_something = key.contains(|letter| !matches!(letter, ' ' | '"'));
        if !says_something || key.len() > KEY_MAX || text.len() > KEY_SENT_MAX {
            return Err(Problem::malformed(format!(
                "`Idempotency-Key` must be 1 to {KEY_MAX} characters long, and not of quotes alone"
            )));
        }
        Ok(Some(Self(key)))
    }

    /// Refuses a key where none is honoured. Taken without a word, it would promise what is not kept.
    pub fn refuse(headers: &HeaderMap, instead: &str) -> Result<(), Problem> {
        match headers.contains_key("idempotency-key") {
            true => Err(Problem::malformed(format!("`Idempotency-Key` is not taken here: {instead}"))),
            false => Ok(()),
        }
    }

    /// 422: the key was used for another request.
    pub fn reused() -> Problem {
        let mut problem = Problem::invalid(vec![]);
        problem.kind = "urn:waybill:problem:idempotency-key-reused".to_owned();
        problem.title = "The key was used before";
        problem.detail = "this Idempotency-Key was used for another request: its body or its path was not the same".to_owned();
        problem.errors = vec![FieldError {
            pointer: "/".to_owned(),
            detail: "differs from the first request with this Idempotency-Key".to_owned(),
        }];
        debug_assert_eq!(problem.status, StatusCode::UNPROCESSABLE_ENTITY.as_u16());
        problem
    }
}

/// How long a client asks to be kept waiting: `Prefer: wait=N`, capped (RFC 7240). What cannot be read is ignored, as it says.
pub fn prefer_wait(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers
        .get_all("prefer")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split([',', ';']))
        .filter_map(|preference| preference.split_once('='))
        .find_map(|(name, value)| {
            name.trim().eq_ignore_ascii_case("wait").then(|| value.trim().trim_matches('"').parse().ok())?
        })?;
    Some(Duration::from_secs(seconds).min(WAIT_MAX))
}

/// The request's trace, or a new one.
pub fn trace(headers: &HeaderMap) -> TraceContext {
    // Not a UUIDv7: its leading bits are the time, and a trace id should be random throughout.
    trace_given(headers).unwrap_or_else(|| TraceParent::from_random(uuid::Uuid::new_v4().as_u128()).into())
}

/// The request's trace, where it says one.
pub(super) fn trace_given(headers: &HeaderMap) -> Option<TraceContext> {
    let parent = headers.get("traceparent")?;
    let states: Result<Vec<&str>, _> = headers.get_all("tracestate").iter().map(HeaderValue::to_str).collect();
    TraceContext::parse(parent.to_str().ok()?, states.ok().map(|states| states.join(",")).as_deref())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        [(HeaderName::from_static(name), value.parse().unwrap())].into_iter().collect()
    }

    #[test]
    fn a_key_is_a_string_or_a_token() {
        let key = |value: &str| IdempotencyKey::from_headers(&headers("idempotency-key", value)).map(|key| key.map(|key| key.0));
        assert_eq!(key("abc-1"), Ok(Some("abc-1".to_owned())));
        assert_eq!(key(r#""a \"b\"""#), Ok(Some(r#"a "b""#.to_owned())));
        assert_eq!(key("").unwrap_err().status, 400);
        assert_eq!(key(&"x".repeat(201)).unwrap_err().status, 400);
        assert_eq!(key("a\tb").unwrap_err().status, 400);
        assert_eq!(key("\t a \t"), Ok(Some("a".to_owned())));
        assert_eq!(IdempotencyKey::from_headers(&HeaderMap::new()), Ok(None));
    }

    #[test]
    fn a_trace_is_taken_with_its_state_or_begun_anew() {
        const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let asked = |parent: &str, states: &[&str]| {
            let mut headers = headers("traceparent", parent);
            for state in states {
                headers.append("tracestate", state.parse().unwrap());
            }
            let TraceContext { parent, state } = trace(&headers);
            (parent.as_str().to_owned(), state.map(|state| state.as_str().to_owned()))
        };
        assert_eq!(asked(PARENT, &[]), (PARENT.to_owned(), None));
        assert_eq!(asked(PARENT, &["a=1, b=2", "c=3"]), (PARENT.to_owned(), Some("a=1,b=2,c=3".to_owned())));
        assert_eq!(asked(PARENT, &["a=1", "A=2"]), (PARENT.to_owned(), None), "what is no list is dropped as a whole");
        let (begun, state) = asked("nonsense", &["a=1"]);
        assert_eq!((TraceParent::parse(&begun).is_some(), state), (true, None), "it belongs to a trace that nobody knows");
    }

    #[test]
    fn a_wait_is_capped_and_nonsense_is_ignored() {
        let wait = |value: &str| prefer_wait(&headers("prefer", value));
        assert_eq!(wait("respond-async, wait=5"), Some(Duration::from_secs(5)));
        assert_eq!(wait("Handling=lenient; foo, WAIT = \"7\""), Some(Duration::from_secs(7)));
        assert_eq!(wait("wait=9000"), Some(WAIT_MAX));
        assert_eq!(wait("wait=soon"), None);
    }
}
