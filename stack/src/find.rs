//! Finds the servers' binaries: named in the environment, installed on the machine, or as wheels.
//!
//! A candidate counts only if it runs, as the user who is going to run it, and tells its version.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use tokio::process::Command;

use crate::environment::clean;
use crate::folder::{reachable, wait_for_lock};
use crate::tools::{self, FAKETIME, NATS, POSTGRES, Wheel};
use crate::user::User;

/// JetStream features the topology asks for came with this version.
const NATS_AT_LEAST: (u32, u32) = (2, 12);
/// The oldest version the migrations are tried with.
const POSTGRES_AT_LEAST: (u32, u32) = (15, 0);

/// Names a nats-server binary, before any other.
const NATS_VARIABLE: &str = "WAYBILL_NATS_SERVER";
/// Names a folder with `postgres` and `initdb`, before any other.
const POSTGRES_VARIABLE: &str = "WAYBILL_POSTGRES_BIN";
/// Names the libfaketime library, before any other.
const FAKETIME_VARIABLE: &str = "WAYBILL_FAKETIME";

/// The programs of one Postgres installation.
#[derive(Debug, Clone)]
pub(crate) struct Postgres {
    pub(crate) dir: PathBuf,
    pub(crate) psql: PathBuf,
    pub(crate) version: Version,
}

/// What a program says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Version {
    pub(crate) number: (u32, u32),
    pub(crate) text: String,
}

/// A usable nats-server; `url_setting` is named in the error as the first way out.
pub(crate) async fn nats_server(tools_dir: &Path, url_setting: &str) -> anyhow::Result<PathBuf> {
    let mut rejected = Vec::new();
    for binary in candidates(NATS_VARIABLE, |named| named, "nats-server") {
        match probe(&binary, None).await {
            Ok(version) if version.number >= NATS_AT_LEAST => return Ok(binary),
            Ok(version) => rejected.push(format!("{}: {} is too old", binary.display(), version.text)),
            Err(error) => rejected.push(format!("{}: {error:#}", binary.display())),
        }
    }
    let found = if explicit(NATS_VARIABLE) { None } else { Some(wheel(&NATS, tools_dir, None).await) };
    let ways = Ways { what: "nats-server 2.12 or newer", url_setting, variable: NATS_VARIABLE, wheel: &NATS };
    ways.or_explain(found, &rejected)
}

/// A usable Postgres, of the major version that an existing data folder asks for.
pub(crate) async fn postgres(
    tools_dir: &Path,
    user: Option<User>,
    wanted: Option<u32>,
    url_setting: &str,
) -> anyhow::Result<Postgres> {
    let fits = |version: &Version| wanted.is_none_or(|major| major == version.number.0);
    let mut rejected = Vec::new();
    let mut binaries = candidates(POSTGRES_VARIABLE, |dir| dir.join("postgres"), "postgres");
    if !explicit(POSTGRES_VARIABLE) {
        binaries.retain(|binary| !is_script(binary)); // a wrapper hides the server we must signal
        binaries.extend(debian());
    }
    for binary in binaries {
        match installation(&binary, user).await {
            Ok(found) if found.version.number < POSTGRES_AT_LEAST => {
                rejected.push(format!("{}: {} is too old", binary.display(), found.version.text));
            }
            Ok(found) if fits(&found.version) => return Ok(found),
            Ok(found) => rejected.push(format!(
                "{}: is version {}, but the data folder was made by version {}",
                binary.display(),
                found.version.text,
                wanted.unwrap_or_default()
            )),
            Err(error) => rejected.push(format!("{}: {error:#}", binary.display())),
        }
    }
    let by_wheel = !explicit(POSTGRES_VARIABLE) && wanted.is_none_or(|major| major == tools::POSTGRES_MAJOR);
    let binary = if by_wheel { Some(wheel(&POSTGRES, tools_dir, user).await) } else { None };
    let what = wanted.map_or("Postgres 15 or newer".to_owned(), |major| format!("Postgres {major}"));
    let ways = Ways { what: &what, url_setting, variable: POSTGRES_VARIABLE, wheel: &POSTGRES };
    installation(&ways.or_explain(binary, &rejected)?, user).await
}

