//! One client's connection: a write that makes no progress fails, a client that went away is noticed although one that only finished
//! writing is answered, and the end is taken slowly enough that the last answer arrives.

use std::io::{self, IoSlice, Write as _};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::http::StatusCode;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep, timeout};

use crate::http::Problem;

/// How often a connection on which nothing more can be read is asked whether its client is still there.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// For how long, and for how many bytes, a connection is read on after its last answer. See [`Ended::linger`].
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 1024 * 1024;

/// A socket as hyper sees it.
pub(super) struct Connection {
    /// `None` only while it is dropped.
    socket: Option<TcpStream>,
    ended: Ended,
    write_timeout: Duration,
    /// Runs while a write makes no progress.
    stalled: Option<Pin<Box<Sleep>>>,
    /// Runs while there is nothing more to wait for on the reading side.
    look: Option<Pin<Box<Sleep>>>,
    /// There is nobody to linger for.
    gone: bool,
    /// What is sent in place of an answer that hyper gives by itself, and how much of it is sent.
    words: Option<(Vec<u8>, usize)>,
}

/// Where the socket goes when hyper is done with it.
#[derive(Clone, Default)]
pub(super) struct Ended(Arc<Mutex<Option<TcpStream>>>);

impl Connection {
    /// A connection, and where its socket will be found.
    pub(super) fn new(socket: TcpStream, write_timeout: Duration) -> (Self, Ended) {
        let ended = Ended::default();
        (
            Self {
                socket: Some(socket),
                ended: ended.clone(),
                write_timeout,
                stalled: None,
                look: None,
                gone: false,
                words: None,
            },
            ended,
        )
    }

    fn socket(&mut self) -> Pin<&mut TcpStream> {
        Pin::new(self.socket.as_mut().expect("there until it is dropped"))
    }

    /// What became of a write. hyper has no deadline of its own: a client that never reads would keep its connection for ever.
    fn written<T>(&mut self, cx: &mut Context<'_>, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if result.is_ready() {
            self.stalled = None;
            return result;
        }
        let timeout = self.write_timeout;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(timeout)));
        if stalled.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        // Closed with a reset: what waits in the kernel's buffer is not kept for a client that does not take it.
        let _ = self.socket().set_zero_linger();
        self.gone = true;
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not read")))
    }

    /// Whether these bytes are an answer that hyper gives by itself, to a head it cannot read. It says no word, so ours is sent in its place.
    fn words(&mut self, bytes: &[u8]) -> bool {
        if self.words.is_none() {
            self.words = refusal(bytes).map(|words| (words, 0));
        }
        self.words.is_some()
    }

    /// Writes our words; done with the `length` bytes they stand for once all of them are out.
    fn poll_words(&mut self, cx: &mut Context<'_>, length: usize) -> Poll<io::Result<usize>> {
        let Some((words, mut sent)) = self.words.take() else { return Poll::Ready(Ok(length)) };
        while sent < words.len() {
            match self.socket().poll_write(cx, &words[sent..]) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(written)) => sent += written,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    self.words = Some((words, sent));
                    return Poll::Pending;
                }
            }
        }
        Poll::Ready(Ok(length))
    }

    /// Fails once the client is gone. While an answer is being made, hyper reads nothing, because a client may have closed its writing side and
    /// still wait; whether it went away altogether shows as an error of the socket, at the latest after something was written to it.
    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.socket().poll_read_ready(cx).is_pending() {
            self.look = None;
            return Ok(());
        }
        loop {
            if let Some(error) = self.socket().take_error()? {
                self.gone = true;
                return Err(error);
            }
            let look = self.look.get_or_insert_with(|| Box::pin(sleep(LOOK_EVERY)));
            if look.as_mut().poll(cx).is_pending() {
                return Ok(());
            }
            look.as_mut().reset(Instant::now() + LOOK_EVERY);
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if !self.gone {
            *self.ended.0.lock().expect("never poisoned") = self.socket.take();
        }
    }
}

impl Ended {
    /// Reads on after the last answer, until the client closes too. A connection closed on a client that still writes is reset, and most
    /// clients then never look at the answer they were sent (RFC 9112 section 9.6).
    pub(super) async fn linger(self) {
        let Some(socket) = self.0.lock().expect("never poisoned").take() else { return };
        let _ = timeout(LINGER, async {
            let mut scrap = vec![0; 16 * 1024];
            let mut left = LINGER_BYTES;
            while left > 0 && socket.readable().await.is_ok() {
                match socket.try_read(&mut scrap) {
                    Ok(0) => break,
                    Ok(read) => left = left.saturating_sub(read),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(_) => break,
                }
            }
        })
        .await;
    }
}

/// The answer to a head that cannot be read, if that is what hyper answers here. Every answer of ours has a body or an `x-request-id`.
fn refusal(answer: &[u8]) -> Option<Vec<u8>> {
    if !answer.starts_with(b"HTTP/1.1 4") || answer.len() > 200 || !answer.ends_with(b"\r\n\r\n") {
        return None;
    }
    let head = std::str::from_utf8(answer).ok()?;
    if !head.contains("\r\ncontent-length: 0\r\n") || head.contains("x-request-id") {
        return None;
    }
    let problem = match head[9..].split(' ').next()?.parse().ok().and_then(|code| StatusCode::from_u16(code).ok())? {
        StatusCode::BAD_REQUEST => Problem::malformed("the head of the request is not HTTP/1.1"),
        StatusCode::URI_TOO_LONG => Problem::uri_too_long(),
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => Problem::head_too_large(),
        _ => return None,
    };
    let body = serde_json::to_vec(&problem).ok()?;
    let head = head.trim_end().replace("content-length: 0", &format!("content-length: {}", body.len()));
    let mut words = Vec::new();
    let more = "content-type: application/problem+json\r\nx-content-type-options: nosniff\r\ncache-control: no-store";
    write!(words, "{head}\r\n{more}\r\n\r\n").ok()?;
    words.extend_from_slice(&body);
    Some(words)
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.socket().poll_read(cx, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let result = match self.words(bytes) {
            true => self.poll_words(cx, bytes.len()),
            false => self.socket().poll_write(cx, bytes),
        };
        self.written(cx, result)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let result = match slices {
            [bytes] if self.words(bytes) => self.poll_words(cx, bytes.len()),
            _ => self.socket().poll_write_vectored(cx, slices),
        };
        self.written(cx, result)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A socket holds nothing back. hyper comes by here each time it is woken.
        Poll::Ready(self.check(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket().poll_shutdown(cx)
    }
}
