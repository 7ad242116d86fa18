//! The id of a request: its client's, or one of ours. Every answer bears it, and so does what is logged of a defect met on the way, so that a client's
//! report finds its log lines.

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use uuid::Uuid;

/// The header of a request and of its answer.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The longest id that is taken from a client, in characters: four times a UUID.
const LONGEST: usize = 144;

tokio::task_local! {
    /// That of the request that this task answers.
    static CURRENT: RequestId;
}

/// An id of visible ASCII characters.
#[derive(Clone)]
pub(super) struct RequestId(HeaderValue);

impl RequestId {
    /// The request's own. What is none, and could do harm where logs are read, is replaced by a new one.
    pub fn of(headers: &mut HeaderMap) -> Self {
        if let Some(id) = headers.get(REQUEST_ID)
            && (1..=LONGEST).contains(&id.len())
            && id.as_bytes().iter().all(u8::is_ascii_graphic)
        {
            return Self(id.clone());
        }
        let id = HeaderValue::from_str(&Uuid::now_v7().to_string()).expect("hexadecimal digits");
        headers.insert(REQUEST_ID, id.clone());
        Self(id)
    }

    /// Answers the request, as the one of this id.
    pub async fn answers<T>(self, answer: impl Future<Output = T>) -> T {
        CURRENT.scope(self, answer).await
    }

    /// That of the request that is answered here; empty: none is.
    pub fn current() -> String {
        CURRENT.try_with(|id| id.0.to_str().unwrap_or_default().to_owned()).unwrap_or_default()
    }
}

impl From<RequestId> for HeaderValue {
    fn from(id: RequestId) -> Self {
        id.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(id: &[u8]) -> bool {
        let id = HeaderValue::from_bytes(id).expect("a header's value");
        let mut headers = HeaderMap::from_iter([(REQUEST_ID, id.clone())]);
        let of = HeaderValue::from(RequestId::of(&mut headers));
        assert_eq!(headers[REQUEST_ID], of, "whoever is asked next hears of the same");
        of == id
    }

    #[test]
    fn an_id_of_visible_letters_is_kept_and_any_other_is_replaced() {
        assert!(taken(b"report-17/a"));
        assert!(taken(&[b'x'; LONGEST]));
        for bad in [&b""[..], b"two words", "\u{202e}".as_bytes(), b"\x9b31m", &[b'x'; LONGEST + 1]] {
            assert!(!taken(bad), "{bad:?}");
        }
    }

    #[tokio::test]
    async fn whoever_answers_knows_the_id() {
        let id = RequestId::of(&mut HeaderMap::from_iter([(REQUEST_ID, HeaderValue::from_static("r-1"))]));
        assert_eq!(id.answers(async { RequestId::current() }).await, "r-1");
        assert_eq!(RequestId::current(), "");
    }
}
