//! What a request can come back with other than an answer: a problem (RFC 9457), silence, or something unreadable.

use std::fmt;
use std::time::Duration;

use reqwest::StatusCode;
use serde::Deserialize;
use thiserror::Error;

use crate::output::plain;

/// Why a request brought no answer.
#[derive(Debug, Error)]
pub enum Failure {
    /// The server refused, and says why.
    #[error("{0}")]
    Problem(Box<Problem>),
    /// No connection, or it broke before the answer was complete. See [`Failure::may_have_happened`].
    #[error("cannot reach {url}: {}", root_cause(.cause))]
    Unreachable {
        /// Where the request went.
        url: String,
        /// What the HTTP client says.
        cause: reqwest::Error,
    },
    /// An answer that this program cannot read.
    #[error("{url} answered something unexpected: {}", plain(.why.clone()))]
    Garbled {
        /// Where the request went.
        url: String,
        /// What was wrong with it.
        why: String,
    },
}

impl Failure {
    /// Whether the same request may well succeed later. A 409 is final unless the server says when to come back, as it does
    /// while the first request with the same idempotency key still runs.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Garbled { .. } => false,
            Self::Problem(problem) => match problem.status.as_u16() {
                409 => problem.retry_after.is_some(),
                429 | 500..=599 => true,
                _ => false,
            },
        }
    }

    /// Whether the request may have been carried out all the same: it was sent, and what came back does not say. Never where there was no
    /// connection, and never after a 503, which is said only of what cannot have happened.
    pub fn may_have_happened(&self) -> bool {
        match self {
            Self::Unreachable { cause, .. } => !cause.is_connect(),
            Self::Garbled { .. } => true,
            Self::Problem(problem) => matches!(problem.status.as_u16(), 500 | 502 | 504),
        }
    }

    /// When the server asked to be tried again.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Problem(problem) => problem.retry_after,
            _ => None,
        }
    }
}

/// The innermost cause: "connection refused" says more than "error sending request".
pub fn root_cause(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "timed out".to_owned();
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

/// An `application/problem+json` answer, and what its headers add.
#[derive(Debug)]
pub struct Problem {
    /// The HTTP status.
    pub status: StatusCode,
    /// The document; where there was none, its title is the status and its detail the start of the body.
    pub body: Body,
    /// The request's id, to be found again in the server's logs.
    pub request_id: Option<String>,
    /// When to come back, from `Retry-After` in seconds.
    pub retry_after: Option<Duration>,
}

/// The members of a problem document that people want to see.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Body {
    /// The type of problem, to switch on.
    #[serde(rename = "type")]
    pub kind: String,
    /// The type of problem in words.
    pub title: String,
    /// What went wrong this time.
    pub detail: Option<String>,
    /// Each field that is wrong.
    pub errors: Vec<FieldError>,
    /// The trace, where the server keeps one.
    pub trace_id: Option<String>,
}

/// One wrong field of a request.
#[derive(Debug, Deserialize)]
pub struct FieldError {
    /// Where, as a JSON pointer.
    #[serde(default)]
    pub pointer: String,
    /// What is wrong with it.
    #[serde(default)]
    pub detail: String,
}

impl Problem {
    /// Reads an answer that is not a success.
    pub async fn read(response: reqwest::Response) -> Self {
        let status = response.status();
        let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let request_id = header("x-request-id");
        let retry_after = header("retry-after").and_then(|text| text.trim().parse().ok()).map(Duration::from_secs);
        // The status is the answer; a body that breaks off only costs the explanation.
        let text = response.text().await.unwrap_or_default();
        let mut body: Body = serde_json::from_str(&text)
            .unwrap_or_else(|_| Body { detail: Some(text.trim().chars().take(500).collect()), ..Body::default() });
        if body.title.is_empty() {
            body.title = status.canonical_reason().unwrap_or("Refused").to_owned();
        }
        body.detail = body.detail.filter(|detail| !detail.is_empty() && *detail != body.title);
        Self { status, body, request_id, retry_after }
    }

