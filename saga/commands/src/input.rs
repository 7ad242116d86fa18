//! What is read from a file or from stdin, plain or gzip.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context as _;
use flate2::read::MultiGzDecoder;

/// The first bytes of every gzip file (RFC 1952).
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// A file or stdin, opened.
pub struct Input {
    /// Its name, for messages.
    pub name: String,
    /// Its size in bytes as stored; `None` for a pipe.
    pub size: Option<u64>,
    /// How many of these bytes have been read.
    pub read: Arc<AtomicU64>,
    /// The bytes as stored; [`plain`] makes text of them.
    pub bytes: Box<dyn Read + Send>,
}

impl Input {
    /// Opens a file, or stdin for `-`.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let stdin = path.as_os_str() == "-";
        let name = if stdin { "stdin".to_owned() } else { path.display().to_string() };
        let read = Arc::new(AtomicU64::new(0));
        let (input, size): (Box<dyn Read + Send>, _) = if stdin {
            (Box::new(io::stdin()), None)
        } else {
            let file = File::open(path).with_context(|| format!("cannot open {name}"))?;
            let about = file.metadata().with_context(|| format!("cannot open {name}"))?;
            anyhow::ensure!(!about.is_dir(), "{name} is a folder");
            (Box::new(file), about.is_file().then_some(about.len()))
        };
        let bytes = Box::new(Counted { inner: input, read: read.clone() });
        Ok(Self { name, size, read, bytes })
    }
}

/// The input as text, decompressed if its first bytes say that it is compressed.
pub fn plain(mut input: impl Read + Send + 'static) -> io::Result<Box<dyn BufRead + Send>> {
    // Read, not peeked: a pipe may hand over one byte at first.
    let mut start = Vec::new();
    input.by_ref().take(GZIP.len() as u64).read_to_end(&mut start)?;
    let compressed = start == GZIP;
    let whole = Cursor::new(start).chain(input);
    Ok(if compressed {
        Box::new(BufReader::new(MultiGzDecoder::new(BufReader::new(whole))))
    } else {
        Box::new(BufReader::new(whole))
    })
}

/// Counts the bytes that pass, for the progress bar.
struct Counted<R> {
    inner: R,
    read: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.read.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}
