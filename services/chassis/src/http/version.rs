//! Versions of the interface, as they stand in paths.

/// A route without the prefix of its version, which says nothing else.
pub(super) fn unversioned(route: &str) -> &str {
    match route.strip_prefix("/v1") {
        Some("") => "/",
        Some(rest) if rest.starts_with('/') => rest,
        _ => route,
    }
}
