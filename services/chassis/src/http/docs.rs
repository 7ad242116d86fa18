//! `/docs`: the OpenAPI document as a page to read and try, from this service alone: nothing is loaded from elsewhere.

use axum::http::{HeaderName, header};
use axum::response::{IntoResponse, Response};

const SCRIPT: &[u8] = include_bytes!("../../assets/swagger-ui/swagger-ui-bundle.js.gz");
const STYLE: &[u8] = include_bytes!("../../assets/swagger-ui/swagger-ui.css.gz");

const PAGE: &str = r#"<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Waybill: the API</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="docs/swagger-ui.css">
<div id="api"></div>
<script src="docs/swagger-ui.js"></script>
<script src="docs/start.js"></script>
"#;

const START: &str = r##"SwaggerUIBundle({ url: "openapi.json", dom_id: "#api", deepLinking: true, validatorUrl: null });
"##;

/// What the page may load: its own script, style and document. Pictures of the style are in it, as `data:`.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The page.
pub(super) async fn page() -> Response {
    ([(header::CONTENT_SECURITY_POLICY, POLICY), (header::CONTENT_TYPE, "text/html; charset=utf-8")], PAGE).into_response()
}

/// What the page loads. Browsers read gzip, and nobody else asks.
pub(super) async fn script() -> Response {
    packed("text/javascript", SCRIPT).into_response()
}

/// See [`script`].
pub(super) async fn style() -> Response {
    packed("text/css", STYLE).into_response()
}

/// See [`script`].
pub(super) async fn start() -> Response {
    ([(header::CONTENT_TYPE, "text/javascript")], START).into_response()
}

fn packed(content_type: &'static str, bytes: &'static [u8]) -> ([(HeaderName, &'static str); 2], &'static [u8]) {
    ([(header::CONTENT_TYPE, content_type), (header::CONTENT_ENCODING, "gzip")], bytes)
}
