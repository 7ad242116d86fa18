//! A saga's entries as they come: server-sent events, taken up where they broke off.

use std::marker::PhantomData;
use std::time::Duration;

use anyhow::Context as _;
use reqwest::Method;
use saga::Entry;
use uuid::Uuid;

use super::view::is_final;
use crate::client::{Gateway, Pieces};
use crate::command_line::CommandLine;
use crate::output::tell;
use crate::problem::Failure;

/// The pause before a broken stream is taken up again.
const PAUSE: Duration = Duration::from_millis(500);

/// The server sends a comment every fifteen seconds; three missed ones say that the connection is dead.
const SILENCE: Duration = Duration::from_secs(50);

/// How often a stream that gives nothing is taken up again.
const ATTEMPTS: u32 = 20;

/// The live entries of one saga.
pub struct Live<C> {
    service: Gateway,
    id: Uuid,
    last: u32,
    ended: bool,
    quiet: bool,
    open: Option<(Pieces, Events)>,
    line: PhantomData<C>,
}

impl<C: CommandLine> Live<C> {
    /// The entries after this sequence.
    pub fn new(service: Gateway, id: Uuid, last: u32) -> Self {
        Self { service, id, last, ended: false, quiet: false, open: None, line: PhantomData }
    }

    /// Tells nobody at this terminal of a stream that breaks off.
    pub fn quiet(self) -> Self {
        Self { quiet: true, ..self }
    }

    /// The next entry, however long it takes; `None` at the end of the saga.
    ///
    /// # Errors
    /// Where the service refuses, is away for too long, or says what this build cannot read.
    pub async fn next(&mut self) -> anyhow::Result<Option<Entry<C::Saga>>> {
        let mut failures = 0;
        while !self.ended {
            match self.read().await {
                Ok(Some(data)) => {
                    let entry: Entry<C::Saga> = serde_json::from_str(&data).context("an entry that this build cannot read")?;
                    self.last = entry.sequence;
                    self.ended = is_final(entry.state.phase());
                    return Ok(Some(entry));
                }
                // The server ends the stream when the saga is final, and when the server itself is stopped.
                Ok(None) => {}
                Err(failure) if !failure.is_transient() => return Err(failure.into()),
                Err(failure) if failures == 0 && !self.quiet => tell(&format!("{failure}; taking it up again")),
                Err(_) => {}
            }
            self.open = None;
            failures += 1;
            anyhow::ensure!(failures < ATTEMPTS, "its entries cannot be followed any longer");
            tokio::time::sleep(PAUSE).await;
        }
        Ok(None)
    }

    /// The next event's data; `None` at the stream's end.
    async fn read(&mut self) -> Result<Option<String>, Failure> {
        if self.open.is_none() {
            let mut request = self.service.request(Method::GET, &format!("{}/{}/events", C::SERVICE.path, self.id));
            if self.last > 0 {
                request = request.header("last-event-id", self.last.to_string());
            }
            self.open = Some((self.service.stream(request, "text/event-stream").await?, Events::default()));
        }
        let Some((pieces, events)) = &mut self.open else { return Ok(None) };
        loop {
            if let Some(data) = events.next() {
                return Ok(Some(data));
            }
            match tokio::time::timeout(SILENCE, pieces.next()).await {
                Ok(Ok(Some(piece))) => events.take(&piece),
                Ok(Ok(None)) | Err(_) => return Ok(None),
                Ok(Err(failure)) => return Err(failure),
            }
        }
    }
}

/// Server-sent events taken out of the bytes as they come (WHATWG HTML, section 9.2).
#[derive(Debug, Default)]
struct Events {
    bytes: Vec<u8>,
}

impl Events {
    fn take(&mut self, piece: &[u8]) {
        self.bytes.extend_from_slice(piece);
    }

    /// The data of the next complete `entry`; comments and other events are passed over.
    fn next(&mut self) -> Option<String> {
        loop {
            let end = self.bytes.windows(2).position(|two| two == b"\n\n")?;
            let event: Vec<u8> = self.bytes.drain(..end + 2).collect();
            let text = String::from_utf8_lossy(&event);
            let field = |name: &str| {
                let values = text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
                values.map(|value| value.strip_prefix(' ').unwrap_or(value)).collect::<Vec<_>>()
            };
            let data = field("data");
            if !data.is_empty() && field("event") == ["entry"] {
                return Some(data.join("\n"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_taken_out_of_pieces_of_any_size() {
        let text = ": keep\n\nid: 1\nevent: entry\ndata: {\"a\":\ndata: 1}\n\nevent: other\ndata: x\n\nid: 2\nevent: entry\ndata:{}\n\nid: 3\n";
        for size in [1, 2, 7, text.len()] {
            let (mut events, mut seen) = (Events::default(), vec![]);
            for piece in text.as_bytes().chunks(size) {
                events.take(piece);
                seen.extend(std::iter::from_fn(|| events.next()));
            }
            assert_eq!(seen, ["{\"a\":\n1}", "{}"], "{size}");
        }
    }
}
