//! What a form brings. It can only be read with the token that our own pages put into it.

use std::sync::Arc;

use axum::extract::{Form, FromRequest, Request};
use axum::http::StatusCode;
use saga_commands::CommandLine;

use crate::failed::Failed;
use crate::secret::is_same;
use crate::setup::Console;

/// A form that one of our pages sent.
#[derive(Debug)]
pub struct Posted {
    fields: Vec<(String, String)>,
}

impl<C: CommandLine> FromRequest<Arc<Console<C>>> for Posted {
    type Rejection = Failed;

    async fn from_request(request: Request, console: &Arc<Console<C>>) -> Result<Self, Failed> {
        let form = Form::<Vec<(String, String)>>::from_request(request, &()).await;
        let Form(fields) = form.map_err(|rejection| match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => {
                Failed::new(rejection.status(), "This is more than a form may bring. Nothing was done.")
            }
            status => Failed::new(status, "This is no form of a page of ours. Nothing was done."),
        })?;
        let posted = Self { fields };
        if !is_same(posted.text("token"), &console.token) {
            let why =
                "This form is older than the console that runs now. Nothing was done: go back, reload the page and try again.";
            return Err(Failed::new(StatusCode::FORBIDDEN, why));
        }
        Ok(posted)
    }
}

impl Posted {
    /// Every field.
    pub fn fields(&self) -> &[(String, String)] {
        &self.fields
    }

    /// A field; empty where it was left out.
    pub fn text(&self, name: &str) -> &str {
        self.fields.iter().find(|(field, _)| field == name).map(|(_, value)| value.trim()).unwrap_or_default()
    }

    /// A field that must say something, however long.
    pub fn required_long(&self, name: &str) -> Result<&str, Failed> {
        Some(self.text(name))
            .filter(|text| !text.is_empty())
            .ok_or_else(|| Failed::wrong(format!("Say something for `{name}`. Nothing was done.")))
    }

    /// A field that says why: one line, as the service takes it.
    pub fn why(&self, name: &str) -> Result<&str, Failed> {
        let text = self.required_long(name)?;
        envelope::line(text).map_err(|error| Failed::wrong(format!("The reason {error}. Nothing was done.")))?;
        Ok(text)
    }
}
