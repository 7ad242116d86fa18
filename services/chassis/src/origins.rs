//! By which names a server may be asked for, and of which pages' origins requests are taken.
//!
//! A page of a stranger can have its own name resolve to our address (DNS rebinding), and its requests then count as its own to a browser. Only
//! names that somebody can register are of use for that: addresses, `localhost` and names without a dot (a container's, a neighbour's) are not.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

/// Host and port as they stand in `Host` and in `Origin`.
#[derive(Clone, Copy, Debug)]
struct Authority<'a> {
    name: &'a str,
    port: Option<u16>,
}

impl<'a> Authority<'a> {
    fn read(text: &'a str) -> Option<Self> {
        let (name, port) = host_and_port(text)?;
        Some(Self { name: name.strip_suffix('.').unwrap_or(name), port })
    }

    /// Whether nobody can register it.
    fn is_nobodys(self) -> bool {
        let v6 = || self.name.strip_prefix('[')?.strip_suffix(']')?.parse::<Ipv6Addr>().ok();
        let below_localhost = || self.name.rsplit_once('.').is_some_and(|(_, last)| last.eq_ignore_ascii_case("localhost"));
        !self.name.contains(['.', ':']) || self.name.parse::<IpAddr>().is_ok() || below_localhost() || v6().is_some()
    }

    fn is(self, other: Self, default_port: u16) -> bool {
        self.name.eq_ignore_ascii_case(other.name) && self.port.unwrap_or(default_port) == other.port.unwrap_or(default_port)
    }
}

/// A host, and a port if there is one; `None` where what follows the colon is none.
pub(crate) fn host_and_port(text: &str) -> Option<(&str, Option<u16>)> {
    Some(match text.rsplit_once(':') {
        // The colons of an address of IPv6 stand in brackets.
        Some((host, port)) if !port.ends_with(']') => (host, Some(port.parse().ok()?)),
        _ => (text, None),
    })
}

/// The names by which a server may be asked for, beside those that nobody can register.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hosts(Vec<String>);

impl Hosts {
    /// Whether a request for this host is one for this server.
    pub(crate) fn contains(&self, host: &str) -> bool {
        let Some(host) = Authority::read(host) else { return false };
        let is = |listed: &String| match listed.strip_prefix('.') {
            Some(domain) => is_below(host.name, domain),
            None => listed == "*" || listed.eq_ignore_ascii_case(host.name),
        };
        host.is_nobodys() || self.0.iter().any(is)
    }
}

/// Whether it is the domain or a name in it.
fn is_below(name: &str, domain: &str) -> bool {
    let Some(before) = name.len().checked_sub(domain.len()) else { return false };
    let ends = name.is_char_boundary(before) && name[before..].eq_ignore_ascii_case(domain);
    ends && (before == 0 || name[..before].ends_with('.'))
}

impl FromStr for Hosts {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let host = |text: &str| {
            let text = text.trim();
            if text == "*" || is_listable(text.strip_prefix('.').unwrap_or(text)) {
                return Ok(text.to_owned());
            }
            Err(format!("`{text}` is not a name such as shop.example.com; names without a dot are always taken"))
        };
        text.split(',').map(host).collect::<Result<_, _>>().map(Self)
    }
}

impl fmt::Display for Hosts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(","))
    }
}

/// Whether it is a host as it stands in an address: a name, or an address, of IPv6 in brackets.
pub(crate) fn is_host(text: &str) -> bool {
    let v6 =
        || text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).is_some_and(|text| text.parse::<Ipv6Addr>().is_ok());
    text.split('.').all(is_label) || v6()
}

fn is_label(label: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    !label.is_empty() && !label.starts_with('-') && label.bytes().all(inner)
}

/// An address, `localhost`, or a name with a dot.
fn is_listable(name: &str) -> bool {
    let is_name = name.contains('.') && name.split('.').all(is_label);
    is_name || name == "localhost" || name.parse::<IpAddr>().is_ok()
}

/// Origins of pages, `https://shop.example.com`, that may ask for everything here from a browser.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origins(Vec<String>);

impl Origins {
    /// Whether these are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// As a browser writes them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    /// Whether it is one of these.
    pub(crate) fn contains(&self, origin: &str) -> bool {
        self.iter().any(|listed| listed.eq_ignore_ascii_case(origin))
    }
}

