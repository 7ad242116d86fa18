//! Where the system is, for commands that look behind the gateway: flags, then the environment, then what `waybill up` wrote down.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;

/// Where `waybill up` writes down what it started, below the folder it is run in.
const FILE: &str = ".local/waybill.env";

/// The databases of the services.
#[derive(Debug, Args)]
pub struct Databases {
    /// The user service's database [default: what `waybill up` started here].
    #[arg(long, env = "USER_DATABASE_URL", hide_env_values = true, value_name = "URL")]
    user_database_url: Option<String>,
    /// The product service's database [default: what `waybill up` started here].
    #[arg(long, env = "PRODUCT_DATABASE_URL", hide_env_values = true, value_name = "URL")]
    product_database_url: Option<String>,
    /// The order service's database [default: what `waybill up` started here].
    #[arg(long, env = "ORDER_DATABASE_URL", hide_env_values = true, value_name = "URL")]
    order_database_url: Option<String>,
}

impl Databases {
    /// The product service's database.
    pub fn product(&self) -> anyhow::Result<String> {
        or_noted(&self.product_database_url, "PRODUCT_DATABASE_URL")
    }

    /// The order service's database.
    pub fn order(&self) -> anyhow::Result<String> {
        or_noted(&self.order_database_url, "ORDER_DATABASE_URL")
    }
}

/// A value that was given, or the one `waybill up` wrote down.
pub fn or_noted(given: &Option<String>, name: &str) -> anyhow::Result<String> {
    match given {
        Some(value) => Ok(value.clone()),
        None => noted()
            .remove(name)
            .with_context(|| format!("no address for {name}: set it, or run the command in the folder where `waybill up` runs")),
    }
}

/// A value that was given, or the one `waybill up` wrote down, or the one it starts with.
pub fn or_usual(given: &Option<String>, name: &str, usual: &str) -> String {
    given.clone().or_else(|| noted().remove(name)).unwrap_or_else(|| usual.to_owned())
}

fn noted() -> BTreeMap<String, String> {
    let text = fs::read_to_string(FILE).unwrap_or_default();
    let pair = |line: &str| line.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
    text.lines().filter_map(pair).collect()
}

/// The note on disk; removed when dropped, because what it says is true no longer.
pub struct Note(PathBuf);

impl Note {
    /// Writes the note, readable by its owner alone: it holds passwords.
    pub fn write(pairs: &[(&str, String)]) -> anyhow::Result<Self> {
        let path = Path::new(FILE);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
        }
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(path)
            .with_context(|| format!("cannot write {FILE}"))?;
        for (name, value) in pairs {
            writeln!(file, "{name}={value}")?;
        }
        Ok(Self(path.to_owned()))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Note {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}