    /// What to do where it is about who asks.
    fn remedy(&self) -> Option<&'static str> {
        match self.status.as_u16() {
            401 => Some(
                "say who asks with a token: --token-file FILE, WAYBILL_TOKEN, or a context that keeps one; `waybill token --help` says how to get one",
            ),
            403 => Some("the token does not allow this: another role, or another subject, is required (`waybill token --help`)"),
            _ => None,
        }
    }
}

impl Body {
    /// Whether the idempotency key was used before, for a request that said something else.
    pub fn is_key_reused(&self) -> bool {
        self.kind.ends_with(":idempotency-key-reused")
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", plain(self.body.title.clone()), self.status.as_u16())?;
        // Of a single wrong field the detail says what the field's own line says.
        let line = |FieldError { pointer, detail }: &FieldError| match pointer.as_str() {
            // It is the whole that is wrong.
            "" => detail.clone(),
            pointer => format!("{pointer}: {detail}"),
        };
        let repeats = |detail: &str| matches!(&*self.body.errors, [only] if detail == line(only));
        if let Some(detail) = self.body.detail.as_deref().filter(|detail| !repeats(detail)) {
            write!(f, "\n  {}", plain(detail.to_owned()))?;
        }
        for error in &self.body.errors {
            write!(f, "\n  {}", plain(line(error)))?;
        }
        if let Some(remedy) = self.remedy() {
            write!(f, "\n  {remedy}")?;
        }
        if let Some(id) = &self.request_id {
            write!(f, "\n  request id: {}", plain(id.clone()))?;
        }
        if let Some(id) = &self.body.trace_id {
            write!(f, "\n  trace id: {}", plain(id.clone()))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(status: u16, retry_after: Option<u64>) -> Failure {
        Failure::Problem(Box::new(Problem {
            status: StatusCode::from_u16(status).unwrap(),
            body: Body::default(),
            request_id: None,
            retry_after: retry_after.map(Duration::from_secs),
        }))
    }

    #[test]
    fn only_what_was_heard_may_have_happened() {
        for (status, may) in [(503, false), (409, false), (422, false), (408, false), (500, true), (502, true), (504, true)] {
            assert_eq!(problem(status, None).may_have_happened(), may, "{status}");
        }
    }

    #[test]
    fn only_what_may_pass_is_transient() {
        assert!(problem(503, Some(1)).is_transient());
        assert!(problem(500, None).is_transient());
        assert!(problem(409, Some(1)).is_transient());
        assert!(!problem(409, None).is_transient());
        assert!(!problem(422, None).is_transient());
        assert!(!problem(404, None).is_transient());
    }

    #[test]
    fn who_is_not_known_or_may_not_is_told_how_to_get_a_token() {
        for (status, remedy) in [(401, "--token-file"), (403, "another role")] {
            let said = problem(status, None).to_string();
            assert!(said.contains(remedy), "{said}");
        }
        assert!(!problem(404, None).to_string().contains("token"));
    }

    #[test]
    fn a_problem_reads_like_a_message() {
        let body = r#"{"type":"t","title":"Invalid order","status":422,"detail":"2 fields are wrong",
            "errors":[{"pointer":"/items/0/quantity","detail":"must be 1 to 100000"}],"trace_id":"abc"}"#;
        let problem = Problem {
            status: StatusCode::UNPROCESSABLE_ENTITY,
            body: serde_json::from_str(body).unwrap(),
            request_id: Some("r-1".to_owned()),
            retry_after: None,
        };
        let expected = "Invalid order (422)\n  2 fields are wrong\n  /items/0/quantity: must be 1 to 100000\n  \
                        request id: r-1\n  trace id: abc";
        assert_eq!(problem.to_string(), expected);

        let body = r#"{"title":"Invalid","status":422,"detail":"alone it has no index","errors":[{"pointer":"","detail":"alone it has no index"}]}"#;
        let (body, status) = (serde_json::from_str(body).unwrap(), StatusCode::UNPROCESSABLE_ENTITY);
        let problem = Problem { status, body, request_id: None, retry_after: None };
        assert_eq!(problem.to_string(), "Invalid (422)\n  alone it has no index", "said once");
    }
}
