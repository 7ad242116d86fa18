//! The span of a request whose caller records its part of the trace.

use axum::http::{HeaderMap, Method, StatusCode};
use chrono::Utc;
use envelope::{TraceContext, TraceState};

use crate::http::headers::trace_given;
use crate::otlp::{Span, Traces, attribute, ended, new_span, span};

/// A request under way, of which somebody is told.
pub(super) struct RequestSpan {
    traces: Traces,
    span: Span,
}

impl RequestSpan {
    /// `None` where nobody is told, or the caller does not record it.
    pub fn begin(traces: Option<&Traces>, headers: &HeaderMap) -> Option<Self> {
        let traces = traces?;
        let TraceContext { parent, state } = trace_given(headers).filter(|trace| trace.parent.is_sampled())?;
        let span = Span {
            trace_id: parent.trace_id().to_be_bytes().to_vec(),
            parent_span_id: parent.span_id().to_be_bytes().to_vec(),
            trace_state: state.as_ref().map(TraceState::as_str).unwrap_or_default().to_owned(),
            kind: span::SpanKind::Server.into(),
            ..new_span(Utc::now())
        };
        Some(Self { traces: traces.clone(), span })
    }

    /// It is answered, or its answer begins.
    pub fn end(mut self, method: &Method, route: &str, status: StatusCode) {
        self.span.name = format!("{method} {route}");
        self.span.attributes = vec![
            attribute("http.request.method", method.as_str()),
            attribute("http.route", route),
            attribute("http.response.status_code", u32::from(status.as_u16())),
        ];
        let failed = status.is_server_error().then(|| status.to_string());
        self.span.attributes.extend(failed.as_ref().map(|_| attribute("error.type", status.as_str())));
        self.traces.tell(vec![ended(self.span, Utc::now(), failed)]);
    }
}
