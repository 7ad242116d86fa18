//! Files for their owner alone: what holds a token, a password or a key.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use anyhow::{Context as _, anyhow, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::{SystemRandom, generate};

/// Reads a file, unless others can read it too.
///
/// # Errors
/// Where they can, or it cannot be read. [`is_missing`] tells that there is none.
pub fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    let cannot = || format!("cannot read {}", path.display());
    let mode = fs::metadata(path).with_context(cannot)?.mode();
    ensure!(mode & 0o077 == 0, "others can read {}, which holds a secret: chmod 600 {}", path.display(), path.display());
    fs::read(path).with_context(cannot)
}

/// Whether a file could not be read because there is none.
pub fn is_missing(error: &anyhow::Error) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::NotFound)
}

/// Writes a file, at once or not at all: whoever reads it meanwhile sees the old one or the new one. Its folder is made where there is none.
///
/// # Errors
/// Those of the file system.
pub fn write(path: &Path, content: impl AsRef<[u8]>) -> anyhow::Result<()> {
    let cannot = || format!("cannot write {}", path.display());
    let folder = path.parent().with_context(cannot)?;
    self::folder(folder)?;
    let name = path.file_name().with_context(cannot)?.to_string_lossy();
    let new = folder.join(format!(".{name}.{}", std::process::id()));
    let _ = fs::remove_file(&new);
    let written = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new).and_then(|mut file| {
        file.write_all(content.as_ref())?;
        fs::rename(&new, path)
    });
    if written.is_err() {
        let _ = fs::remove_file(&new);
    }
    written.with_context(cannot)
}

/// A password that nobody guesses: 24 bytes of the system's own generator, as letters, digits, `-` and `_`.
///
/// # Errors
/// Where the system has none.
pub fn password() -> anyhow::Result<String> {
    let bytes = generate::<[u8; 24]>(&SystemRandom::new()).map_err(|_| anyhow!("the system gives no random bytes"))?;
    Ok(URL_SAFE_NO_PAD.encode(bytes.expose()))
}

/// Makes a folder that only its owner can enter, and those it is in; one that is there stays as it is.
///
/// # Errors
/// Those of the file system.
pub fn folder(path: &Path) -> anyhow::Result<()> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.with_context(|| format!("cannot make the folder {}", path.display()))
}

/// What a file of text holds; where there is none it is made and written.
///
/// # Errors
/// Those of the file system.
pub fn keep_or_make(path: &Path, make: impl FnOnce() -> anyhow::Result<String>) -> anyhow::Result<String> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let text = make()?;
            write(path, &text)?;
            Ok(text)
        }
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}
