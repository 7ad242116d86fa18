//! Who may ask: a browser on this machine, by one of its names, with the key where there is one; and what changes something, only from a page of
//! ours. A console acts with an operator's rights, so a page of another site must not be able to press its buttons.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Redirect, Response};

use crate::failed::Failed;
use crate::secret::is_same;

/// Nothing from elsewhere, nothing inline, and in nobody's frame.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; \
                      form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// What is checked of every request.
#[derive(Debug)]
pub struct Guard {
    /// What a browser must show; `None`: nothing.
    key: Option<String>,
    /// The cookie that holds the key.
    cookie: String,
}

/// Refuses what nobody of ours asks, and says with every answer what a browser may do with it.
pub async fn guard(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    let mut response = match guard.check(&request) {
        Ok(()) => next.run(request).await,
        Err(refused) => *refused,
    };
    let headers = response.headers_mut();
    let says = |headers: &mut HeaderMap, name, value| {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    };
    says(headers, header::CONTENT_SECURITY_POLICY, POLICY);
    says(headers, header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    says(headers, header::X_FRAME_OPTIONS, "DENY");
    // Not `no-referrer`: a browser then says of its own forms that they come from `null`, and no button works.
    says(headers, header::REFERRER_POLICY, "same-origin");
    says(headers, header::HeaderName::from_static("cross-origin-opener-policy"), "same-origin");
    says(headers, header::HeaderName::from_static("cross-origin-resource-policy"), "same-origin");
    says(headers, header::CACHE_CONTROL, "no-store");
    response
}

impl Guard {
    /// Of a console on this port. Cookies know no ports, so the name does: two consoles of a machine do not lock each other out.
    pub fn new(key: Option<String>, port: u16) -> Self {
        Self { key, cookie: format!("waybill_console_{port}") }
    }

    fn check(&self, request: &Request) -> Result<(), Box<Response>> {
        let refuse = |status, why: &str| Err(Box::new(Failed::new(status, why).into_response()));
        let headers = request.headers();
        let host = text(headers, header::HOST);
        if !is_here(host) {
            return refuse(StatusCode::MISDIRECTED_REQUEST, "The console answers to localhost and 127.0.0.1 alone.");
        }
        if let Some(key) = &self.key {
            self.unlock(request, key)?;
        }
        if request.method().is_safe() {
            return Ok(());
        }
        let own = format!("http://{host}");
        let foreign = headers.get(header::ORIGIN).is_some_and(|origin| origin.as_bytes() != own.as_bytes());
        let site = headers.get("sec-fetch-site");
        if foreign || site.is_some_and(|site| site != "same-origin" && site != "none") {
            return refuse(StatusCode::FORBIDDEN, "The page of another site asks for this. Nothing was done.");
        }
        Ok(())
    }

    /// Lets in who has the key, by the cookie or in the address; then it becomes the cookie.
    fn unlock(&self, request: &Request, key: &str) -> Result<(), Box<Response>> {
        let cookies = request.headers().get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
        let shown = cookies.flat_map(|cookies| cookies.split("; ")).filter_map(|cookie| cookie.split_once('='));
        if shown.into_iter().any(|(name, value)| name == self.cookie && is_same(value, key)) {
            return Ok(());
        }
        let given = request.uri().query().and_then(|query| query.strip_prefix("key="));
        if !given.is_some_and(|given| is_same(given, key)) {
            let why = "Open the console with the address that it printed when it was started: its key says that you may act in that name.";
            return Err(Box::new(Failed::new(StatusCode::FORBIDDEN, why).into_response()));
        }
        let cookie = format!("{}={key}; HttpOnly; SameSite=Strict; Path=/", self.cookie);
        let response = ([(header::SET_COOKIE, cookie)], Redirect::to(own(request.uri().path()))).into_response();
        Err(Box::new(response))
    }
}

/// A path to go to: of this console, where a browser does not read the host of another out of it.
fn own(path: &str) -> &str {
    let leads_away = path.starts_with("//") || path.contains('\\') || !path.starts_with('/');
    if leads_away { "/" } else { path }
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> &str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// Whether a host is this machine by a name that nobody can have resolve to it (DNS rebinding). The port may be another: of a tunnel.
fn is_here(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    ["localhost", "127.0.0.1", "[::1]"].contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_browser_that_is_let_in_stays_here() {
        assert_eq!((own("/sagas/x"), own("/")), ("/sagas/x", "/"));
        for away in ["//evil.example/a", "/\\evil.example", "/a\\b", "http://evil.example", "*", ""] {
            assert_eq!(own(away), "/", "{away}");
        }
    }

    #[test]
    fn only_names_of_this_machine_are_answered() {
        for taken in ["localhost", "localhost:8090", "127.0.0.1:9999", "[::1]:8090", "[::1]"] {
            assert!(is_here(taken), "{taken}");
        }
        for refused in ["", "evil.example", "localhost.evil.example:8090", "127.0.0.1.evil.example", "[::1].x", "10.0.0.1:8090"] {
            assert!(!is_here(refused), "{refused}");
        }
    }
}
