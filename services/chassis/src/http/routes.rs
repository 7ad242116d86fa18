//! Routes with what there is to say about them: one table for the router, the queries that are taken and the OpenAPI document.

use axum::Router;
use axum::handler::Handler;
use axum::routing::{MethodFilter, on};

use crate::http::Operation;

/// Operations and their handlers.
#[derive(Debug)]
pub struct Routes<S = ()> {
    router: Router<S>,
    operations: Vec<Operation>,
}

impl<S: Clone + Send + Sync + 'static> Default for Routes<S> {
    fn default() -> Self {
        Self { router: Router::new(), operations: Vec::new() }
    }
}

impl<S: Clone + Send + Sync + 'static> Routes<S> {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// One more.
    pub fn route<H: Handler<T, S>, T: 'static>(mut self, operation: Operation, handler: H) -> Self {
        let method = MethodFilter::try_from(operation.method.clone()).expect("a method of HTTP");
        self.router = self.router.route(operation.path, on(method, handler));
        self.operations.push(operation);
        self
    }

    /// These and those.
    pub fn merge(mut self, other: Self) -> Self {
        self.router = self.router.merge(other.router);
        self.operations.extend(other.operations);
        self
    }

    /// The same with what the handlers need.
    pub fn with_state<R>(self, state: S) -> Routes<R> {
        Routes { router: self.router.with_state(state), operations: self.operations }
    }

    /// The operations alone.
    pub fn operations(self) -> Vec<Operation> {
        self.operations
    }
}

impl Routes {
    pub(super) fn into_parts(self) -> (Router, Vec<Operation>) {
        (self.router, self.operations)
    }
}
