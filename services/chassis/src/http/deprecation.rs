//! Routes that are on their way out: each answer of theirs says since when and until when (RFC 9745, RFC 8594). docs/api.md has the policy.

use axum::extract::MatchedPath;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use chrono::{DateTime, TimeDelta, Utc};

use crate::http::version::unversioned;

const DEPRECATION: HeaderName = HeaderName::from_static("deprecation");
const SUNSET: HeaderName = HeaderName::from_static("sunset");

/// How long a route is served at least once it is said to be on its way out, in days.
pub const SERVED_ON_FOR: i64 = 180;

/// A route that is on its way out.
#[derive(Clone, Copy, Debug)]
pub struct Deprecated {
    /// `GET`.
    pub method: &'static str,
    /// As it is routed: `/orders/{id}` with and without `/v1`, `/v1/orders/{id}` with it alone.
    pub route: &'static str,
    /// Since when, `2027-01-31T00:00:00Z`.
    pub since: &'static str,
    /// Until when it is served.
    pub sunset: &'static str,
    /// Where it is said what to use instead.
    pub link: &'static str,
}

/// Those of a service, each with what its answers bear.
#[derive(Default)]
pub(super) struct Deprecations(Vec<(Deprecated, [(HeaderName, HeaderValue); 3])>);

impl Deprecations {
    /// Panics where the table is not one: it is a constant of the program, and read when the service starts.
    pub(super) fn new(table: &[Deprecated]) -> Self {
        let read = |text: &str| text.parse::<DateTime<Utc>>().expect("a moment, as in 2027-01-31T00:00:00Z");
        let value = |text: String| HeaderValue::try_from(text).expect("text that fits into a header");
        let headers = |deprecated: &Deprecated| {
            let (since, sunset) = (read(deprecated.since), read(deprecated.sunset));
            assert!(
                sunset - since >= TimeDelta::days(SERVED_ON_FOR),
                "{deprecated:?} is to be served for {SERVED_ON_FOR} days more"
            );
            let sunset = sunset.format("%a, %d %b %Y %H:%M:%S GMT").to_string();
            let link = format!("<{}>; rel=\"deprecation\"", deprecated.link);
            [(DEPRECATION, value(format!("@{}", since.timestamp()))), (SUNSET, value(sunset)), (header::LINK, value(link))]
        };
        Self(table.iter().map(|deprecated| (*deprecated, headers(deprecated))).collect())
    }

    /// Marks an answer of a route that is on its way out.
    pub(super) fn mark(&self, method: &Method, route: Option<&MatchedPath>, answer: &mut HeaderMap) {
        let Some(route) = route.filter(|_| !self.0.is_empty()).map(MatchedPath::as_str) else { return };
        self.mark_route(method, route, answer);
    }

    fn mark_route(&self, method: &Method, route: &str, answer: &mut HeaderMap) {
        let plain = unversioned(route);
        // HEAD is GET without its body.
        let method = if *method == Method::HEAD { "GET" } else { method.as_str() };
        let is = |deprecated: &Deprecated| deprecated.method == method && [route, plain].contains(&deprecated.route);
        if let Some((_, headers)) = self.0.iter().find(|(deprecated, _)| is(deprecated)) {
            for (name, value) in headers {
                // Beside other links, such as the next page's.
                answer.append(name, value.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: Deprecated = Deprecated {
        method: "GET",
        route: "/orders/{id}",
        since: "2027-01-31T00:00:00Z",
        sunset: "2027-08-31T00:00:00Z",
        link: "https://waybill.example/api#orders",
    };

    fn marked(table: &[Deprecated], method: Method, route: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        Deprecations::new(table).mark_route(&method, route, &mut headers);
        headers
    }

    #[test]
    fn every_answer_of_a_route_on_its_way_out_says_since_when_and_until_when() {
        for route in ["/orders/{id}", "/v1/orders/{id}"] {
            let headers = marked(&[OLD], Method::GET, route);
            assert_eq!(headers["deprecation"], "@1801353600");
            assert_eq!(headers["sunset"], "Tue, 31 Aug 2027 00:00:00 GMT");
            assert_eq!(headers["link"], "<https://waybill.example/api#orders>; rel=\"deprecation\"");
        }
        assert_eq!(marked(&[OLD], Method::HEAD, "/orders/{id}").len(), 3);
        assert!(marked(&[OLD], Method::POST, "/orders/{id}").is_empty() && marked(&[OLD], Method::GET, "/orders").is_empty());
        let prefixed = Deprecated { route: "/v1/orders/{id}", ..OLD };
        assert!(marked(&[prefixed], Method::GET, "/orders/{id}").is_empty());
        assert_eq!(marked(&[prefixed], Method::GET, "/v1/orders/{id}").len(), 3);
    }

    #[test]
    #[should_panic(expected = "180 days more")]
    fn nothing_is_taken_away_at_short_notice() {
        Deprecations::new(&[Deprecated { sunset: "2027-02-28T00:00:00Z", ..OLD }]);
    }
}
