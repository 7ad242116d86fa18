//! Which user the Postgres processes run as, and what that user can reach.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// A user to run as, in place of root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// The user for Postgres: `nobody` when we are root, because Postgres refuses root; else ourselves (`None`).
pub(crate) fn server_user() -> Option<User> {
    rustix::process::geteuid().is_root().then(nobody)
}

/// The id the data folder must belong to.
pub(crate) fn owner(user: Option<User>) -> u32 {
    user.map_or_else(|| rustix::process::geteuid().as_raw(), |user| user.uid)
}

/// Some systems have no `nobody`, but 65534 is the overflow id of every Linux.
fn nobody() -> User {
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    parse(&passwd).unwrap_or(User { uid: 65534, gid: 65534 })
}

fn parse(passwd: &str) -> Option<User> {
    let line = passwd.lines().find(|line| line.starts_with("nobody:"))?;
    let mut ids = line.split(':').skip(2);
    Some(User { uid: ids.next()?.parse().ok()?, gid: ids.next()?.parse().ok()? })
}

/// The topmost folder on the way to `path` that `user` cannot enter; folders yet to be made do not count.
pub(crate) fn barrier(path: &Path, user: Option<User>) -> Option<PathBuf> {
    let user = user?;
    let path = std::path::absolute(path).ok()?;
    let existing = path.ancestors().find_map(|folder| folder.canonicalize().ok())?;
    let mut parents: Vec<&Path> = existing.ancestors().collect();
    parents.reverse();
    parents.into_iter().find(|folder| !enterable(folder, user)).map(Path::to_path_buf)
}

fn enterable(folder: &Path, user: User) -> bool {
    let Ok(meta) = fs::metadata(folder) else { return false };
    let bit = if meta.uid() == user.uid {
        0o100
    } else if meta.gid() == user.gid {
        0o010
    } else {
        0o001
    };
    meta.mode() & bit != 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn nobody_is_read_from_passwd() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nnobody:x:99:98:nobody:/:/sbin/nologin\n";
        assert_eq!(parse(passwd), Some(User { uid: 99, gid: 98 }));
        assert_eq!(parse("root:x:0:0:root:/root:/bin/sh\n"), None);
    }

    #[test]
    fn a_closed_parent_is_a_barrier() {
        let stranger = Some(User { uid: 4_000_000, gid: 4_000_000 });
        let top = crate::folder::temporary(None).unwrap();
        let closed = top.join("closed");
        fs::create_dir(&closed).unwrap();
        fs::set_permissions(&top, fs::Permissions::from_mode(0o711)).unwrap();
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
        assert_eq!(barrier(&top.join("open/yet to be made"), stranger), None);
        assert_eq!(barrier(&closed.join("a/b"), stranger), Some(closed.canonicalize().unwrap()));
        assert_eq!(barrier(&closed, None), None);
        fs::remove_dir_all(top).unwrap();
    }
}
