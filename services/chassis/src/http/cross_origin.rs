//! What a page of somebody else's may make a browser ask here: to read, and nothing that changes something.
//!
//! A browser sends what a page bids it, from the inside of whatever network it runs in. That a page cannot see an answer does not keep the request
//! from being carried out. What gives a page away: the name it asks for (see [`crate::origins`]), its `Origin`, `Sec-Fetch-Site`, and, in a
//! browser that sends neither, a content type that a form can have. Whatever is no browser sends none of these, and is not concerned.

use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use tower_http::cors::CorsLayer;

use super::json::is_json;
use super::problem::Problem;
use crate::origins::{Hosts, Origins, is_own};
use crate::settings::HttpSettings;

/// How long a browser may go by what a preflight said.
const PREFLIGHT_LASTS: std::time::Duration = std::time::Duration::from_secs(3600);

/// By which names requests come here, and from whose pages.
pub(super) struct CrossOrigin {
    hosts: Hosts,
    origins: Origins,
}

impl CrossOrigin {
    pub(super) fn new(settings: &HttpSettings) -> Self {
        Self { hosts: settings.hosts.clone(), origins: settings.cors_origins.clone() }
    }

    /// Refuses what is asked for by a name that is not this server's, and what changes something if the page of somebody else asks it.
    pub(super) fn check(&self, request: &Request) -> Result<(), Problem> {
        let headers = request.headers();
        // The target's own host goes before `Host` (RFC 9112 section 3.2.2).
        let host = request.uri().authority().map(|authority| authority.as_str()).or_else(|| text(headers, &header::HOST));
        let host = host.unwrap_or_default();
        if !self.hosts.contains(host) {
            return Err(Problem::misdirected(host));
        }
        if request.method().is_safe() {
            return Ok(());
        }
        if headers.get(header::ORIGIN).is_some_and(|origin| !self.is_trusted(origin, host)) || self.is_cross_site(headers) {
            return Err(Problem::cross_site());
        }
        // What a page may send without being asked first is a POST, as a form would.
        let is_routed = request.extensions().get::<MatchedPath>().is_some();
        if request.method() == Method::POST && is_routed && headers.contains_key(header::CONTENT_TYPE) && !is_json(headers) {
            return Err(Problem::unsupported_media_type());
        }
        Ok(())
    }

    fn is_trusted(&self, origin: &HeaderValue, host: &str) -> bool {
        origin.to_str().is_ok_and(|origin| is_own(origin, host) || self.origins.contains(origin))
    }

    /// Whether the browser says so. `none`: a person asked, by no page.
    fn is_cross_site(&self, headers: &HeaderMap) -> bool {
        let from_listed = || text(headers, &header::ORIGIN).is_some_and(|origin| self.origins.contains(origin));
        let mut sites = headers.get_all("sec-fetch-site").iter();
        sites.any(|site| site != "same-origin" && site != "none") && !from_listed()
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    // What is not ASCII is no host of ours, nor an origin.
    headers.get(name).map(|value| value.to_str().unwrap_or("not.ascii"))
}

/// Lets the pages of the listed origins read answers; nothing where there are none. No cookies: nobody is known by one here.
pub(super) fn cors(origins: &Origins) -> Option<CorsLayer> {
    if origins.is_empty() {
        return None;
    }
    let origins = origins.iter().filter_map(|origin| origin.parse::<HeaderValue>().ok());
    let custom = ["idempotency-key", "prefer", "last-event-id", "traceparent", "tracestate", "x-request-id"];
    let asked = [header::ACCEPT, header::AUTHORIZATION, header::CONTENT_TYPE].into_iter();
    let told = ["idempotency-replayed", "preference-applied", "x-request-id", "deprecation", "sunset"];
    let answered = [header::LOCATION, header::LINK, header::RETRY_AFTER, header::WWW_AUTHENTICATE].into_iter();
    let layer = CorsLayer::new()
        .allow_origin(origins.collect::<Vec<_>>())
        .allow_methods([Method::GET, Method::HEAD, Method::POST, Method::PATCH])
        .allow_headers(asked.chain(custom.map(HeaderName::from_static)).collect::<Vec<_>>())
        .expose_headers(answered.chain(told.map(HeaderName::from_static)).collect::<Vec<_>>())
        .max_age(PREFLIGHT_LASTS);
    Some(layer)
}