/// Whether a page of this origin came from the server that is asked for by this host.
pub(crate) fn is_own(origin: &str, host: &str) -> bool {
    let (default_port, authority) = match origin.split_once("://") {
        Some(("http", authority)) => (80, authority),
        Some(("https", authority)) => (443, authority),
        _ => return false,
    };
    match (Authority::read(authority), Authority::read(host)) {
        (Some(origin), Some(host)) => origin.is(host, default_port),
        _ => false,
    }
}

impl FromStr for Origins {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let origin = |text: &str| {
            let text = text.trim();
            let (scheme, authority) = text.split_once("://").unwrap_or(("https", text));
            let wrong = || format!("`{text}` is not an origin such as https://shop.example.com");
            let Authority { name, .. } = Authority::read(authority).ok_or_else(wrong)?;
            let v6 = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
            match scheme {
                "http" | "https" if is_listable(v6) => Ok(format!("{scheme}://{}", authority.to_ascii_lowercase())),
                _ => Err(wrong()),
            }
        };
        if text == "none" {
            return Ok(Self(Vec::new()));
        }
        text.split(',').map(origin).collect::<Result<_, _>>().map(Self)
    }
}

impl fmt::Display for Origins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&if self.0.is_empty() { "none".to_owned() } else { self.0.join(",") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_can_register_is_always_taken_and_other_names_if_they_are_listed() {
        let hosts: Hosts = "localhost, shop.example.com,.svc.cluster.local".parse().unwrap();
        for taken in [
            "localhost",
            "LOCALHOST:8083",
            "dev.localhost:80",
            "127.0.0.1:8083",
            "10.1.2.3",
            "[::1]:8083",
            "[fd00::1]",
            "order:8083",
            "x",
            "",
            "Shop.Example.com:443",
            "shop.example.com.",
            "order.shop.svc.cluster.local:8083",
        ] {
            assert!(hosts.contains(taken), "{taken}");
        }
        for refused in [
            "rebind.evil.example",
            "rebind.evil.example:8083",
            "evil.example.:8083",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "notshop.example.com",
            "example.com",
            "xsvc.cluster.local",
            "evil.example:port",
            "[::1].evil.example",
            "[evil.example]",
            "1.2.3.4.5",
            "a:b:1",
        ] {
            assert!(!hosts.contains(refused), "{refused}");
        }
        assert!("*".parse::<Hosts>().unwrap().contains("rebind.evil.example"));
        for wrong in ["", " ", "order", "0", "-1", "a..b", "https://a.b", "a.b:80", "*.b.c", "-a.b", "shop.example.com,,x.y"] {
            assert!(wrong.parse::<Hosts>().is_err(), "{wrong}");
        }
        assert_eq!(hosts.to_string(), "localhost,shop.example.com,.svc.cluster.local");
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        for (origin, host) in [
            ("http://localhost:8080", "localhost:8080"),
            ("http://a.b", "A.b:80"),
            ("https://a.b:443", "a.b"),
            ("https://[::1]:8080", "[::1]:8080"),
        ] {
            assert!(is_own(origin, host), "{origin} {host}");
        }
        for (origin, host) in [
            ("null", "localhost"),
            ("http://localhost:3000", "localhost:8080"),
            ("http://a.b", "a.b:443"),
            ("http://a.b.evil.example", "a.b"),
            ("ftp://a.b", "a.b"),
            ("file://", ""),
        ] {
            assert!(!is_own(origin, host), "{origin} {host}");
        }
        let origins: Origins = "https://Shop.example.com, http://localhost:3000,[::1]:80".parse().unwrap();
        assert_eq!(origins.to_string(), "https://shop.example.com,http://localhost:3000,https://[::1]:80");
        assert!(origins.contains("https://shop.example.com") && !origins.contains("http://shop.example.com"));
        for wrong in ["", "shop", "*", "https://a.b/c", "ftp://a.b", "https://a.b:x", "https://me@a.b"] {
            assert!(wrong.parse::<Origins>().is_err(), "{wrong}");
        }
        assert!("none".parse::<Origins>().unwrap().is_empty());
    }
}
