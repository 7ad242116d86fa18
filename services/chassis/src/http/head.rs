//! What a request's head must be, whatever it asks for: framed in one way, for one host, with headers that mean one thing.

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, StatusCode, Version, header};

use super::limits::{HEAD_MAX, HEADERS_MAX};
use super::problem::Problem;

/// What a gateway adds, and what is not counted for that reason: a head that passes the gateway's edge passes the service's.
const ADDED_MAX: usize = 6;
static ADDED: [HeaderName; ADDED_MAX] = [
    HeaderName::from_static("x-request-id"),
    HeaderName::from_static("x-forwarded-for"),
    HeaderName::from_static("x-forwarded-host"),
    HeaderName::from_static("x-forwarded-proto"),
    header::FORWARDED,
    header::VIA,
];

/// What is read at all. Room for what a gateway adds: it repeats the client's `Host`, and lengthens what earlier proxies said.
pub(super) const HEAD_READ: usize = 2 * HEAD_MAX + 4 * 1024;
pub(super) const HEADERS_READ: usize = HEADERS_MAX + 2 * ADDED_MAX;

/// Headers about the message, which `Connection` must not name: a proxy would take them out, and the request would mean another.
static END_TO_END: [HeaderName; 24] = [
    header::ACCEPT,
    header::ACCEPT_CHARSET,
    header::ACCEPT_ENCODING,
    header::ACCEPT_LANGUAGE,
    header::AUTHORIZATION,
    header::CACHE_CONTROL,
    header::CONTENT_ENCODING,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::COOKIE,
    header::EXPECT,
    header::FORWARDED,
    header::HOST,
    header::IF_MATCH,
    header::IF_NONE_MATCH,
    header::USER_AGENT,
    header::VIA,
    HeaderName::from_static("idempotency-key"),
    HeaderName::from_static("last-event-id"),
    HeaderName::from_static("prefer"),
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("tracestate"),
    HeaderName::from_static("x-forwarded-for"),
    HeaderName::from_static("x-request-id"),
];

/// Refuses a head that could be understood in two ways, or is too large.
pub(super) fn check(request: &Request) -> Result<(), Problem> {
    let headers = request.headers();
    // Of these HTTP allows one line; which of two would count, two readers may see differently.
    for name in [header::HOST, header::CONTENT_TYPE] {
        if headers.get_all(&name).iter().nth(1).is_some() {
            return Err(Problem::malformed(format!("`{}` is given twice", title(&name))));
        }
    }
    if request.version() == Version::HTTP_11 && !headers.contains_key(header::HOST) {
        return Err(Problem::malformed("`Host` is missing"));
    }
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    if codings.next().is_some_and(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"chunked")) || codings.next().is_some() {
        return Err(Problem::transfer_encoded());
    }
    if let Some(name) = named_by_connection(headers) {
        let detail = format!("`Connection` names `{}`, which is not about the connection", title(&name));
        return Err(Problem::malformed(detail));
    }
    let counted = || headers.iter().filter(|(name, _)| !ADDED.contains(name));
    let lines: usize = counted().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    if lines + target > HEAD_MAX || (headers.len() > HEADERS_MAX && counted().count() > HEADERS_MAX) {
        return Err(Problem::head_too_large());
    }
    Ok(())
}

fn named_by_connection(headers: &HeaderMap) -> Option<HeaderName> {
    let values = headers.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
    let names = values.flat_map(|value| value.split(',')).filter_map(|name| name.trim().parse().ok());
    names.into_iter().find(|name| END_TO_END.contains(name))
}

/// As it is written mostly: `Content-Type`.
fn title(name: &HeaderName) -> String {
    let word = |word: &str| word[..1].to_ascii_uppercase() + &word[1..];
    name.as_str().split('-').map(word).collect::<Vec<_>>().join("-")
}

/// Whether this asks what the server as a whole can do (RFC 9110 section 9.3.7).
pub(super) fn asks_for_the_server(request: &Request) -> bool {
    request.method() == axum::http::Method::OPTIONS && request.uri().path() == "*"
}

/// The answer to that.
pub(super) fn server_options() -> (StatusCode, [(HeaderName, &'static str); 1]) {
    (StatusCode::NO_CONTENT, [(header::ALLOW, "GET, HEAD, POST, PATCH, OPTIONS")])
}
