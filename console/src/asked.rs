//! What stands in an address, and what is said where it cannot be read: a page of ours, in our words.

use axum::extract::FromRequestParts;
use axum::http::StatusCode;
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

use crate::failed::Failed;

/// What stands in the path.
#[derive(Debug)]
pub struct Path<T>(pub T);

/// What stands after the question mark.
#[derive(Debug)]
pub struct Query<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Path<T> {
    type Rejection = Failed;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failed> {
        let read = axum::extract::Path::<T>::from_request_parts(parts, state).await;
        read.map(|axum::extract::Path(path)| Self(path)).map_err(|_| Failed::missing("There is no such page."))
    }
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = Failed;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failed> {
        let read = axum::extract::Query::<T>::from_request_parts(parts, state).await;
        let why =
            "What stands after the question mark of this address cannot be read: something is no number, or stands there twice.";
        read.map(|axum::extract::Query(query)| Self(query)).map_err(|_| Failed::new(StatusCode::BAD_REQUEST, why))
    }
}
