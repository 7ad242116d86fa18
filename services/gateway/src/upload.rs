//! A request's body on its way to a service: streamed, bounded, and known to have ended or not.

use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use axum::body::{Body, Bytes, HttpBody};
use chassis::http::{BODY_MAX, read_on};
use hyper::body::{Frame, SizeHint};

/// How a body ended. Whoever waits for an answer needs it: a client that sends slowly, too much or not at all is not the
/// service's failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// All of it was sent.
    Complete,
    /// It went on beyond the limit.
    TooLarge,
    /// The client stopped in the middle.
    Broken,
}

/// A body that stops at the limit, so that a service never sees one it would have to refuse half-read.
pub struct Upload {
    body: Body,
    left: usize,
    end: Arc<OnceLock<End>>,
}

impl Upload {
    /// Wraps a body.
    pub fn new(body: Body) -> Self {
        let upload = Self { body, left: BODY_MAX, end: Arc::default() };
        if upload.body.is_end_stream() {
            upload.ended(End::Complete);
        }
        upload
    }

    /// Tells how the body ended, once it has.
    pub fn end(&self) -> Arc<OnceLock<End>> {
        self.end.clone()
    }

    fn ended(&self, end: End) {
        // The first word counts: a body may be polled again after its end.
        let _ = self.end.set(end);
    }
}

impl HttpBody for Upload {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        match &frame {
            None => self.ended(End::Complete),
            Some(Err(_)) => self.ended(End::Broken),
            Some(Ok(frame)) => {
                let Some(left) = self.left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) else {
                    self.ended(End::TooLarge);
                    // The client is told while it still writes; it must be able to finish, or it never looks at the answer.
                    let rest = std::mem::take(&mut self.body);
                    tokio::spawn(read_on(rest, false));
                    return Poll::Ready(Some(Err(axum::Error::new("the body is too large"))));
                };
                self.left = left;
                if self.body.is_end_stream() {
                    self.ended(End::Complete);
                }
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
