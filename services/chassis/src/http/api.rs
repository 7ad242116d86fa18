//! What a service serves, as it is given to the server.

use std::sync::Arc;

use axum::Router;
use tokio::sync::SetOnce;

use crate::http::access::{Rule, Who};
use crate::http::deprecation::Deprecated;
use crate::http::queries::Queries;
use crate::http::standard::{self, document_of};
use crate::http::{Operation, Routes};
use crate::otlp::Traces;

/// What a service serves beside what every service does.
#[derive(Debug)]
pub struct Api {
    pub(super) routes: Router,
    pub(super) queries: Queries,
    pub(super) document: Document,
    pub(super) rules: Vec<Rule>,
    pub(super) deprecated: &'static [Deprecated],
    pub(super) opens: Option<Arc<SetOnce<()>>>,
    pub(super) traces: Option<Traces>,
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
    /// Routes, without their prefix.
    pub fn new(routes: Routes) -> Self {
        let (routes, operations) = routes.into_parts();
        let (queries, rules) = (Queries::of(&operations), rules(&operations));
        Self { routes, queries, document: Document::Operations(operations), rules, deprecated: &[], opens: None, traces: None }
    }

    /// The routes of a proxy: its own, and those it passes on to others, who judge what these are asked. `who` comes so far at all; the document
    /// tells what is behind them.
    pub fn proxy(own: Routes, passing: Router, passed: &[&'static str], who: Who, document: &'static str) -> Self {
        let (routes, operations) = own.into_parts();
        let mut rules = rules(&operations);
        rules.extend(passed.iter().map(|path| Rule { method: None, path, who }));
        let queries = Queries::of(&operations).passing(passed);
        Self {
            routes: routes.merge(passing),
            queries,
            document: Document::Text(document),
            rules,
            deprecated: &[],
            opens: None,
            traces: None,
        }
    }

    /// The same, from when this is set on. Until then health alone is answered, and documents; the rest is told to come again.
    pub(crate) fn once(mut self, opens: Arc<SetOnce<()>>) -> Self {
        self.opens = Some(opens);
        self
    }

    /// The same, of whose requests somebody is told.
    pub(crate) fn traced(mut self, traces: Option<Traces>) -> Self {
        self.traces = traces;
        self
    }

    /// The same, of which these routes are on their way out.
    pub fn deprecating(mut self, deprecated: &'static [Deprecated]) -> Self {
        self.deprecated = deprecated;
        self
    }
}

/// Who may use these, and what every service serves.
fn rules(operations: &[Operation]) -> Vec<Rule> {
    operations.iter().chain(&standard::operations()).map(Operation::rule).collect()
}
