//! Where the system is, for every command in the same order: what was said with a flag, what the environment says, what `waybill up` wrote
//! down in this folder, and last where it would be if nobody said anything.
//!
//! What `waybill up` wrote down is used as a whole or not at all: a command for which one address was said never takes another one from the
//! note of a different system.

use std::collections::BTreeMap;
use std::env;
use std::sync::OnceLock;

use anyhow::{Context as _, bail};
use chassis::settings::{Secret, database_url, nats_url, with_scheme};
use clap::ArgMatches;
use clap::parser::ValueSource;
use reqwest::Url;

use crate::note::{FILE, Note, Writer};
use crate::output::tell;

/// The variable of the broker's address.
pub const NATS: &str = "NATS_URL";

/// A value that was given, or the one `waybill up` wrote down.
pub fn or_noted(given: &Option<Secret>, name: &str) -> anyhow::Result<String> {
    find(given.as_ref().map(Secret::expose), name)?
        .with_context(|| format!("no address for {name}: set it, or run the command in the folder where `waybill up` runs"))
}

/// The broker's address: given, or written down, or the usual one.
pub fn broker_url(given: &Option<Secret>) -> anyhow::Result<Secret> {
    let found = find(given.as_ref().map(Secret::expose), NATS)?.unwrap_or_else(|| "nats://127.0.0.1:4222".to_owned());
    nats_url(&found).map_err(|why| anyhow::anyhow!("{NATS} {why}"))
}

/// An address over HTTP: given, or written down, or the usual one.
pub fn or_usual(given: &Option<Url>, name: &str, usual: &str) -> anyhow::Result<Url> {
    if let Some(given) = given {
        return Ok(given.clone());
    }
    let found = find(None, name)?.unwrap_or_else(|| usual.to_owned());
    http_url(&found).map_err(|why| anyhow::anyhow!("{name} {why}"))
}

/// Reads the address of a service; `http://` may be left out.
pub fn http_url(text: &str) -> Result<Url, String> {
    let url =
        with_scheme(text, "http").parse::<Url>().ok().filter(|url| url.has_host() && matches!(url.scheme(), "http" | "https"));
    url.ok_or_else(|| "is not of the form http://host:port".to_owned())
}

/// An address as it may be shown: without a password.
pub fn shown(address: &str) -> String {
    let Ok(mut url) = address.parse::<Url>() else { return "an address that cannot be read".to_owned() };
    // Err only where there is no host, and then there is nothing to hide.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_query(None);
    url.as_str().trim_end_matches('/').to_owned()
}

/// The addresses that a program knows: the variable of each, and the name of its flag.
pub type Addresses = &'static [(&'static str, &'static str)];

/// What was said on the command line or in the environment.
struct Said {
    known: Addresses,
    /// By the name of its variable.
    values: BTreeMap<&'static str, String>,
}

static SAID: OnceLock<Said> = OnceLock::new();

/// Takes in which addresses were said, of those that the program knows. To be called once, before a command runs.
pub fn said(matches: &ArgMatches, known: Addresses) {
    let mut said = BTreeMap::new();
    let mut next = Some(matches);
    while let Some(matches) = next {
        for &(name, flag) in known {
            let explicit = matches.try_contains_id(flag).unwrap_or_default()
                && matches!(matches.value_source(flag), Some(ValueSource::CommandLine | ValueSource::EnvVariable));
            if let Some(value) = explicit.then(|| matches.get_raw(flag)).flatten().and_then(|mut values| values.next()) {
                said.insert(name, value.to_string_lossy().into_owned());
            }
        }
        next = matches.subcommand().map(|(_, matches)| matches);
    }
    let _ = SAID.set(Said { known, values: said });
}

/// An address as it was said, or found, or the usual one; unread.
pub fn address(name: &str, usual: &str) -> anyhow::Result<String> {
    if let Some(said) = SAID.get().and_then(|said| said.values.get(name)) {
        return Ok(said.clone());
    }
    Ok(find(None, name)?.unwrap_or_else(|| usual.to_owned()))
}

/// Tells where the command found what it is about to change, prove or measure.
pub fn announce(what: &str, addresses: &[&str]) {
    let addresses: Vec<String> = addresses.iter().map(|address| shown(address)).collect();
    let noted: Vec<String> = Note::read().ok().flatten().iter().flat_map(addresses_of).collect();
    let source = if addresses.iter().any(|address| noted.contains(address)) { format!(" (from {FILE})") } else { String::new() };
    tell(&format!("{what}: {}{source}", addresses.join(", ")));
}

