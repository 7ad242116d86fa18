//! Where the system is, for every command in the same order: what was said with a flag, what the environment says, what the chosen context
//! keeps, what `waybill up` wrote down in this folder, and last where it would be if nobody said anything.
//!
//! A context, and what `waybill up` wrote down, are used as a whole or not at all: a command for which one address was said never takes
//! another one from what is kept of a different system.

use std::collections::BTreeMap;
use std::env;
use std::path::PathBuf;
use std::sync::OnceLock;

use anyhow::{Context as _, bail};
use chassis::causes;
use chassis::settings::{Secret, database_url, nats_url, nkey_seed, with_scheme};
use clap::ArgMatches;
use clap::parser::ValueSource;
use reqwest::Url;

use crate::broker_identity::BrokerIdentity;
use crate::context::{self, Context, NONE};
use crate::nats_context;
use crate::note::{FILE, Note, Writer};
use crate::output::tell;
use crate::usage::Usage;

/// The variable of the broker's address.
pub const NATS: &str = "NATS_URL";

/// The variable of the seed by which the broker knows us.
pub const NATS_SEED: &str = "NATS_NKEY_SEED";

/// A value that was given, or the one `waybill up` wrote down.
pub fn or_noted(given: &Option<Secret>, name: &str) -> anyhow::Result<String> {
    find(given.as_ref().map(Secret::expose), name)?
        .with_context(|| format!("no address for {name}: set it, or run the command in the folder where `waybill up` runs"))
}

/// The broker's address: given, or that of a given context of the `nats` command line, or kept, or the usual one.
pub fn broker_url(given: &Option<Secret>, nats_context: Option<&str>) -> anyhow::Result<Secret> {
    let by_flag = |id: &str| SAID.get().is_some_and(|said| said.flags.contains(&id));
    match (given, nats_context) {
        (Some(_), Some(_)) if by_flag("nats_url") && by_flag("nats_context") => {
            return Err(Usage("--nats-url and --nats-context are both given: one of them is enough".to_owned()).into());
        }
        // Of two variables the address counts: it is the more definite one.
        (None, Some(name)) => return nats_context::address(name),
        (Some(_), Some(name)) if by_flag("nats_context") => return nats_context::address(name),
        _ => {}
    }
    let found = find(given.as_ref().map(Secret::expose), NATS)?.unwrap_or_else(|| "nats://127.0.0.1:4222".to_owned());
    nats_url(&found).map_err(|why| anyhow::anyhow!("{NATS} {why}"))
}

/// Who we are to this broker, by the context that its address is from: one of the `nats` command line, or one of ours.
pub fn broker_identity(broker: &str) -> anyhow::Result<BrokerIdentity> {
    let of_nats = |name: &str| nats_context::read(name).ok().filter(|(address, _)| is_same(address.expose(), broker));
    let said = SAID.get().and_then(|said| said.nats_context.as_deref()).and_then(of_nats);
    let context = context()?;
    let kept = context.and_then(|context| context.nats_context.as_deref()).and_then(of_nats);
    if let Some((_, identity)) = said.or(kept) {
        return Ok(identity);
    }
    let is_kept = |context: &&Context| context.addresses.get(NATS).is_some_and(|kept| is_same(kept, broker));
    Ok(context.filter(is_kept).map(|context| context.broker.clone()).unwrap_or_default())
}

