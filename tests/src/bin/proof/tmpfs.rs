//! Small file systems that can be full: a tmpfs, where root allows, unmounted on every way out but SIGKILL.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};

/// A small file system, unmounted when dropped.
#[derive(Debug)]
pub struct Tmpfs {
    path: PathBuf,
}

impl Tmpfs {
    /// Mounts one of this size at a new folder.
    pub fn mount(path: PathBuf, mebibytes: u32) -> anyhow::Result<Self> {
        fs::create_dir_all(&path).with_context(|| format!("could not make {}", path.display()))?;
        let size = format!("size={mebibytes}m,mode=0711");
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "waybill-proof"]).arg(&path).output();
        let mount = mount.context("there is no `mount`")?;
        ensure!(mount.status.success(), "no tmpfs here: {}", String::from_utf8_lossy(&mount.stderr).trim());
        Ok(Self { path })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Fills it to the last byte.
    pub fn fill(&self) {
        let mut file = File::options().create(true).append(true).open(self.filler()).expect("a file");
        for size in [1 << 20, 4096, 1] {
            let chunk = vec![0; size];
            while file.write_all(&chunk).is_ok() {}
        }
    }

    /// Makes room again.
    pub fn clear(&self) {
        let _ = fs::remove_file(self.filler());
    }

    /// Bytes that can still be written.
    pub fn left(&self) -> u64 {
        let stat = rustix::fs::statvfs(&self.path).expect("it is mounted");
        stat.f_bavail * stat.f_frsize
    }

    fn filler(&self) -> PathBuf {
        self.path.join("filler")
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        // Lazily: whoever still has a file open there keeps it until it closes it.
        let _ = Command::new("umount").arg("--lazy").arg(&self.path).output();
        let _ = fs::remove_dir(&self.path);
    }
}
