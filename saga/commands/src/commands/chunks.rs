//! Lines in chunks: cheap enough to hand from thread to thread, small enough to hold many.

use std::io::{self, Read};
use std::ops::ControlFlow;

/// Bytes in a chunk, about: some hundred histories.
const SIZE: usize = 256 * 1024;

/// The longest line: a history of some hundred thousand entries. A file without line ends must not fill the memory.
const LONGEST_LINE: usize = 64 << 20;

/// Whole lines.
#[derive(Debug)]
pub struct Chunk {
    first: u64,
    bytes: Vec<u8>,
}

impl Chunk {
    /// The lines that are not blank, with their numbers from 1.
    pub fn lines(&self) -> impl Iterator<Item = (u64, &[u8])> {
        let lines = (self.first..).zip(self.bytes.split(|byte| *byte == b'\n'));
        lines.filter(|(_, line)| !line.trim_ascii().is_empty())
    }
}

/// Makes chunks of what comes in pieces of any size.
#[derive(Debug)]
pub struct Cutter {
    bytes: Vec<u8>,
    /// The end of the last whole line among them; zero: there is none.
    whole: usize,
    /// The number of the next chunk's first line.
    next: u64,
}

impl Cutter {
    /// Nothing yet.
    pub fn new() -> Self {
        Self { bytes: Vec::with_capacity(2 * SIZE), whole: 0, next: 1 }
    }

    /// Takes a piece; gives a chunk once there is enough for one.
    pub fn take(&mut self, piece: &[u8]) -> io::Result<Option<Chunk>> {
        if let Some(end) = piece.iter().rposition(|byte| *byte == b'\n') {
            self.whole = self.bytes.len() + end + 1;
        }
        self.bytes.extend_from_slice(piece);
        if self.bytes.len() < SIZE {
            Ok(None)
        } else if self.whole > 0 {
            let mut rest = Vec::with_capacity(2 * SIZE);
            rest.extend_from_slice(&self.bytes[self.whole..]);
            self.bytes.truncate(self.whole);
            Ok(Some(self.chunk(rest)))
        } else if self.bytes.len() > LONGEST_LINE {
            Err(io::Error::new(io::ErrorKind::InvalidData, format!("line {} is longer than 64 MiB", self.next)))
        } else {
            Ok(None)
        }
    }

    /// What is left; a last line needs no end.
    pub fn end(&mut self) -> Option<Chunk> {
        (!self.bytes.is_empty()).then(|| self.chunk(Vec::new()))
    }

    fn chunk(&mut self, rest: Vec<u8>) -> Chunk {
        let bytes = std::mem::replace(&mut self.bytes, rest);
        self.whole = 0;
        let first = self.next;
        self.next += bytes.iter().filter(|byte| **byte == b'\n').count() as u64;
        Chunk { first, bytes }
    }
}

/// Reads chunk after chunk until the input ends or nobody wants more.
pub fn read(mut input: impl Read, mut each: impl FnMut(Chunk) -> ControlFlow<()>) -> io::Result<()> {
    let mut cutter = Cutter::new();
    let mut piece = vec![0; SIZE];
    loop {
        let chunk = match input.read(&mut piece) {
            Ok(0) => break,
            Ok(length) => cutter.take(&piece[..length])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => None,
            Err(error) => return Err(error),
        };
        if chunk.is_some_and(|chunk| each(chunk).is_break()) {
            return Ok(());
        }
    }
    cutter.end().map(each);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_keep_their_numbers_across_chunks() {
        let text: String =
            (1..=60_000).map(|number| if number % 7 == 0 { "\n".to_owned() } else { format!("line {number}\n") }).collect();
        let (mut chunks, mut lines) = (0, 0);
        read(text.trim_end().as_bytes(), |chunk| {
            chunks += 1;
            for (number, line) in chunk.lines() {
                assert_eq!(line, format!("line {number}").as_bytes());
                lines += 1;
            }
            ControlFlow::Continue(())
        })
        .unwrap();
        assert_eq!((chunks > 1, lines), (true, 60_000 - 60_000 / 7));
    }

    #[test]
    fn whoever_has_enough_stops_the_reading() {
        let mut chunks = 0;
        let stop = |_| {
            chunks += 1;
            ControlFlow::Break(())
        };
        read(io::repeat(b'\n'), stop).unwrap();
        assert_eq!(chunks, 1);
    }

    #[test]
    fn a_line_without_end_is_an_error() {
        let error = read(io::repeat(b'x'), |_| ControlFlow::Continue(())).unwrap_err();
        assert_eq!(error.to_string(), "line 1 is longer than 64 MiB");
    }
}
