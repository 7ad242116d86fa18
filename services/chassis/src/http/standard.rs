//! What every service serves beside its own routes, without a prefix: health, metrics, and what it serves.

use std::sync::{Arc, LazyLock};

use axum::Json;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse as _;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::health::{Health, Readiness};
use crate::http::access::Who;
use crate::http::docs;
use crate::http::openapi::openapi;
use crate::http::operation::{Operation, Shape};
use crate::http::routes::Routes;
use crate::metrics::Metrics;

/// The form of `/metrics`. Prometheus takes it by its name.
const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Health and metrics: all that a connection of the reserve is answered.
pub(super) fn health(metrics: &Metrics, health: &Health, shutdown: &CancellationToken) -> Routes {
    let (health, shutdown, metrics, name) = (health.clone(), shutdown.clone(), metrics.clone(), metrics.service());
    let alive = move || async move { Json(json!({"status": "ok", "service": name, "version": env!("CARGO_PKG_VERSION")})) };
    let readiness = move || {
        let mut readiness = health.readiness();
        if shutdown.is_cancelled() {
            readiness.ready = false;
            readiness.checks.insert("draining", "the service is stopping".to_owned());
        }
        readiness
    };
    let measured = readiness.clone();
    let ready = move || async move {
        let readiness = readiness();
        let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        (status, Json(readiness))
    };
    let text = || Shape::Value(json!({ "type": "string" }));
    let is_alive = || {
        Shape::Value(json!({
            "type": "object",
            "required": ["status", "service", "version"],
            "properties": { "status": { "const": "ok" }, "service": { "type": "string" }, "version": { "type": "string" } },
        }))
    };
    Routes::new()
        .route(
            Operation::get(Who::Anyone, "/health", "health", "Whether the service lives").plain().answers(
                200,
                "It does",
                is_alive(),
            ),
            alive,
        )
        .route(Operation::get(Who::Anyone, "/livez", "livez", "The same").plain().answers(200, "It does", is_alive()), alive)
        .route(
            Operation::get(Who::Anyone, "/readyz", "readyz", "Whether the service can work, and what is missing")
                .plain()
                .answers(200, "It can", Shape::of::<Readiness>())
                .answers(503, "It cannot, or too many connections are open", Shape::of::<Readiness>()),
            ready,
        )
        .route(
            Operation::get(Who::Anyone, "/metrics", "metrics", "Figures, for Prometheus").plain().answers_as(
                200,
                "They",
                "text/plain",
                text(),
            ),
            move || async move { ([(header::CONTENT_TYPE, TEXT_FORMAT)], metrics.render(measured().ready)) },
        )
}

/// What a service serves; `openapi`: its document as JSON, made when it is asked for.
pub(super) fn document(openapi: impl Fn() -> String + Send + Sync + 'static) -> Routes {
    let document = Arc::new(LazyLock::new(Box::new(openapi) as Box<dyn Fn() -> String + Send + Sync>));
    let show = move || {
        let document = document.clone();
        async move { ([(header::CONTENT_TYPE, "application/json")], String::clone(&document)).into_response() }
    };
    let text = || Shape::Value(json!({ "type": "string" }));
    let part = |path, id, content_type| {
        Operation::get(Who::Anyone, path, id, "A part of the page").plain().answers_as(200, "It", content_type, text())
    };
    Routes::new()
        .route(
            Operation::get(Who::Anyone, "/openapi.json", "openapi", "This document").plain().answers(
                200,
                "OpenAPI 3.1",
                Shape::Value(json!({ "type": "object", "required": ["openapi", "info", "paths"] })),
            ),
            show,
        )
        .route(
            Operation::get(Who::Anyone, "/docs", "docs", "The same as a page").plain().answers_as(
                200,
                "The page",
                "text/html",
                text(),
            ),
            docs::page,
        )
        .route(part("/docs/swagger-ui.js", "docs_script", "text/javascript"), docs::script)
        .route(part("/docs/swagger-ui.css", "docs_style", "text/css"), docs::style)
        .route(part("/docs/start.js", "docs_start", "text/javascript"), docs::start)
}

/// What every service serves.
pub(super) fn operations() -> Vec<Operation> {
    health(&Metrics::new(""), &Health::default(), &CancellationToken::new()).merge(document(String::new)).operations()
}

/// The OpenAPI document of a service that serves these operations beside those of every service.
pub fn document_of(service: &str, of_service: &[Operation]) -> Value {
    let all: Vec<Operation> = [of_service, &operations()].concat();
    openapi(&format!("Waybill: the {service} service"), &all)
}
