//! Problem details (RFC 9457): every error an edge answers.

use std::fmt;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::limits::{HEAD_MAX, HEADERS_MAX};
use crate::causes::causes;
use crate::http::request_id::RequestId;

/// The longest text about what a client sent, in characters: it may repeat what came, and not at any length.
const BRIEF: usize = 200;

/// Seconds after which a client that was turned away should come again.
const RETRY_AFTER: &str = "1";

/// What any request may be answered: the status, the last part of the type, and when.
pub(super) const COMMON: [(u16, &str, &str); 16] = [
    (400, "malformed", "The request cannot be read: its head, a parameter, or the JSON of its body"),
    (401, "unauthenticated", "No token that counts, where identity is configured"),
    (403, "forbidden", "The token's roles do not allow it"),
    (403, "cross-site", "A page of another site asks for what changes something"),
    (408, "too-slow", "The body did not come in time; nothing was done"),
    (413, "too-large", "The body is too large"),
    (414, "uri-too-long", "The URL is too long"),
    (415, "unsupported-media-type", "The body is not JSON in UTF-8, or is encoded"),
    (421, "misdirected", "The `Host` is not one of this server"),
    (429, "too-many-requests", "More than one caller may ask for, where that is limited; after `Retry-After` again"),
    (431, "head-too-large", "The head of the request is too large"),
    (500, "internal", "Something went wrong here"),
    (501, "transfer-encoding", "A transfer encoding other than `chunked`"),
    (
        502,
        "broken-off",
        "The answer did not come; the request may have been carried out or not. The detail says whether repeating it is safe",
    ),
    (503, "unavailable", "Try again after `Retry-After`; nothing was done"),
    (504, "timed-out", "It took too long; what changes something may have been carried out or not"),
];

/// An error as the client sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Stable; clients switch on it.
    #[serde(rename = "type")]
    pub kind: String,
    /// The same for every problem of this type.
    pub title: &'static str,
    /// The HTTP status.
    pub status: u16,
    /// What is wrong this time.
    pub detail: String,
    /// For invalid input: what, and where (RFC 6901 pointers into the body).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
}

/// What is wrong with one place of the input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FieldError {
    /// A JSON pointer.
    pub pointer: String,
    /// What is wrong there.
    pub detail: String,
}

impl Problem {
    fn new(status: StatusCode, kind: &str, title: &'static str, detail: impl Into<String>) -> Self {
        let kind = format!("urn:waybill:problem:{kind}");
        Self { kind, title, status: status.as_u16(), detail: detail.into(), errors: Vec::new() }
    }

