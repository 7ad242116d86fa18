//! The folders of a run: the data, who owns it, and where shared things are cached.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};

use crate::pid::alive;
use crate::user::{User, barrier};

/// How long the watchdog of a killed owner may need to end its servers.
const HANDOVER: Duration = Duration::from_secs(15);

/// Where the data lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Data {
    /// A temporary folder, removed at the end.
    Ephemeral,
    /// This folder, kept and used again; `postgres/` and `nats/` lie below it.
    Persistent(PathBuf),
}

/// The folder of one running stack; dropping it removes an ephemeral one.
#[derive(Debug)]
pub(crate) struct Folder {
    /// Holds `nats/` and the logs.
    pub(crate) root: PathBuf,
    /// Holds `postgres/`: the root too, unless the server's user cannot get there.
    pub(crate) postgres: PathBuf,
    /// Held for as long as the folder is in use; the watchdog holds a copy, so that the folder is not handed
    /// over before the servers of a killed owner are gone. nats-server has no lock of its own.
    pub(crate) lock: Option<File>,
}

impl Folder {
    pub(crate) async fn open(data: &Data, user: Option<User>) -> anyhow::Result<Self> {
        match data {
            Data::Ephemeral => {
                let root = temporary(user)?;
                Ok(Self { postgres: root.clone(), root, lock: None })
            }
            Data::Persistent(root) => Self::persistent(root, user).await,
        }
    }

    pub(crate) fn is_ephemeral(&self) -> bool {
        self.lock.is_none()
    }

    async fn persistent(root: &Path, user: Option<User>) -> anyhow::Result<Self> {
        let made = || format!("could not make the data folder {}", root.display());
        fs::create_dir_all(root).with_context(made)?;
        let root = root.canonicalize().with_context(made)?;
        let lock = own(&root).await?;
        let postgres = home(&root, user)?;
        Ok(Self { root, postgres, lock: Some(lock) })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.is_ephemeral() {
            let _ = fs::remove_dir_all(&self.root);
        }
    }
}

/// Where a kept cluster lives: in the data folder or, if the server's user cannot enter that, in a folder of
/// `/var/lib` to which a link leads. The link decides from then on: who removes the data folder starts anew.
fn home(root: &Path, user: Option<User>) -> anyhow::Result<PathBuf> {
    let link = root.join("postgres");
    if let Ok(target) = fs::read_link(&link) {
        let home = target.parent().filter(|home| home.is_dir());
        return home.map(Path::to_path_buf).with_context(|| {
            format!("{} leads to {}, which is gone; remove {} to start anew", link.display(), target.display(), root.display())
        });
    }
    let Some(closed) = barrier(root, user) else { return Ok(root.to_owned()) };
    let way_out =
        || format!("Postgres runs as nobody, who cannot enter {}; open it, or choose another data folder", closed.display());
    ensure!(!link.exists(), way_out());
    let home = PathBuf::from(format!("/var/lib/waybill-{:08x}", random_u32()?));
    make(&home, user).with_context(way_out)?;
    symlink(home.join("postgres"), &link)?;
    tracing::info!("Postgres runs as nobody, who cannot enter {}; its data is kept in {}", closed.display(), home.display());
    Ok(home)
}

/// Takes the folder for this process, or says whose it is.
async fn own(root: &Path) -> anyhow::Result<File> {
    let path = root.join("lock");
    let mut file = lock_file(&path)?;
    let deadline = Instant::now() + HANDOVER;
    while let Err(error) = file.try_lock() {
        if let TryLockError::Error(error) = error {
            return Err(error).with_context(|| format!("could not lock {}", path.display()));
        }
        let owner = fs::read_to_string(&path)?.trim().parse::<u32>().ok();
        if owner.is_some_and(alive) || Instant::now() > deadline {
            let owner = owner.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"));
            bail!("the data folder {} is in use by {owner}; stop it or choose another folder", root.display());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())?;
    Ok(file)
}

/// Waits for a lock that other processes hold only for the time of an installation.
pub(crate) async fn wait_for_lock(path: &Path) -> anyhow::Result<File> {
    let file = lock_file(path)?;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => tokio::time::sleep(Duration::from_millis(20)).await,
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("could not lock {}", path.display()));
            }
        }
    }
}

