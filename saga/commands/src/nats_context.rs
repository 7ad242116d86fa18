//! Contexts of the `nats` command line, for whoever keeps the broker's address and credentials there already.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, bail, ensure};
use chassis::settings::{Secret, nats_url, with_scheme};
use reqwest::Url;
use serde_json::Value;

use crate::broker_identity::BrokerIdentity;
use crate::context::configurations;

/// What a context may say that changes nothing about how we connect.
const WITHOUT_MEANING: [&str; 4] = ["description", "inbox_prefix", "color_scheme", "jetstream_event_prefix"];

/// What is taken from it.
const TAKEN: [&str; 7] = ["url", "user", "password", "token", "nkey", "creds", "ca"];

/// The broker's address, with the credentials that an address can have, as the context of this name says it.
///
/// # Errors
/// Those of [`read`].
pub fn address(name: &str) -> anyhow::Result<Secret> {
    Ok(read(name)?.0)
}

/// The broker's address, and who we are there, as the context of this name has it.
///
/// # Errors
/// Where there is no such context, or it says what is not understood.
pub fn read(name: &str) -> anyhow::Result<(Secret, BrokerIdentity)> {
    // It is a file's name.
    ensure!(!name.is_empty() && !name.starts_with('.') && !name.contains('/'), "`{name}` is no name of a nats context");
    let folder =
        configurations().context("there is no place for nats contexts: set XDG_CONFIG_HOME or HOME")?.join("nats/context");
    let path = folder.join(format!("{name}.json"));
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            bail!("there is no nats context {name} ({}): `nats context ls` shows those there are", path.display())
        }
        Err(error) => return Err(error).context(format!("cannot read {}", path.display())),
    };
    of(&text).with_context(|| format!("the nats context {name} ({})", path.display()))
}

fn of(text: &[u8]) -> anyhow::Result<(Secret, BrokerIdentity)> {
    let context: Value = serde_json::from_slice(text).map_err(|error| anyhow::anyhow!("is no JSON: line {}", error.line()))?;
    let fields = context.as_object().context("is no context")?;
    let is_set = |value: &Value| !matches!(value, Value::Null | Value::Bool(false)) && *value != "";
    let known = |name: &str| TAKEN.contains(&name) || WITHOUT_MEANING.contains(&name);
    if let Some((name, _)) = fields.iter().find(|(name, value)| is_set(value) && !known(name)) {
        bail!("says `{name}`, which is not understood here: give the broker's address with NATS_URL");
    }
    let field = |name: &str| fields.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let servers = field("url").unwrap_or("nats://127.0.0.1:4222").split(',').map(str::trim);
    let (user, password) = (field("user").or_else(|| field("token")), field("password"));
    let with_credentials = |server: &str| {
        let server = with_scheme(server, "nats");
        let Ok(mut url) = server.parse::<Url>() else { return server };
        if let Some(user) = user.filter(|_| url.username().is_empty()) {
            // Err only where the address has no host, and that is told below.
            let _ = url.set_username(user);
            let _ = url.set_password(password);
        }
        url.to_string()
    };
    let address = servers.map(with_credentials).collect::<Vec<_>>().join(",");
    let file = |name: &str| field(name).map(at_home);
    let identity = BrokerIdentity { nats_nkey_seed_file: file("nkey"), nats_creds: file("creds"), nats_ca: file("ca") };
    Ok((nats_url(&address).map_err(|why| anyhow::anyhow!("has a url that {why}"))?, identity))
}

/// A path, in which `~` stands for the user's folder.
fn at_home(path: &str) -> PathBuf {
    let home = std::env::var_os("HOME").map(PathBuf::from);
    match (path.strip_prefix("~/"), home) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => path.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_made_of_what_the_context_says() {
        let address =
            |text: &str| of(text.as_bytes()).map(|(url, _)| url.expose().to_owned()).map_err(|error| format!("{error:#}"));
        assert_eq!(address(r#"{"url":"nats://h:1","creds":"","nsc":"","tls_first":false}"#).unwrap(), "nats://h:1");
        let two = address(r#"{"description":"x","url":"nats://a:1,b:2","user":"ann","password":"p@/:"}"#).unwrap();
        assert_eq!(two, "nats://ann:p%40%2F%3A@a:1,nats://ann:p%40%2F%3A@b:2");
        assert_eq!(address(r#"{"url":"nats://h","token":"hunter2"}"#).unwrap(), "nats://hunter2@h");
        assert_eq!(address("{}").unwrap(), "nats://127.0.0.1:4222");
        let files = of(br#"{"url":"tls://h","nkey":"/n","creds":"","ca":"/c.pem"}"#).unwrap().1;
        assert_eq!(
            files.pairs().map(|(name, path)| format!("{name}={path}")).collect::<Vec<_>>(),
            ["NATS_NKEY_SEED_FILE=/n", "NATS_CA=/c.pem"]
        );
        for wrong in [r#"{"url":"nats://h","cert":"/hunter2"}"#, r#"{"url":"http://u:hunter2@h"}"#, "hunter2", "[]"] {
            let error = address(wrong).unwrap_err();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
