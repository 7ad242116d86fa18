//! Contexts: systems by name. Each is a file in the configuration of its user, which nobody else can read: addresses, and a token or where one is.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};

use crate::broker_identity::BrokerIdentity;
use crate::output::plain;
use crate::private;

/// The name that stands for no context, whichever is in use.
pub const NONE: &str = "none";

/// The longest name.
const LONGEST: usize = 64;

/// A system.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Context {
    /// Its name: that of its file.
    #[serde(skip)]
    pub name: String,
    /// Its addresses, by the names of their variables.
    #[serde(default)]
    pub addresses: BTreeMap<String, String>,
    /// The context of the `nats` command line that leads to its broker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nats_context: Option<String>,
    /// Who we are to its broker, where no context of the `nats` command line says so.
    #[serde(flatten)]
    pub broker: BrokerIdentity,
    /// A token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// Where a token is that somebody else renews.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
}

impl Context {
    /// Reads the context of a name.
    ///
    /// # Errors
    /// Where there is none, or others can read it.
    pub fn load(name: &str) -> anyhow::Result<Self> {
        check_name(name).map_err(anyhow::Error::msg)?;
        let path = file(&folder()?, name);
        let text = match private::read(&path) {
            Err(error) if private::is_missing(&error) => bail!("{}", no_context(name)),
            text => text?,
        };
        // Not the parser's own error, which shows a part of what it read.
        let context: Self = serde_json::from_slice(&text)
            .map_err(|error| anyhow::anyhow!("{} is no context: line {}", path.display(), error.line()))?;
        Ok(Self { name: name.to_owned(), ..context })
    }

    /// Writes it, for its owner alone.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn save(&self) -> anyhow::Result<()> {
        check_name(&self.name).map_err(anyhow::Error::msg)?;
        let folder = folder()?;
        private::write(&file(&folder, &self.name), serde_json::to_string_pretty(self)? + "\n")
    }

    /// Removes it; where it was in use, none is.
    ///
    /// # Errors
    /// Where there is none.
    pub fn remove(name: &str) -> anyhow::Result<()> {
        check_name(name).map_err(anyhow::Error::msg)?;
        let path = file(&folder()?, name);
        if let Err(error) = fs::remove_file(&path) {
            match error.kind() {
                std::io::ErrorKind::NotFound => bail!("{}", no_context(name)),
                _ => return Err(error).context(format!("cannot remove {}", path.display())),
            }
        }
        if used()?.as_deref() == Some(name) { employ(NONE) } else { Ok(()) }
    }

    /// The names of those there are, sorted.
    ///
    /// # Errors
    /// Where the folder cannot be read.
    pub fn names() -> anyhow::Result<Vec<String>> {
        let Ok(folder) = folder() else { return Ok(Vec::new()) };
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error).context(format!("cannot read {}", folder.display())),
        };
        let names = entries.flatten().filter_map(|entry| Some(entry.file_name().to_str()?.strip_suffix(".json")?.to_owned()));
        let mut names: Vec<String> = names.filter(|name| check_name(name).is_ok()).collect();
        names.sort();
        Ok(names)
    }
}

/// The name of the context that commands are about unless they are told otherwise.
///
/// # Errors
/// Where it cannot be read.
pub fn used() -> anyhow::Result<Option<String>> {
    let Some(path) = configuration().map(|folder| folder.join(IN_USE)) else { return Ok(None) };
    match fs::read_to_string(&path) {
        Ok(name) => Ok(Some(name.trim().to_owned()).filter(|name| !name.is_empty() && name != NONE)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        // No configuration can be had at all: nobody has chosen anything.
        Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => Ok(None),
        Err(error) => Err(error).context(format!("cannot read {}", path.display())),
    }
}

/// From now on commands are about this context; about none by that name.
///
/// # Errors
/// Where there is no such context.
pub fn employ(name: &str) -> anyhow::Result<()> {
    if name != NONE {
        Context::load(name)?;
    }
    private::write(&configuration().context(NOWHERE)?.join(IN_USE), format!("{name}\n"))
}

/// Reads the name of a context: it is a file's.
///
/// # Errors
/// What is wrong with it.
pub fn check_name(name: &str) -> Result<String, String> {
    let well_formed = !name.is_empty()
        && name.len() <= LONGEST
        && !name.starts_with(['.', '-'])
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    match (well_formed, name) {
        (true, NONE) => Err("`none` is no context: it stands for using none".to_owned()),
        (true, _) => Ok(name.to_owned()),
        (false, _) => Err(format!("`{}` is no name for a context: letters, digits, `.`, `_`, `-`", plain(name.to_owned()))),
    }
}

const NOWHERE: &str = "there is no place for contexts: set XDG_CONFIG_HOME or HOME";

/// Which context is in use.
const IN_USE: &str = "context.txt";

fn folder() -> anyhow::Result<PathBuf> {
    Ok(configuration().context(NOWHERE)?.join("contexts"))
}

fn configuration() -> Option<PathBuf> {
    Some(configurations()?.join("waybill"))
}

/// Where programs keep what their user configures (the XDG base directories).
pub fn configurations() -> Option<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_CONFIG_HOME").or_else(|| Some(absolute("HOME")?.join(".config")))
}

fn file(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.json"))
}

fn no_context(name: &str) -> String {
    format!("there is no context {name}: `waybill context ls` shows those there are")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_leads_out_of_no_folder() {
        for right in ["prod", "eu-1.prod", "a_b", "A"] {
            assert_eq!(check_name(right), Ok(right.to_owned()));
        }
        for wrong in ["", "..", ".hidden", "-x", "a/b", "a b", "a\n", "none", "ü", &"a".repeat(65)] {
            assert!(check_name(wrong).is_err(), "{wrong}");
        }
    }
}
