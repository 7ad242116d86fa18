//! Statements through the psql program: this crate needs a handful in its life, which is no reason for a driver.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::environment::clean;

/// psql, and whom to talk to.
#[derive(Debug)]
pub(crate) struct Psql {
    pub(crate) program: PathBuf,
    /// Where to connect to when no database is named.
    pub(crate) url: String,
}

impl Psql {
    /// Runs statements, until one fails, and returns what psql prints, unaligned. They go by standard input: others can read a command line,
    /// and one of them sets a password.
    pub(crate) async fn run(&self, statements: &str) -> anyhow::Result<String> {
        let (url, password) = without_password(&self.url);
        let mut command = Command::new(&self.program);
        // verbose: errors come with their SQLSTATE, which no translation changes
        command.args(["-X", "-q", "-A", "-t", "-w", "-v", "VERBOSITY=verbose", "-v", "ON_ERROR_STOP=1", "-d", &url]);
        clean(command.as_std_mut());
        if let Some(password) = password {
            command.env("PGPASSWORD", password); // others can read a command line, but not this
        }
        command.env("PGCONNECT_TIMEOUT", "10").kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().context("could not run psql")?;
        let mut input = child.stdin.take().context("psql has no standard input")?;
        let talk = async move {
            // A psql that ended before it read everything says why on its standard error.
            let _ = input.write_all(statements.as_bytes()).await;
            drop(input);
            child.wait_with_output().await
        };
        let output = tokio::time::timeout(Duration::from_secs(60), talk).await;
        let output = output.context("psql takes too long")?.context("could not run psql")?;
        if !output.status.success() {
            bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }
}

/// The same address for another database.
pub(crate) fn with_database(url: &str, database: &str) -> String {
    let (address, query) = url.split_once('?').map_or((url, None), |(address, query)| (address, Some(query)));
    let host = address.find("://").map_or(0, |at| at + 3);
    let end = address[host..].find('/').map_or(address.len(), |at| host + at);
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    format!("{}/{database}{query}", &address[..end])
}

/// The same address for another role; its password needs no encoding.
pub(crate) fn with_role(url: &str, role: &str, password: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("postgres", url));
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let host = rest[..end].rfind('@').map_or(0, |at| at + 1);
    format!("{scheme}://{role}:{password}@{}", &rest[host..])
}

/// The address without its password, and the password.
fn without_password(url: &str) -> (String, Option<String>) {
    let parts = url.split_once("://").and_then(|(scheme, rest)| {
        let authority = rest.split(['/', '?']).next()?;
        let (credentials, _) = authority.rsplit_once('@')?;
        let (user, password) = credentials.split_once(':')?;
        Some((format!("{scheme}://{user}{}", &rest[credentials.len()..]), decode(password)))
    });
    parts.map_or_else(|| (url.to_owned(), None), |(url, password)| (url, Some(password)))
}

/// Undoes percent-encoding.
fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let hex = tail.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        match hex.and_then(|two| u8::from_str_radix(two, 16).ok()).filter(|_| first == b'%') {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            None => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Percent-encodes what may not stand in a query.
pub(crate) fn encode(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_database_changes() {
        assert_eq!(with_database("postgres://u:p@h:5/a?x=/y", "b"), "postgres://u:p@h:5/b?x=/y");
        assert_eq!(with_database("postgres://h", "b"), "postgres://h/b");
        assert_eq!(with_database("postgres://h/?x=1", "b"), "postgres://h/b?x=1");
    }

    #[test]
    fn only_the_role_changes() {
        assert_eq!(with_role("postgres://u:p@h:5/a?host=/t@mp", "r", "x"), "postgres://r:x@h:5/a?host=/t@mp");
        assert_eq!(with_role("postgres://h/a", "r", "x"), "postgres://r:x@h/a");
    }

    #[test]
    fn the_password_leaves_the_address() {
        let (url, password) = without_password("postgres://u:p%40%2Fss@h:5/a?x=1");
        assert_eq!((url.as_str(), password.as_deref()), ("postgres://u@h:5/a?x=1", Some("p@/ss")));
        assert_eq!(without_password("postgres://u@h/a"), ("postgres://u@h/a".to_owned(), None));
    }

    #[test]
    fn encoding_is_undone_by_decoding() {
        let path = "/tmp/a folder/ü%20&=";
        assert_eq!(decode(&encode(path)), path);
        assert_eq!(encode("/tmp/plain-1.2_3"), "/tmp/plain-1.2_3");
    }
}
