//! What a request can come to other than its page.

use askama::Template;
use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Response};
use saga_commands::output::plain;
use saga_commands::problem::Failure;

use crate::frame::Frame;
use crate::jobs::Full;

/// A page that could not be made, or an action that was refused, and why.
#[derive(Debug)]
pub struct Failed {
    status: StatusCode,
    why: String,
}

#[derive(Template)]
#[template(path = "failed.html")]
struct Page {
    frame: Frame,
    status: u16,
    title: &'static str,
    why: String,
}

impl Failed {
    /// With this status, and this to read.
    pub fn new(status: StatusCode, why: impl Into<String>) -> Self {
        Self { status, why: plain_lines(&why.into()) }
    }

    /// There is no such page, or no such thing.
    pub fn missing(why: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, why)
    }

    /// What was asked for cannot be.
    pub fn wrong(why: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, why)
    }

    /// What went wrong, to be told beside something else.
    pub fn why(&self) -> &str {
        &self.why
    }
}

fn plain_lines(text: &str) -> String {
    text.lines().map(|line| plain(line.to_owned())).collect::<Vec<_>>().join("\n")
}

impl From<Failure> for Failed {
    fn from(failure: Failure) -> Self {
        let status = match &failure {
            Failure::Problem(problem) if problem.status.is_client_error() => problem.status,
            Failure::Problem(problem) if problem.status == StatusCode::SERVICE_UNAVAILABLE => problem.status,
            _ => StatusCode::BAD_GATEWAY,
        };
        Self::new(status, failure.to_string())
    }
}

impl From<Full> for Failed {
    fn from(full: Full) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, format!("Nothing was done: {full}. They are listed under Bulk actions."))
    }
}

impl From<anyhow::Error> for Failed {
    fn from(error: anyhow::Error) -> Self {
        match error.downcast::<Failure>() {
            Ok(failure) => failure.into(),
            Err(error) => Self::new(StatusCode::BAD_GATEWAY, chassis::causes(&error)),
        }
    }
}

/// A page as an answer.
pub fn page(template: &impl Template) -> Result<Response, Failed> {
    let html = template.render().map_err(|error| Failed::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
    Ok(Html(html).into_response())
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        let title = self.status.canonical_reason().unwrap_or("It did not work");
        let page = Page { frame: Frame::bare(), status: self.status.as_u16(), title, why: self.why };
        match page.render() {
            Ok(html) => (self.status, Html(html)).into_response(),
            Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
        }
    }
}
