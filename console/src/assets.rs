//! The stylesheet, the script and the icon: part of the program.

use axum::http::header;
use axum::response::IntoResponse;

/// `/assets/console.css`
pub async fn style() -> impl IntoResponse {
    asset("text/css; charset=utf-8", include_str!("../assets/console.css"))
}

/// `/assets/console.js`
pub async fn script() -> impl IntoResponse {
    asset("text/javascript; charset=utf-8", include_str!("../assets/console.js"))
}

/// `/assets/icon.svg`
pub async fn icon() -> impl IntoResponse {
    asset("image/svg+xml", include_str!("../assets/icon.svg"))
}

/// A browser asks again after a minute: another version may run by then.
fn asset(kind: &'static str, text: &'static str) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "private, max-age=60")], text)
}
