//! What stands in a URL: the id in its path, the query. Whatever cannot be read is malformed, and told as a problem.

use std::str::FromStr;

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;

use crate::http::Problem;

/// The id in a path of one.
pub struct Id<T>(pub T);

impl<T: FromStr, S: Send + Sync> FromRequestParts<S> for Id<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Path(text) = Path::<String>::from_request_parts(parts, state).await?;
        parse_id(&text).map(Self)
    }
}

/// The query.
#[derive(FromRequestParts)]
#[from_request(via(axum::extract::Query), rejection(Problem))]
pub struct Query<T>(pub T);

/// An id in a URL; what is no UUID is malformed.
pub fn parse_id<T: FromStr>(text: &str) -> Result<T, Problem> {
    text.parse().map_err(|_| Problem::malformed(format!("`{text}` is not a UUID")))
}

impl From<PathRejection> for Problem {
    fn from(_: PathRejection) -> Self {
        Self::malformed("the path cannot be read: it is not UTF-8, or not what this resource takes")
    }
}

impl From<QueryRejection> for Problem {
    /// In our words; of the framework's only the parameter's name is taken, where it says it.
    fn from(rejection: QueryRejection) -> Self {
        let text = rejection.body_text();
        let name = text
            .strip_prefix("Failed to deserialize query string: ")
            .and_then(|text| text.split_once(": "))
            .map(|(name, _)| name);
        match name.filter(|name| name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')) {
            Some("since") => Self::malformed("`since` must be a time such as 2026-01-31T12:00:00Z"),
            Some("older_than") => Self::malformed("`older_than` must be a number of seconds"),
            Some("limit") => Self::malformed("`limit` must be a number"),
            Some("stuck") => Self::malformed("`stuck` must be true or false"),
            Some(name) => Self::malformed(format!("`{name}` cannot be read")),
            None => Self::malformed("the query cannot be read"),
        }
    }
}