fn addresses_of(note: &Note) -> Vec<String> {
    SAID.get().into_iter().flat_map(|said| said.known).filter_map(|(name, _)| note.get(name)).map(shown).collect()
}

fn find(given: Option<&str>, name: &str) -> anyhow::Result<Option<String>> {
    let from_environment = || env::var(name).ok().filter(|value| !value.is_empty());
    if let Some(value) = given.map(str::to_owned).or_else(from_environment) {
        return Ok(Some(value));
    }
    let other = SAID.get().into_iter().flat_map(|said| &said.values);
    if let Some(note) = Note::read()? {
        if let Some((said, value)) =
            other.clone().find(|(said, value)| note.get(said).is_some_and(|noted| !is_same(noted, value)))
        {
            bail!(
                "{said} is {}, but {FILE}, written by `waybill up`{}, is about another system: set {name} too",
                shown(&with_scheme(value, "http")),
                note.by()
            );
        }
        if let (Writer::Gone(pid), Some(_)) = (note.writer, note.get(name)) {
            bail!(
                "{FILE} was left behind by a `waybill up` that is gone (process {pid}): start it again, remove the file, \
                 or set {name}"
            );
        }
        if let Some(noted) = note.get(name) {
            readable(name, noted).map_err(|why| anyhow::anyhow!("{name} in {FILE} {why}"))?;
        }
        return Ok(note.get(name).map(str::to_owned));
    }
    // The usual addresses are on this machine. Whoever speaks of another one does not mean them.
    if let Some((said, value)) = other.clone().find(|(_, value)| !is_here(value)) {
        bail!("{said} is {}: set {name} too, its usual address is on this machine", shown(&with_scheme(value, "http")));
    }
    Ok(None)
}

/// What is wrong with an address, without showing it.
fn readable(name: &str, address: &str) -> Result<(), String> {
    match name {
        NATS => nats_url(address).map(|_| ()),
        _ if name.ends_with("_DATABASE_URL") => database_url(address).map(|_| ()),
        _ => http_url(address).map(|_| ()),
    }
}

/// Whether two addresses are of the same server, and of the same database.
fn is_same(one: &str, other: &str) -> bool {
    let key = |address: &str| {
        let url = with_scheme(address.split(',').next().unwrap_or_default().trim(), "http").parse::<Url>().ok()?;
        let host = url.host_str().unwrap_or("127.0.0.1").replace("localhost", "127.0.0.1");
        let named = url.query_pairs().find_map(|(name, value)| (name == "port").then(|| value.into_owned()));
        let usual = match url.scheme() {
            "nats" => Some(4222),
            "postgres" | "postgresql" => Some(5432),
            _ => url.port_or_known_default(),
        };
        let port = named.or_else(|| url.port().or(usual).map(|port| port.to_string()));
        Some((host, port, url.path().trim_end_matches('/').to_owned()))
    };
    key(one) == key(other)
}

fn is_here(address: &str) -> bool {
    let url = with_scheme(address.split(',').next().unwrap_or_default().trim(), "http").parse::<Url>();
    url.is_ok_and(|url| matches!(url.host_str(), None | Some("localhost" | "127.0.0.1" | "[::1]" | "0.0.0.0" | "")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_need_no_scheme() {
        assert_eq!(http_url("localhost:8080").unwrap().as_str(), "http://localhost:8080/");
        assert_eq!(http_url("https://shop/base").unwrap().as_str(), "https://shop/base");
        for wrong in ["", "ftp://a", "http://", "a b", "http://u:hunter2@:x"] {
            let error = http_url(wrong).unwrap_err();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn no_password_is_shown() {
        assert_eq!(shown("postgres://u:hunter2@h:5/d?password=hunter2"), "postgres://h:5/d");
        assert_eq!(shown("nats://hunter2@h:4222"), "nats://h:4222");
        assert_eq!(shown("http://h:8080/"), "http://h:8080");
    }

    #[test]
    fn the_same_server_is_known_by_its_host_port_and_database() {
        assert!(is_same("http://localhost:8080", "127.0.0.1:8080/"));
        assert!(is_same("postgres://a:b@127.0.0.1:5/d", "postgres://localhost/d?host=/tmp/socket&port=5"));
        assert!(!is_same("postgres://127.0.0.1:5/d", "postgres://127.0.0.1:5/e"));
        assert!(!is_same("http://127.0.0.1:8080", "http://127.0.0.1:9080"));
    }
}
