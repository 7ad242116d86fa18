//! Newline-delimited JSON from a file or stdin, plain or gzip, one line in memory at a time.

use std::io::{self, BufRead, Read as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use futures_util::stream::{self, Stream};
use saga_commands::input::{Input, plain};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;

/// The longest line read; a longer one is malformed, so that a file without line ends cannot fill the memory.
const LONGEST_LINE: u64 = 1 << 20;
/// How many lines are read ahead of the requests.
const READ_AHEAD: usize = 256;

/// A file being read on a thread of its own, because files and decompression block.
pub struct Lines<T> {
    /// The file's name, for messages.
    pub name: String,
    /// The file's size in bytes as stored; `None` for a pipe.
    pub size: Option<u64>,
    /// How many of these bytes have been read.
    pub read: Arc<AtomicU64>,
    entries: mpsc::Receiver<io::Result<Entry<T>>>,
}

/// One line that is not empty.
pub struct Entry<T> {
    /// Its number in the file, from 1.
    pub number: u64,
    /// What it says, or why it says nothing.
    pub parsed: Result<T, String>,
}

impl<T: DeserializeOwned + Send + 'static> Lines<T> {
    /// Opens a file, or stdin for `-`, and starts to read.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let Input { name, size, read, bytes } = Input::open(path)?;
        let (sender, entries) = mpsc::channel(READ_AHEAD);
        // Not a task: a read of stdin that never returns must not keep the runtime from ending.
        std::thread::spawn(move || {
            let sent = plain(bytes).and_then(|input| send_all(input, &sender));
            if let Err(error) = sent {
                let _ = sender.blocking_send(Err(error));
            }
        });
        Ok(Self { name, size, read, entries })
    }

    /// The lines one by one; an error ends them.
    pub fn into_stream(self) -> impl Stream<Item = io::Result<Entry<T>>> {
        stream::unfold(self.entries, async |mut entries| entries.recv().await.map(|entry| (entry, entries)))
    }
}

/// Sends every line until the input ends or nobody listens any more.
fn send_all<T: DeserializeOwned>(mut input: impl BufRead, to: &mpsc::Sender<io::Result<Entry<T>>>) -> io::Result<()> {
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let length = input.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line)?;
        if length == 0 {
            break;
        }
        let parsed = if length as u64 == LONGEST_LINE && !line.ends_with(b"\n") {
            input.skip_until(b'\n')?;
            Err("longer than 1 MiB".to_owned())
        } else if line.trim_ascii().is_empty() {
            continue;
        } else {
            serde_json::from_slice(&line).map_err(|error| error.to_string())
        };
        if to.blocking_send(Ok(Entry { number, parsed })).is_err() {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Write as _};

    use super::*;

    const TEXT: &str = "{\"a\":1}\n\n{\"a\":\n{\"a\":3}";

    fn gzip(text: &str) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    }

    fn read(bytes: &[u8]) -> io::Result<Vec<(u64, Option<serde_json::Value>)>> {
        let (sender, mut entries) = mpsc::channel(1_000);
        plain(Cursor::new(bytes.to_vec())).and_then(|input| send_all(input, &sender))?;
        drop(sender);
        let entries = std::iter::from_fn(|| entries.blocking_recv());
        entries.map(|entry| entry.map(|entry| (entry.number, entry.parsed.ok()))).collect()
    }

    #[test]
    fn lines_keep_their_numbers_and_a_malformed_one_does_not_stop_the_rest() {
        let expected = [(1, Some(serde_json::json!({"a": 1}))), (3, None), (4, Some(serde_json::json!({"a": 3})))];
        assert_eq!(read(TEXT.as_bytes()).unwrap(), expected);
    }

    #[test]
    fn gzip_is_known_by_its_first_bytes_in_one_or_several_members() {
        assert_eq!(read(&gzip(TEXT)).unwrap(), read(TEXT.as_bytes()).unwrap());
        let members = [gzip("{\"a\":1}\n"), gzip("{\"a\":2}\n")].concat();
        assert_eq!(read(&members).unwrap().len(), 2);
    }

    #[test]
    fn a_gzip_file_that_breaks_off_is_an_error_and_not_an_end() {
        let whole = gzip(&TEXT.repeat(100));
        assert!(read(&whole[..whole.len() - 12]).is_err());
    }

    #[test]
    fn a_line_without_end_is_malformed_and_not_kept() {
        let text = format!("[{}\n{{\"a\":2}}\n", " ".repeat(LONGEST_LINE as usize));
        assert_eq!(read(text.as_bytes()).unwrap(), [(1, None), (2, Some(serde_json::json!({"a": 2})))]);
    }

    #[test]
    fn an_empty_input_has_no_lines() {
        assert!(read(b"").unwrap().is_empty());
        assert!(read(b"\n").unwrap().is_empty());
    }
}