/// The seed of the key for this broker, if `waybill up` wrote it down for the same one.
pub fn noted_seed(broker: &str) -> anyhow::Result<Option<Secret>> {
    let note = Note::read()?.filter(|note| note.get(NATS).is_some_and(|noted| is_same(noted, broker)));
    let seed = note.as_ref().and_then(|note| note.get(NATS_SEED)).map(nkey_seed).transpose();
    seed.map_err(|why| anyhow::anyhow!("{NATS_SEED} in {FILE} {why}"))
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
#[derive(Default)]
struct Said {
    known: Addresses,
    /// By the name of its variable.
    values: BTreeMap<&'static str, String>,
    /// Which of all that was said on the command line.
    flags: Vec<&'static str>,
    /// The context that was named; `None`: the program knows of none.
    context: Option<Option<String>>,
    nats_context: Option<String>,
    token_file: Option<PathBuf>,
}

static SAID: OnceLock<Said> = OnceLock::new();

/// What else is said of a system, by its flag.
const CONTEXT: &str = "context";
const NATS_CONTEXT: &str = "nats_context";
const TOKEN_FILE: &str = "token_file";

/// Takes in what was said of a system, of the addresses that the program knows. To be called once, before a command runs.
pub fn said(matches: &ArgMatches, known: Addresses) {
    let contexts = matches.try_contains_id(CONTEXT).is_ok();
    let mut said = Said { known, context: contexts.then_some(None), ..Said::default() };
    let mut next = Some(matches);
    while let Some(matches) = next {
        for &(name, flag) in known {
            if let Some(value) = explicit(matches, flag, &mut said.flags) {
                said.values.insert(name, value);
            }
        }
        let mut other = |id| explicit(matches, id, &mut said.flags);
        if let Some(name) = other(CONTEXT) {
            said.context = Some(Some(name));
        }
        said.nats_context = other(NATS_CONTEXT).or(said.nats_context);
        said.token_file = other(TOKEN_FILE).map(PathBuf::from).or(said.token_file);
        next = matches.subcommand().map(|(_, matches)| matches);
    }
    let _ = SAID.set(said);
}

/// What was typed or set, of a flag with a value.
fn explicit(matches: &ArgMatches, id: &'static str, flags: &mut Vec<&'static str>) -> Option<String> {
    let source = matches.try_contains_id(id).unwrap_or_default().then(|| matches.value_source(id)).flatten()?;
    if source == ValueSource::CommandLine {
        flags.push(id);
    } else if source != ValueSource::EnvVariable {
        return None;
    }
    matches.get_raw(id)?.next().map(|value| value.to_string_lossy().into_owned())
}

/// The addresses that were said, by their variables, and the context of the `nats` command line.
pub fn given() -> (BTreeMap<&'static str, String>, Option<String>) {
    SAID.get().map(|said| (said.values.clone(), said.nats_context.clone())).unwrap_or_default()
}

/// The file of a token that was said, and whether it was on the command line.
pub fn token_file() -> Option<(PathBuf, bool)> {
    let said = SAID.get()?;
    Some((said.token_file.clone()?, said.flags.contains(&TOKEN_FILE)))
}

/// The context that the command is about: named, or in use.
pub fn context() -> anyhow::Result<Option<&'static Context>> {
    static CHOSEN: OnceLock<Result<Option<Context>, String>> = OnceLock::new();
    let choose = || match SAID.get().and_then(|said| said.context.as_ref()) {
        None => Ok(None),
        Some(Some(name)) if name == NONE => Ok(None),
        Some(Some(name)) => Context::load(name).map(Some),
        Some(None) => context::used()?.map(|name| Context::load(&name)).transpose(),
    };
    let chosen = CHOSEN.get_or_init(|| choose().map_err(|error| causes(&error)));
    chosen.as_ref().map(Option::as_ref).map_err(|why| anyhow::anyhow!("{why}"))
}

/// Whether an address over HTTP is one of a system's, which the function tells by their variables.
pub fn is_of(url: &Url, address: impl Fn(&str) -> Option<String>) -> bool {
    let scheme = format!("{}:", url.scheme());
    let is_it = |known: String| with_scheme(&known, "http").starts_with(&scheme) && is_same(&known, url.as_str());
    SAID.get().is_some_and(|said| said.known.iter().any(|(name, _)| address(name).is_some_and(is_it)))
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
    let known = || SAID.get().into_iter().flat_map(|said| said.known).map(|(name, _)| *name);
    let is_kept = |kept: Vec<String>| addresses.iter().any(|address| kept.contains(address));
    let context = context().ok().flatten();
    let of_context = context.iter().flat_map(|context| known().filter_map(|name| context.addresses.get(name)));
    let note = Note::read().ok().flatten();
    let of_note = note.iter().flat_map(|note| known().filter_map(|name| note.get(name)));
    let source = match context {
        Some(Context { name, .. }) if is_kept(of_context.map(|address| shown(address)).collect()) => format!(" (context {name})"),
        _ if is_kept(of_note.map(shown).collect()) => format!(" (from {FILE})"),
        _ => String::new(),
    };
    tell(&format!("{what}: {}{source}", addresses.join(", ")));
}

fn find(given: Option<&str>, name: &str) -> anyhow::Result<Option<String>> {
    let from_environment = || env::var(name).ok().filter(|value| !value.is_empty());
    if let Some(value) = given.map(str::to_owned).or_else(from_environment) {
        return Ok(Some(value));
    }
    let said = SAID.get().into_iter().flat_map(|said| &said.values).map(|(name, value)| (*name, value.as_str()));
    let context = context()?;
    if let Some(context) = context
        && let Some(found) = of_context(context, said.clone(), name)?
    {
        return Ok(Some(found));
    }
    let kept = context.into_iter().flat_map(|context| &context.addresses).map(|(name, value)| (name.as_str(), value.as_str()));
    let other = said.chain(kept);
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

/// The address that a context keeps, unless another one was said, of another system.
fn of_context<'a>(
    context: &Context,
    mut said: impl Iterator<Item = (&'a str, &'a str)>,
    name: &str,
) -> anyhow::Result<Option<String>> {
    let Context { name: context_name, addresses, nats_context, .. } = context;
    let kept = match (addresses.get(name), nats_context) {
        (Some(kept), _) => kept.clone(),
        (None, Some(nats_context)) if name == NATS => nats_context::address(nats_context)?.expose().to_owned(),
        (None, _) => return Ok(None),
    };
    if let Some((said, value)) = said.find(|(said, value)| addresses.get(*said).is_some_and(|kept| !is_same(kept, value))) {
        bail!(
            "{said} is {}, but the context {context_name} is about another system: set {name} too",
            shown(&with_scheme(value, "http"))
        );
    }
    readable(name, &kept).map_err(|why| anyhow::anyhow!("{name} in the context {context_name} {why}"))?;
    Ok(Some(kept))
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
