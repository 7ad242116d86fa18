//! `GET /`: what is where, for whoever comes without a map.

use axum::Json;
use serde_json::{Value, json};

/// The routes, by the service that answers them, and where to read on.
pub async fn show() -> Json<Value> {
    Json(json!({
        "name": "waybill",
        "version": env!("CARGO_PKG_VERSION"),
        "about": "Order processing as services over NATS JetStream; every order travels with its record of what was asked, answered and decided.",
        "routes": {
            "user": [
                "POST /users",
                "GET /users?limit&cursor",
                "GET /users/{id}",
                "GET /users/{id}/validate",
                "PATCH /users/{id}",
            ],
            "product": [
                "POST /products",
                "GET /products?limit&cursor",
                "GET /products/{id}",
                "POST /products/{id}/stock",
                "POST /products/reserve",
                "POST /products/reservations/{id}/release",
            ],
            "order": [
                "POST /orders",
                "GET /orders?user_id&status&limit&cursor",
                "GET /orders/{id}",
                "GET /orders/{id}/history",
                "GET /orders/{id}/events",
                "POST /orders/{id}/cancel",
            ],
            "gateway": ["GET /", "GET /health", "GET /livez", "GET /readyz", "GET /metrics", "GET /openapi.json", "GET /docs"],
        },
        "prefix": "each route is served with and without /v1",
        "read_on": "/docs: every route, to read and try; README.md: curl and command line examples; `waybill --help`",
    }))
}
