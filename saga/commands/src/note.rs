//! What `waybill up` writes down in the folder it runs in: the addresses of its system, for commands that run there too.
//!
//! The note is locked by the `waybill up` that wrote it for as long as that runs. So nobody else writes or removes it meanwhile, and a note
//! that nobody holds was left behind.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use anyhow::Context as _;

/// Where the note is, below the folder that `waybill up` is run in.
pub const FILE: &str = ".local/waybill.env";

/// How the first line begins; the process id follows.
const HEADER: &str = "# Written by `waybill up`, process ";

/// A reader holds the lock for a moment; a writer tries so often, a hundredth of a second apart.
const TRIES: usize = 50;

/// Who wrote a note.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writer {
    /// A `waybill up` that runs.
    Running(u32),
    /// One that is gone without removing its note: it was killed.
    Gone(u32),
    /// A person.
    Somebody,
}

/// A note as it was read.
#[derive(Debug)]
pub struct Note {
    /// Whose it is.
    pub writer: Writer,
    pairs: BTreeMap<String, String>,
}

impl Note {
    /// Reads the note of this folder, if there is one.
    pub fn read() -> anyhow::Result<Option<Self>> {
        let mut file = match File::open(FILE) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).context(format!("cannot read {FILE}")),
        };
        let mut text = String::new();
        file.read_to_string(&mut text).with_context(|| format!("cannot read {FILE}"))?;
        let writer = match writer(&text) {
            None => Writer::Somebody,
            Some(pid) => match file.try_lock_shared() {
                Err(TryLockError::WouldBlock) => Writer::Running(pid),
                _ => Writer::Gone(pid),
            },
        };
        Ok(Some(Self { writer, pairs: pairs(&text)? }))
    }

    /// An address, by the name of its variable.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.pairs.get(name).map(String::as_str)
    }

    /// Who wrote it, for a message.
    pub fn by(&self) -> String {
        match self.writer {
            Writer::Running(pid) | Writer::Gone(pid) => format!(" (process {pid})"),
            Writer::Somebody => String::new(),
        }
    }
}

/// The lines `NAME=VALUE`; empty ones and remarks are passed over, and what is set to nothing is as if unset. Nothing of a wrong line is shown: it
/// may hold a password.
fn pairs(text: &str) -> anyhow::Result<BTreeMap<String, String>> {
    let mut pairs = BTreeMap::new();
    for (number, line) in (1..).zip(text.lines().map(str::trim)) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, value) = line.split_once('=').with_context(|| format!("line {number} of {FILE} is not NAME=VALUE"))?;
        if !value.trim().is_empty() {
            pairs.insert(name.trim().to_owned(), value.trim().to_owned());
        }
    }
    Ok(pairs)
}

fn writer(text: &str) -> Option<u32> {
    text.lines().next()?.strip_prefix(HEADER)?.trim_end_matches('.').parse().ok()
}

/// The right to write the note of this folder; removed when dropped, because what it says is true no longer.
pub struct Own(File);

impl Own {
    /// Takes the note, unless another `waybill up` has it.
    pub fn take() -> anyhow::Result<Option<Self>> {
        let path = Path::new(FILE);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
        }
        for _ in 0..TRIES {
            let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
            let file = file.with_context(|| format!("cannot write {FILE}"))?;
            match file.try_lock() {
                // Whoever had it may have removed it between the two.
                Ok(()) if fs::metadata(path).is_ok_and(|now| file.metadata().is_ok_and(|own| own.ino() == now.ino())) => {
                    return Ok(Some(Self(file)));
                }
                Ok(()) | Err(TryLockError::WouldBlock) => sleep(Duration::from_millis(10)),
                Err(TryLockError::Error(error)) => return Err(error).context(format!("cannot lock {FILE}")),
            }
        }
        Ok(None)
    }

    /// Writes the addresses, readable by the owner alone: they hold passwords.
    pub fn write(&mut self, pairs: &[(&str, String)]) -> anyhow::Result<()> {
        let mut text = format!("{HEADER}{}.\n", std::process::id());
        for (name, value) in pairs {
            text += &format!("{name}={value}\n");
        }
        self.0.set_permissions(fs::Permissions::from_mode(0o600))?;
        self.0.set_len(0)?;
        self.0.rewind()?;
        self.0.write_all(text.as_bytes()).with_context(|| format!("cannot write {FILE}"))
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        let _ = fs::remove_file(FILE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_holds_names_and_values_and_a_wrong_line_is_named() {
        let read = pairs("# x\n\n A = b=c \r\nB=\n").unwrap();
        assert_eq!(read.into_iter().collect::<Vec<_>>(), [("A".to_owned(), "b=c".to_owned())]);
        let error = pairs("A=b\nhunter2\n").unwrap_err().to_string();
        assert_eq!(error, "line 2 of .local/waybill.env is not NAME=VALUE");
    }

    #[test]
    fn the_writer_is_named_in_the_first_line() {
        assert_eq!(writer("# Written by `waybill up`, process 4711.\nA=b\n"), Some(4711));
        assert_eq!(writer("A=b\n"), None);
        assert_eq!(writer(""), None);
    }
}
