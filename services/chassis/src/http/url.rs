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

/// The query: texts, by their names. What they mean whoever asked for them says.
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
    fn from(_: QueryRejection) -> Self {
        Self::malformed("the query cannot be read")
    }
}
