//! Which query parameters a route takes. All others are refused by name: one that is ignored means another request than its client thinks.

use axum::Router;
use axum::extract::MatchedPath;
use axum::http::{Method, Uri};
use percent_encoding::percent_decode_str;

use crate::http::access::Access;
use crate::http::deprecation::Deprecated;
use crate::http::problem::Problem;

/// The parameters a route takes when it is read (GET); nothing else takes any. Routes not in the table take none.
pub type Queries = &'static [(&'static str, &'static [&'static str])];

/// In place of the names: whatever is given is passed on, whatever the method.
pub const ANY: &[&str] = &["*"];

/// What a service serves.
pub struct Api {
    pub(super) routes: Router,
    pub(super) queries: Queries,
    pub(super) access: &'static [Access],
    pub(super) deprecated: &'static [Deprecated],
}

impl Api {
    /// Routes, without their prefix, what can be asked of them, and who may: a route without a rule is not served.
    pub fn new(routes: Router, queries: Queries, access: &'static [Access]) -> Self {
        Self { routes, queries, access, deprecated: &[] }
    }

    /// The same, of which these routes are on their way out.
    pub fn deprecating(mut self, deprecated: &'static [Deprecated]) -> Self {
        self.deprecated = deprecated;
        self
    }
}

/// Refuses parameters that the route does not take, and those that come twice.
pub(super) fn check(queries: Queries, route: Option<&MatchedPath>, method: &Method, uri: &Uri) -> Result<(), Problem> {
    let Some(query) = uri.query().filter(|query| !query.is_empty()) else {
        return Ok(());
    };
    // Where there is nothing, that is the better answer.
    let Some(route) = route.map(MatchedPath::as_str) else {
        return Ok(());
    };
    let route = route.strip_prefix("/v1").filter(|rest| rest.starts_with('/')).unwrap_or(route);
    let names = queries.iter().find(|(path, _)| *path == route).map_or(&[][..], |(_, names)| names);
    if names == ANY {
        return Ok(());
    }
    let names = if matches!(*method, Method::GET | Method::HEAD) { names } else { &[] };
    let mut seen = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let name = pair.split_once('=').map_or(pair, |(name, _)| name).replace('+', " ");
        let name = percent_decode_str(&name).decode_utf8_lossy().into_owned();
        if !names.contains(&name.as_str()) {
            let taken = match names {
                [] => "this takes none".to_owned(),
                names => format!("this takes {}", names.join(", ")),
            };
            return Err(Problem::malformed(format!("`{}` is not a query parameter here; {taken}", name.escape_debug())));
        }
        if seen.contains(&name) {
            return Err(Problem::malformed(format!("the query parameter `{name}` is given twice")));
        }
        seen.push(name);
    }
    Ok(())
}
