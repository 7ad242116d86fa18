//! The files of a Postgres cluster: made by initdb, found from an earlier run, or copied from a template.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, chown};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use tokio::process::Command;

use crate::environment::clean;
use crate::find;
use crate::folder::{Folder, copy, make_dir, random, reachable, remove, wait_for_lock};
use crate::pid::alive;
use crate::user::{User, owner};

/// The server's own role, which may do everything; each database has another (`role.rs`).
pub(crate) const ROLE: &str = "waybill";
/// The cluster, below the folder for Postgres.
const DATA: &str = "postgres";
/// Its password, in a file beside it that only its owner reads.
const PASSWORD: &str = "postgres.password";

/// A cluster ready to be started.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) data: PathBuf,
    pub(crate) password: String,
}

/// The major version that made the cluster in this folder, if there is one.
pub(crate) fn major_version(folder: &Folder) -> Option<u32> {
    fs::read_to_string(folder.postgres.join(DATA).join("PG_VERSION")).ok()?.trim().parse().ok()
}

/// Makes or finds the cluster of this folder.
pub(crate) async fn prepare(
    folder: &Folder,
    postgres: &find::Postgres,
    tools_dir: &Path,
    user: Option<User>,
) -> anyhow::Result<Cluster> {
    let place = &folder.postgres;
    if folder.is_ephemeral() {
        // Measured on two busy cores: a copy takes 0.3 s, nearly all in the kernel, and initdb 0.8 s.
        let template = template(postgres, tools_dir, user).await?;
        copy(&template.join(PASSWORD), &place.join(PASSWORD)).await?;
        copy(&template.join(DATA), &place.join(DATA)).await?;
    } else if major_version(folder).is_none() {
        initialize(place, postgres, user, true).await?;
    }
    let data = place.join(DATA);
    let its_owner = fs::metadata(&data)?.uid();
    ensure!(
        its_owner == owner(user),
        "{} belongs to user id {its_owner}; run as that user or choose another data folder",
        data.display()
    );
    clear_stale_pid(&data)?;
    let path = place.join(PASSWORD);
    let password = fs::read_to_string(&path).with_context(|| format!("could not read {}", path.display()))?;
    Ok(Cluster { data, password: password.trim().to_owned() })
}

/// A cluster to copy, beside the tools: made by the first stack of this version and user.
async fn template(postgres: &find::Postgres, tools_dir: &Path, user: Option<User>) -> anyhow::Result<PathBuf> {
    let base = reachable(tools_dir.parent().unwrap_or(tools_dir), user)?;
    let template = base.join(format!("cluster-{}-{}", postgres.version.text, owner(user)));
    let _lock = wait_for_lock(&base.join("cluster.lock")).await?;
    if !template.join(DATA).is_dir() {
        remove(&template)?;
        make_dir(&template, 0o711)?;
        initialize(&template, postgres, user, false).await?;
    }
    Ok(template)
}

/// Runs initdb beside the final place and moves the result there: an interrupted one leaves nothing half done.
async fn initialize(place: &Path, postgres: &find::Postgres, user: Option<User>, sync: bool) -> anyhow::Result<()> {
    let unfinished = place.join("postgres.new");
    remove(&unfinished)?;
    make_dir(&unfinished, 0o700)?;
    let password = place.join(PASSWORD);
    remove(&password)?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&password)?;
    writeln!(file, "{:032x}", u128::from_ne_bytes(random()?))?;

    let mut initdb = Command::new(postgres.dir.join("initdb"));
    clean(initdb.as_std_mut());
    initdb.arg("-D").arg(&unfinished).arg("--pwfile").arg(&password).args(["-U", ROLE]);
    initdb.args(["--auth=scram-sha-256", "--encoding=UTF8", "--no-locale", "--no-instructions"]);
    if !sync {
        initdb.arg("--no-sync");
    }
    if let Some(user) = user {
        chown(&unfinished, Some(user.uid), Some(user.gid))?;
        chown(&password, Some(user.uid), Some(user.gid))?;
        initdb.uid(user.uid).gid(user.gid);
    }
    initdb.current_dir("/").env("LC_ALL", "C").stdin(std::process::Stdio::null()).kill_on_drop(true);
    let output = initdb.output().await.context("could not run initdb")?;
    ensure!(output.status.success(), "initdb failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    fs::rename(&unfinished, place.join(DATA))?;
    Ok(())
}

/// A `postmaster.pid` may outlive its server, and its number may by now be any process, which Postgres takes
/// for a living server. The working directory tells them apart.
fn clear_stale_pid(data: &Path) -> anyhow::Result<()> {
    let path = data.join("postmaster.pid");
    let Ok(text) = fs::read_to_string(&path) else { return Ok(()) };
    let Some(pid) = text.lines().next().and_then(|line| line.trim().parse().ok()) else { return remove(&path) };
    if !alive(pid) {
        return Ok(()); // Postgres knows what to do
    }
    match fs::read_link(format!("/proc/{pid}/cwd")) {
        Ok(folder) if folder != data => remove(&path),
        _ => bail!("{} is in use by the Postgres with process id {pid}; stop that first", data.display()),
    }
}