fn lock_file(path: &Path) -> anyhow::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("could not open {}", path.display()))
}

/// A new folder below the system's temporary folder, or another the server's user can enter.
pub(crate) fn temporary(user: Option<User>) -> anyhow::Result<PathBuf> {
    let system = std::env::temp_dir();
    let parent = [system.as_path(), Path::new("/var/tmp"), Path::new("/tmp")]
        .into_iter()
        .find(|folder| folder.is_dir() && barrier(folder, user).is_none())
        .with_context(|| format!("the Postgres user can enter none of {}, /var/tmp, /tmp; set TMPDIR", system.display()))?;
    let folder = parent.canonicalize()?.join(format!("waybill-{:08x}", random_u32()?));
    make(&folder, user).with_context(|| format!("could not make a temporary folder in {}", parent.display()))?;
    Ok(folder)
}

/// A folder of our own; a server that runs as another user may pass through it but not list it.
fn make(folder: &Path, user: Option<User>) -> std::io::Result<()> {
    make_dir(folder, if user.is_some() { 0o711 } else { 0o700 })
}

/// A new folder with this mode, whatever the umask.
pub(crate) fn make_dir(folder: &Path, mode: u32) -> std::io::Result<()> {
    DirBuilder::new().mode(mode).create(folder)?;
    fs::set_permissions(folder, fs::Permissions::from_mode(mode))
}

/// The folder itself if we can write there and the server's user can enter, else its stand-in in `/var/tmp`.
pub(crate) fn reachable(folder: &Path, user: Option<User>) -> anyhow::Result<PathBuf> {
    let writable = || {
        fs::create_dir_all(folder).is_ok()
            && rustix::fs::access(folder, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK).is_ok()
    };
    if barrier(folder, user).is_none() && writable() && barrier(folder, user).is_none() {
        return Ok(std::path::absolute(folder)?);
    }
    elsewhere(&std::path::absolute(folder)?)
}

/// The stand-in for a cache that is closed to us or to the server's user: always the same one.
///
/// Anybody may write to `/var/tmp`, so a folder that was already there is only used if it is ours alone.
fn elsewhere(folder: &Path) -> anyhow::Result<PathBuf> {
    // FNV-1a: the same in every build, unlike the standard library's hash
    let bytes = folder.as_os_str().as_encoded_bytes();
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let uid = rustix::process::geteuid().as_raw();
    let stand_in = PathBuf::from(format!("/var/tmp/waybill-{uid}-{hash:016x}"));
    match make_dir(&stand_in, 0o711) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            return Err(error).with_context(|| format!("could not make {}", stand_in.display()));
        }
        _ => {}
    }
    let meta = fs::symlink_metadata(&stand_in)?;
    ensure!(
        meta.is_dir() && meta.uid() == uid && meta.mode() & 0o022 == 0,
        "{} belongs to somebody else; remove it",
        stand_in.display()
    );
    Ok(stand_in)
}

/// The checkout around the current folder, or the current folder itself.
pub(crate) fn checkout() -> PathBuf {
    let here = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("."));
    let root = here.ancestors().find(|folder| folder.join("Cargo.lock").is_file());
    root.map(Path::to_path_buf).unwrap_or(here)
}

/// Copies a tree with its owners and modes, sharing blocks where the file system can.
pub(crate) async fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    let output = tokio::process::Command::new("cp").arg("-a").arg(from).arg(to).output().await?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "could not copy {}: {complaint}", from.display());
    Ok(())
}

/// Removes a file or folder, if there is one.
pub(crate) fn remove(path: &Path) -> anyhow::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(_) => return Ok(()),
    };
    removed.with_context(|| format!("could not remove {}", path.display()))
}

/// Randomness from the kernel: for names, ports and the database password.
pub(crate) fn random<const N: usize>() -> anyhow::Result<[u8; N]> {
    let mut bytes = [0; N];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}

pub(crate) fn random_u32() -> anyhow::Result<u32> {
    Ok(u32::from_ne_bytes(random()?))
}
