//! Heads and bodies of requests, whatever strangers put there.

use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::{HeaderMap, HeaderValue, Uri};
use axum::response::IntoResponse;
use serde::Deserialize;

use super::{IdempotencyKey, Json, Object, PageQuery, prefer_wait, trace};

/// A runtime for extractors, which wait for nothing here.
fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

#[test]
fn headers_with_a_meaning() {
    fuzz::drive("headers", |input| {
        let Ok(value) = HeaderValue::from_bytes(input) else { return };
        let mut headers = HeaderMap::new();
        for name in ["idempotency-key", "prefer", "traceparent", "tracestate"] {
            headers.insert(name, value.clone());
        }
        match IdempotencyKey::from_headers(&headers) {
            Ok(Some(key)) => assert!((1..=200).contains(&key.0.len()), "{key:?}"),
            Ok(None) => panic!("there is a key"),
            Err(problem) => assert!((400..500).contains(&problem.status), "{problem:?}"),
        }
        assert!(prefer_wait(&headers).is_none_or(|wait| wait.as_secs() <= 30));
        let trace = trace(&headers);
        assert_eq!(envelope::TraceParent::parse(trace.parent.as_str()), Some(trace.parent));
    });
}

#[test]
fn cursors_and_limits() {
    let runtime = runtime();
    fuzz::drive("queries", |input| {
        let Ok(text) = std::str::from_utf8(input) else { return };
        let Ok(uri) = format!("/orders?{text}").parse::<Uri>() else { return };
        let (mut parts, ()) = Request::builder().uri(uri).body(()).expect("a request").into_parts();
        match runtime.block_on(PageQuery::from_request_parts(&mut parts, &())) {
            Ok(page) => assert!((1..=200).contains(&page.limit) && page.rows() == page.limit + 1),
            Err(problem) => assert!((400..500).contains(&problem.status), "{problem:?}"),
        }
    });
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only read")]
struct Shape {
    text: String,
    number: Option<i64>,
    parts: Vec<Object<Part>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only read")]
struct Part {
    amount: i64,
    code: String,
}

impl std::fmt::Debug for Object<Part> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

#[test]
fn bodies_are_read_or_refused_with_words() {
    let runtime = runtime();
    fuzz::drive("bodies", |input| {
        let body = Body::from(input.to_vec());
        let request = Request::builder().header("content-type", "application/json").body(body).expect("a request");
        if let Err(problem) = runtime.block_on(Json::<Shape>::from_request(request, &())) {
            assert!([400, 413, 422].contains(&problem.status), "{problem:?}");
            let refused = problem.into_response();
            assert_eq!(refused.headers()["content-type"], "application/problem+json");
        }
    });
}