    /// 400: cannot be read.
    pub fn malformed(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "malformed", "The request cannot be read", brief(detail.into()))
    }

    /// 422: can be read, and is wrong.
    pub fn invalid(mut errors: Vec<FieldError>) -> Self {
        for error in &mut errors {
            error.pointer = brief(std::mem::take(&mut error.pointer));
            error.detail = brief(std::mem::take(&mut error.detail));
        }
        let detail = match errors.as_slice() {
            [whole] if whole.pointer.is_empty() => whole.detail.clone(),
            [only] => brief(format!("{}: {}", only.pointer, only.detail)),
            several => format!("{} fields are invalid", several.len()),
        };
        Self { errors, ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", "The request is invalid", detail) }
    }

    /// 401: nobody knows who asks.
    pub fn unauthenticated(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthenticated", "Not authenticated", detail)
    }

    /// 403: who asks is known, and may not.
    pub fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", "Not allowed", detail)
    }

    /// 403: the page of somebody else asks for a change.
    pub fn cross_site() -> Self {
        let detail = "a page of another origin may not change anything here; WAYBILL_CORS_ORIGINS lists those that may";
        Self::new(StatusCode::FORBIDDEN, "cross-site", "Cross-site request", detail)
    }

    /// 421: asked for by a name that is not this server's.
    pub fn misdirected(host: &str) -> Self {
        let detail = format!("`{host}` is not a name of this server; WAYBILL_HOSTS lists those with a dot");
        Self::new(StatusCode::MISDIRECTED_REQUEST, "misdirected", "Unknown host", brief(detail))
    }

    /// 404.
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", "Not found", detail)
    }

    /// 405.
    pub fn method_not_allowed() -> Self {
        let detail = "this resource does not take this method";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", "Method not allowed", detail)
    }

    /// 409, with the last part of its type: `email-taken`.
    pub fn conflict(kind: &str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, kind, "The request conflicts with what is there", detail)
    }

    /// 413.
    pub fn too_large(limit: usize) -> Self {
        let detail = format!("the body may be {limit} bytes long");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", "The body is too large", detail)
    }

    /// 408: the body came too slowly.
    pub fn too_slow() -> Self {
        let detail = "the body did not come in time; nothing was done";
        Self::new(StatusCode::REQUEST_TIMEOUT, "too-slow", "The request came too slowly", detail)
    }

    /// 414.
    pub fn uri_too_long() -> Self {
        Self::new(
            StatusCode::URI_TOO_LONG,
            "uri-too-long",
            "The URL is too long",
            "the URL is longer than any that is served here",
        )
    }

    /// 431.
    pub fn head_too_large() -> Self {
        let detail = format!("the head of a request may be {HEAD_MAX} bytes long and have {HEADERS_MAX} headers");
        Self::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "head-too-large", "The head of the request is too large", detail)
    }

    /// 501: with a Transfer-Encoding that nobody here reads (RFC 9112 section 6.1).
    pub fn transfer_encoded() -> Self {
        let detail = "of the transfer encodings only `chunked` is read, once and alone";
        Self::new(StatusCode::NOT_IMPLEMENTED, "transfer-encoding", "The transfer encoding is not implemented", detail)
    }

    /// 415: with a Content-Encoding.
    pub fn encoded() -> Self {
        let detail = "the body must be sent as it is, without Content-Encoding";
        Self { detail: detail.to_owned(), ..Self::unsupported_media_type() }
    }

    /// 415.
    pub fn unsupported_media_type() -> Self {
        let detail = "the body must be application/json, in UTF-8";
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type", "Unsupported media type", detail)
    }

    /// 502: a service broke off before it answered, so that nobody knows whether the request was carried out.
    pub fn broken_off(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_GATEWAY, "broken-off", "The answer did not come", detail)
    }

    /// The problem of a look at what was done: nobody is told to try again what has happened.
    pub fn after_the_fact(self) -> Self {
        match self.status {
            503 => Self::broken_off("what was asked is done, but it cannot be read now; look again shortly"),
            _ => self,
        }
    }

    /// 503, with Retry-After.
    pub fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "Try again shortly", detail)
    }

    /// 504: took too long.
    pub fn timed_out() -> Self {
        Self::new(StatusCode::GATEWAY_TIMEOUT, "timed-out", "Took too long", "the request took too long")
    }

    /// 429, with Retry-After: the caller asks too often, or for too much.
    pub fn too_many_requests(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "too-many-requests", "Too many requests", detail)
    }

    /// 500: what is kept cannot be read. Why goes to the log, under the request's id, and to the client, who can tell an operator.
    pub fn unreadable(why: impl fmt::Display) -> Self {
        tracing::error!(request_id = RequestId::current(), error = %why, "a row cannot be read; whoever asks for it is told");
        let detail = format!("{why}; to put it right is an operator's work");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "unreadable", "It cannot be read", detail)
    }

    /// 500. The cause goes to the log, under the request's id, not to the client.
    pub fn internal(error: &anyhow::Error) -> Self {
        tracing::error!(request_id = RequestId::current(), error = causes(error), "internal error");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "Internal error", "something went wrong here; it is in the log")
    }
}

/// The text, or its beginning and its end: what came is in the middle.
fn brief(text: String) -> String {
    let count = text.chars().count();
    if count <= BRIEF {
        return text;
    }
    let end = BRIEF / 4;
    let beginning: String = text.chars().take(BRIEF - end - 1).collect();
    let end: String = text.chars().skip(count - end).collect();
    format!("{beginning}…{end}")
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut response = (status, [(header::CONTENT_TYPE, "application/problem+json")], body).into_response();
        if matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS) {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_is_repeated_at_no_length_and_our_words_stay() {
        let problem = Problem::malformed(format!("`{}` is not a UUID", "é".repeat(20_000)));
        assert_eq!(problem.detail.chars().count(), 200);
        assert!(problem.detail.starts_with("`éé") && problem.detail.ends_with("éé` is not a UUID"), "{problem:?}");
        let long = "x".repeat(5_000);
        let problem =
            Problem::invalid(vec![FieldError { pointer: format!("/{long}"), detail: format!("unknown field `{long}`") }]);
        for text in [&problem.detail, &problem.errors[0].pointer, &problem.errors[0].detail] {
            assert_eq!(text.chars().count(), 200, "{text}");
        }
        assert_eq!(Problem::malformed("short").detail, "short");
    }
}