/// A libfaketime that this user's programs can load.
pub(crate) async fn faketime(tools_dir: &Path, user: Option<User>) -> anyhow::Result<PathBuf> {
    let candidates = match std::env::var_os(FAKETIME_VARIABLE).filter(|value| !value.is_empty()) {
        Some(named) => vec![PathBuf::from(named)],
        None => debian_faketime(),
    };
    let mut tried = Vec::new();
    for library in candidates {
        match fakes(&library, user).await {
            Ok(()) => return Ok(library),
            Err(error) => tried.push(format!("\n  tried {}: {error:#}", library.display())),
        }
    }
    if !explicit(FAKETIME_VARIABLE) {
        match wheel(&FAKETIME, tools_dir, user).await {
            Ok(library) => return Ok(library),
            Err(error) => tried.push(format!("\n  tried {}: {error:#}", FAKETIME.requirement)),
        }
    }
    Err(anyhow!(
        "there is no libfaketime here. Any one of these helps:\n\
         - Debian's package faketime, or the library named by {FAKETIME_VARIABLE};\n\
         - on x86_64 Linux: python3 with pip and a network, for the wheel {}.{}",
        FAKETIME.requirement,
        tried.concat()
    ))
}

/// Any psql, for a server that is merely used.
pub(crate) async fn psql(tools_dir: &Path, user: Option<User>, url_setting: &str) -> anyhow::Result<PathBuf> {
    for program in on_path("psql") {
        if probe(&program, None).await.is_ok() {
            return Ok(program);
        }
    }
    Ok(postgres(tools_dir, user, None, url_setting).await?.psql)
}

/// `postgres` and `initdb` of one version side by side, and a psql.
async fn installation(binary: &Path, user: Option<User>) -> anyhow::Result<Postgres> {
    let binary = binary.canonicalize()?; // links in PATH point to one program of several
    let dir = binary.parent().context("a program has a folder")?.to_path_buf();
    let version = probe(&binary, user).await?;
    let initdb = probe(&dir.join("initdb"), user).await.context("initdb beside it")?;
    anyhow::ensure!(initdb == version, "initdb beside it is version {}", initdb.text);
    let beside = dir.join("psql");
    let psql = if beside.is_file() { beside } else { on_path("psql").next().context("there is no psql")? };
    Ok(Postgres { dir, psql, version })
}

/// The program of a wheel, installed if need be.
async fn wheel(wheel: &Wheel, tools_dir: &Path, user: Option<User>) -> anyhow::Result<PathBuf> {
    let works = async |program: &Path| match wheel.is_library {
        true => fakes(program, user).await,
        false => probe(program, user).await.map(drop),
    };
    let present = tools_dir.join(wheel.program);
    if works(&present).await.is_ok() {
        return Ok(present);
    }
    let (Some(parent), Some(name)) = (tools_dir.parent(), tools_dir.file_name()) else {
        return Err(anyhow!("{} is no folder for tools", tools_dir.display()));
    };
    let tools = reachable(parent, user)?.join(name);
    let _lock = wait_for_lock(&tools.with_extension("lock")).await?;
    let program = tools.join(wheel.program);
    if works(&program).await.is_err() {
        tools::install(wheel, tools_dir, &tools).await?;
        works(&program).await.with_context(|| format!("{} does not run", program.display()))?;
    }
    Ok(program)
}

/// Runs `program --version` as `user`: that shows in one go that the program can be reached and loaded.
async fn probe(program: &Path, user: Option<User>) -> anyhow::Result<Version> {
    let mut command = Command::new(program);
    clean(command.as_std_mut());
    let output = output(command.arg("--version"), user).await?;
    let text = String::from_utf8_lossy(&output.stdout);
    parse(&text).with_context(|| format!("it tells no version: {}", String::from_utf8_lossy(&output.stderr).trim()))
}

