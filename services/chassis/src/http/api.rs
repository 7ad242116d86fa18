//! What a service serves, as it is given to the server.

use axum::Router;

use crate::http::access::Access;
use crate::http::deprecation::Deprecated;
use crate::http::queries::Queries;
use crate::http::standard::document_of;
use crate::http::{Operation, Routes};

/// What a service serves beside what every service does.
#[derive(Debug)]
pub struct Api {
    pub(super) routes: Router,
    pub(super) queries: Queries,
    pub(super) document: Document,
    pub(super) access: &'static [Access],
    pub(super) deprecated: &'static [Deprecated],
}

/// Where the OpenAPI document comes from.
#[derive(Debug)]
pub(super) enum Document {
    /// It is made of these.
    Operations(Vec<Operation>),
    /// It is there.
    Text(&'static str),
}

impl Document {
    /// The document of a service, as JSON.
    pub(super) fn json(&self, service: &str) -> String {
        match self {
            Self::Operations(operations) => document_of(service, operations).to_string(),
            Self::Text(text) => (*text).to_owned(),
        }
    }
}

impl Api {
    /// Routes, without their prefix, and who may: a route without a rule is not served.
    pub fn new(routes: Routes, access: &'static [Access]) -> Self {
        let (routes, operations) = routes.into_parts();
        Self { routes, queries: Queries::of(&operations), document: Document::Operations(operations), access, deprecated: &[] }
    }

    /// The routes of a proxy: the queries of `passed` are for others to judge, and the document tells what these serve.
    pub fn proxy(routes: Router, passed: &[&'static str], access: &'static [Access], document: &'static str) -> Self {
        Self { routes, queries: Queries::passing(passed), document: Document::Text(document), access, deprecated: &[] }
    }

    /// The same, of which these routes are on their way out.
    pub fn deprecating(mut self, deprecated: &'static [Deprecated]) -> Self {
        self.deprecated = deprecated;
        self
    }
}
