//! The contracts as they lie in the repository.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::breaking;

/// The folder `docs`.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").join("docs")
}

/// Holds a contract of this build against the one that is committed. What it says of the two: nothing, if they are the same.
///
/// `WAYBILL_WRITE_CONTRACTS=1` writes it anew, if nobody who relies on the committed one is let down; `=breaking` does so whatever it breaks.
///
/// # Errors
/// In what they differ, and what to do about it.
pub fn committed(file: &str, built: &Value, sent: bool) -> Result<(), String> {
    let path = folder().join(file);
    let before = fs::read_to_string(&path).ok();
    let now = format!("{built:#}\n");
    if before.as_ref() == Some(&now) {
        return Ok(());
    }
    let before: Value = before.as_deref().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    let broken = breaking::changes(&before, built, sent);
    let write = std::env::var("WAYBILL_WRITE_CONTRACTS").unwrap_or_default();
    if write == "breaking" || (write == "1" && broken.is_empty()) {
        fs::create_dir_all(path.parent().expect("a folder")).map_err(|error| error.to_string())?;
        return fs::write(&path, now).map_err(|error| format!("{}: {error}", path.display()));
    }
    if broken.is_empty() {
        return Err(format!("docs/{file} is not of this build; `WAYBILL_WRITE_CONTRACTS=1 make contracts` writes it anew"));
    }
    Err(format!(
        "docs/{file}: this build breaks those who rely on it: {broken:#?}\nkeep what was there, or make a new version beside it; \
         `WAYBILL_WRITE_CONTRACTS=breaking make contracts` writes it all the same"
    ))
}