/// Asks for the year under the library: one that cannot be loaded is left out with no more than a warning.
async fn fakes(library: &Path, user: Option<User>) -> anyhow::Result<()> {
    let mut date = Command::new("date");
    clean(date.as_std_mut());
    date.args(["-u", "+%Y"]).env("LD_PRELOAD", library).env("FAKETIME", "@1999-06-01 00:00:00");
    let output = output(&mut date, user).await?;
    let loaded = String::from_utf8_lossy(&output.stdout).trim() == "1999";
    anyhow::ensure!(loaded, "it cannot be loaded: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}

/// What a command prints, run as `user`.
async fn output(command: &mut Command, user: Option<User>) -> anyhow::Result<std::process::Output> {
    command.current_dir("/").stdin(std::process::Stdio::null()).kill_on_drop(true);
    if let Some(user) = user {
        command.uid(user.uid).gid(user.gid);
    }
    Ok(tokio::time::timeout(Duration::from_secs(20), command.output()).await.context("it hangs")??)
}

/// The first word that begins with a digit, perhaps after a `v`.
fn parse(said: &str) -> Option<Version> {
    let text = said
        .split_whitespace()
        .map(|word| word.trim_start_matches('v'))
        .find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map(|digits| digits.parse().unwrap_or(0));
    Some(Version { number: (numbers.next()?, numbers.next().unwrap_or(0)), text: text.to_owned() })
}

fn explicit(variable: &str) -> bool {
    std::env::var_os(variable).is_some_and(|value| !value.is_empty())
}

/// What the variable names and nothing else; without it, every program of that name on PATH.
fn candidates(variable: &str, program: impl Fn(PathBuf) -> PathBuf, name: &str) -> Vec<PathBuf> {
    match std::env::var_os(variable).filter(|value| !value.is_empty()) {
        Some(named) => vec![program(PathBuf::from(named))],
        None => on_path(name).collect(),
    }
}

fn on_path(name: &str) -> impl Iterator<Item = PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = std::env::split_paths(&path).filter(|folder| folder.is_absolute()).collect();
    folders.into_iter().map(move |folder| folder.join(name)).filter(|program| program.is_file())
}

/// Debian keeps each major version in a folder outside of PATH; the highest first.
fn debian() -> Vec<PathBuf> {
    let folders = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut majors: Vec<u32> = folders.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    majors.sort_unstable_by(|a, b| b.cmp(a));
    majors.into_iter().map(|major| PathBuf::from(format!("/usr/lib/postgresql/{major}/bin/postgres"))).collect()
}

/// Debian keeps libraries in a folder for each machine's kind.
fn debian_faketime() -> Vec<PathBuf> {
    let folders = fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    let library = folders.map(|entry| entry.path().join("faketime/libfaketime.so.1"));
    library.filter(|library| library.is_file()).collect()
}

fn is_script(program: &Path) -> bool {
    let mut start = [0; 2];
    fs::File::open(program).and_then(|mut file| file.read_exact(&mut start)).is_ok() && &start == b"#!"
}

/// The three ways to have a server, for the error when none works.
struct Ways<'a> {
    what: &'a str,
    url_setting: &'a str,
    variable: &'a str,
    wheel: &'a Wheel,
}

impl Ways<'_> {
    fn or_explain(&self, found: Option<anyhow::Result<PathBuf>>, rejected: &[String]) -> anyhow::Result<PathBuf> {
        let mut tried: Vec<String> = rejected.to_vec();
        match found {
            Some(Ok(program)) => return Ok(program),
            Some(Err(error)) => tried.push(format!("{}: {error:#}", self.wheel.requirement)),
            None => {}
        }
        let tried: String = tried.iter().map(|line| format!("\n  tried {line}")).collect();
        let Self { what, url_setting, variable, wheel } = self;
        Err(anyhow!(
            "there is no {what} here. Any one of these helps:\n\
             - the address of a running one in {url_setting};\n\
             - an installed one on PATH, or named by {variable};\n\
             - python3 with pip and a network, for the wheel {}.{tried}",
            wheel.requirement
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_what_servers_say() {
        let number = |said| parse(said).map(|version| version.number);
        assert_eq!(number("nats-server: v2.15.1\n"), Some((2, 15)));
        assert_eq!(number("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"), Some((15, 18)));
        assert_eq!(number("postgres (PostgreSQL) 19beta1\n"), Some((19, 0)));
        assert_eq!(number("command not found"), None);
    }

    #[test]
    fn the_error_names_all_three_ways() {
        let ways = Ways { what: "nats-server", url_setting: "NATS_URL", variable: NATS_VARIABLE, wheel: &NATS };
        let error = ways.or_explain(None, &["/bin/nats-server: 2.9 is too old".to_owned()]).unwrap_err().to_string();
        for part in ["NATS_URL", NATS_VARIABLE, NATS.requirement, "2.9 is too old"] {
            assert!(error.contains(part), "{part} is missing in {error}");
        }
    }
}
