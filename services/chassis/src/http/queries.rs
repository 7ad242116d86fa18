//! Which query parameters a route takes. All others are refused by name: one that is ignored means another request than its client thinks.

use axum::extract::MatchedPath;
use axum::http::{Method, Uri};
use percent_encoding::percent_decode_str;

use crate::http::version::unversioned;
use crate::http::{Operation, Problem};

/// The parameters a route takes when it is read (GET); nothing else takes any. Routes not in the table take none.
#[derive(Clone, Debug, Default)]
pub(super) struct Queries(Vec<(&'static str, Method, Vec<&'static str>)>);

/// In place of the names: whatever is given is passed on, whatever the method.
const ANY: &str = "*";

impl Queries {
    /// Those that are described.
    pub(super) fn of(operations: &[Operation]) -> Self {
        Self(operations.iter().map(|operation| (operation.path, operation.method.clone(), operation.queries())).collect())
    }

    /// And whatever is asked of these.
    pub(super) fn passing(mut self, paths: &[&'static str]) -> Self {
        self.0.extend(paths.iter().map(|path| (*path, Method::GET, vec![ANY])));
        self
    }
}

/// Refuses parameters that the route does not take, and those that come twice.
pub(super) fn check(queries: &Queries, route: Option<&MatchedPath>, method: &Method, uri: &Uri) -> Result<(), Problem> {
    let Some(query) = uri.query().filter(|query| !query.is_empty()) else {
        return Ok(());
    };
    // Where there is nothing, that is the better answer.
    let Some(route) = route.map(MatchedPath::as_str) else {
        return Ok(());
    };
    let route = unversioned(route);
    let asked = if *method == Method::HEAD { &Method::GET } else { method };
    let mut of_path = queries.0.iter().filter(|(path, ..)| *path == route).peekable();
    let is_known = of_path.peek().is_some();
    let names = match of_path.find(|(_, taken, names)| taken == asked || *names == [ANY]) {
        Some((.., names)) => names.as_slice(),
        // That nobody takes this method here is the better answer.
        None if is_known && *method != Method::OPTIONS => return Ok(()),
        None => &[],
    };
    if names == [ANY] {
        return Ok(());
    }
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
