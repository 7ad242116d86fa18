//! What a gateway changes in the headers of a message: it takes out what was meant for it and adds where a request came from.

use std::fmt::Write;
use std::net::IpAddr;

use axum::http::{HeaderMap, HeaderName, HeaderValue, Version, header};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Headers about one connection, not about the message (RFC 9110 section 7.6.1).
const HOP_BY_HOP: [HeaderName; 10] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    header::PROXY_AUTHENTICATE,
    HeaderName::from_static("proxy-authentication-info"),
    header::PROXY_AUTHORIZATION,
    HeaderName::from_static("proxy-connection"),
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Removes what concerns only the connection the message came on: the headers that always do, and those `Connection` names.
pub fn remove_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(header::TRANSFER_ENCODING) {
        // Both lengths at once is how requests are smuggled; Transfer-Encoding is the one that was obeyed (RFC 9112 section 6.3).
        headers.remove(header::CONTENT_LENGTH);
    }
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

/// Says where a request came from and which way. What proxies before this one said is kept: ours is the last of each list,
/// and the only part a service may trust.
pub fn add_forwarding(headers: &mut HeaderMap, peer: IpAddr, version: Version) {
    let peer = peer.to_canonical();
    append(headers, FORWARDED_FOR, &peer.to_string());
    let node = if peer.is_ipv6() { format!("\"[{peer}]\"") } else { peer.to_string() };
    append(headers, header::FORWARDED, &format!("for={node};proto=http"));
    if let Some(host) = headers.get(header::HOST).cloned() {
        headers.entry(FORWARDED_HOST).or_insert(host);
    }
    headers.entry(FORWARDED_PROTO).or_insert(HeaderValue::from_static("http"));
    append(headers, header::VIA, if version == Version::HTTP_10 { "1.0 waybill-gateway" } else { "1.1 waybill-gateway" });
}

/// Adds an element to a list, as one line: some readers look at the first line only, and that one would be the client's.
fn append(headers: &mut HeaderMap, name: HeaderName, element: &str) {
    let mut list = String::with_capacity(64);
    for value in headers.get_all(&name) {
        if let Ok(value) = value.to_str() {
            let _ = write!(list, "{value}, ");
        }
    }
    list.push_str(element);
    let list = HeaderValue::try_from(list).expect("made of header values and plain text");
    headers.insert(name, list);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        lines.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn what_connection_names_goes_with_it() {
        let mut some = headers(&[("connection", "close, X-Private"), ("x-private", "1"), ("te", "trailers"), ("accept", "*/*")]);
        remove_hop_by_hop(&mut some);
        assert_eq!(some, headers(&[("accept", "*/*")]));
    }

    #[test]
    fn two_lengths_become_none() {
        let mut some = headers(&[("content-length", "3"), ("transfer-encoding", "chunked")]);
        remove_hop_by_hop(&mut some);
        assert!(some.is_empty());
    }

    #[test]
    fn our_word_comes_last_in_one_line() {
        let mut some = headers(&[("x-forwarded-for", "10.0.0.1"), ("x-forwarded-proto", "https"), ("host", "shop")]);
        add_forwarding(&mut some, "::1".parse().unwrap(), Version::HTTP_11);
        assert_eq!(some["x-forwarded-for"], "10.0.0.1, ::1");
        assert_eq!(some["x-forwarded-proto"], "https");
        assert_eq!(some["x-forwarded-host"], "shop");
        assert_eq!(some["forwarded"], "for=\"[::1]\";proto=http");
        assert_eq!(some["via"], "1.1 waybill-gateway");
    }
}
