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
                "GET /orders?user_id&status&created_from&created_to&reference&tag&reason&product_id&limit&cursor",
                "GET /orders/{id}",
                "GET /orders/{id}/history?limit&cursor",
                "GET /orders/{id}/events",
                "POST /orders/{id}/cancel",
            ],
            "gateway": ["GET /", "GET /health", "GET /livez", "GET /readyz", "GET /metrics", "GET /openapi.json", "GET /docs"],
        },
        "prefix": "each route is served with and without /v1",
        "read_on": "/docs: every route, to read and try; README.md: curl and command line examples; `waybill --help`",
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_map_is_true_to_the_contract() {
        let contract: Value = serde_json::from_str(crate::OPENAPI).unwrap();
        let Json(map) = show().await;
        let mut count = 0;
        for route in map["routes"].as_object().unwrap().values().flat_map(|routes| routes.as_array().unwrap()) {
            let (method, rest) = route.as_str().unwrap().split_once(' ').unwrap();
            let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
            let operation = &contract["paths"][path][method.to_lowercase()];
            assert!(operation.is_object(), "{route} is no route");
            let parameters = operation["parameters"].as_array().into_iter().flatten();
            let named =
                parameters.filter(|parameter| parameter["in"] == "query").map(|parameter| parameter["name"].as_str().unwrap());
            assert_eq!(named.collect::<Vec<_>>().join("&"), query, "{route}");
            count += 1;
        }
        assert!(count > 15, "only {count} routes");
    }
}
