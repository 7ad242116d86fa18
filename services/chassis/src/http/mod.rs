//! The HTTP edge: strict JSON in, problem+json on error, pages, and a server that outlives slow and rude clients.

mod access;
mod admission;
mod api;
mod caller_limits;
mod connection;
mod cross_origin;
mod deprecation;
mod docs;
mod explain;
#[cfg(test)]
mod fuzz;
mod head;
mod headers;
mod json;
mod limits;
mod openapi;
mod operation;
mod page;
mod problem;
mod queries;
mod receive;
mod request_id;
mod request_span;
mod routes;
mod server;
mod standard;
mod stream;
mod url;
mod version;
mod watched;

pub use access::{Caller, Rule, Who};
pub use api::Api;
pub use deprecation::{Deprecated, SERVED_ON_FOR};
pub use headers::{IdempotencyKey, prefer_wait, trace};
pub use json::{Checks, Json, Object};
pub use openapi::merged;
pub use operation::{Operation, Shape};
pub use page::{Page, PageQuery, number};
pub use problem::{FieldError, Problem};
pub use receive::BODY_MAX;
pub use routes::Routes;
pub use server::{listen, serve};
pub use standard::document_of;
pub use url::{Id, Query, parse_id};

pub use crate::client::Client;
use crate::failure::Failure;
use crate::group_commit::Overloaded;
use crate::meaning::Meaning;
use crate::unsure::Unsure;

impl From<Overloaded> for Problem {
    fn from(_: Overloaded) -> Self {
        Self::unavailable("too many requests are waiting; try again shortly")
    }
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Outage(error) if error.is::<Unsure>() => Self::broken_off(
                "the database broke off; the request may have been carried out or not; \
                 repeating it with the same Idempotency-Key, if it bore one, is safe",
            ),
            Failure::Outage(error) if Meaning::is_read_only(&error) => {
                Self::unavailable("the database is read-only; nothing was done, try again shortly")
            }
            Failure::Outage(_) => Self::unavailable("the database does not answer; nothing was done, try again shortly"),
            Failure::Busy(_) => {
                Self::unavailable("somebody else is at work on this for too long; nothing was changed, try again shortly")
            }
            Failure::Conflict(_) => Self::unavailable(
                "others change the same at the same moment, again and again; nothing was changed, try again shortly",
            ),
            Failure::Item(error) => Self::internal(&error),
        }
    }
}

impl From<sqlx::Error> for Problem {
    fn from(error: sqlx::Error) -> Self {
        Failure::of(error.into()).into()
    }
}
