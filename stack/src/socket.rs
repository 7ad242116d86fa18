//! The folder of the Unix socket, whose path is short.

use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};

use crate::folder::{make_dir, temporary};
use crate::user::User;

/// The limit of `sockaddr_un`, less the longest `/.s.PGSQL.65535` and the final zero.
const LONGEST_SOCKET_DIR: usize = 107 - 15;

/// The private folder of the Unix socket.
#[derive(Debug)]
pub(crate) struct SocketDir {
    pub(crate) path: PathBuf,
    /// Made below the temporary folder because the data folder's own path is too long.
    temporary: Option<PathBuf>,
}

impl SocketDir {
    pub(crate) fn make(place: &Path, user: Option<User>) -> anyhow::Result<Self> {
        let mut path = place.join("socket");
        let text = path.to_str().unwrap_or_default();
        // The setting is a list: commas part, and quotes and surrounding blanks are taken away.
        let fits = (1..=LONGEST_SOCKET_DIR).contains(&text.len()) && !text.contains([',', '"', ' ']);
        let temporary = if fits { None } else { Some(temporary(user)?) };
        if let Some(folder) = &temporary {
            path = folder.join("socket");
        }
        if !path.is_dir() {
            make_dir(&path, 0o700)?;
        }
        if let Some(user) = user {
            chown(&path, Some(user.uid), Some(user.gid))?;
        }
        Ok(Self { path, temporary })
    }
}

impl Drop for SocketDir {
    fn drop(&mut self) {
        if let Some(folder) = &self.temporary {
            let _ = fs::remove_dir_all(folder);
        }
    }
}
