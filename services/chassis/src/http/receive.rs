//! Reads a request's body, before anything else is done about the request.
//!
//! So nobody takes a place in a queue, at a database or at a service behind the gateway with a body that is still on its way, and no refusal
//! meets a client that is still writing.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bytes::BytesMut;
use http_body_util::BodyExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until};

use crate::http::Problem;
use crate::settings::HttpSettings;

/// The longest body, in bytes: room for 200 lines several times over.
pub const BODY_MAX: usize = 256 * 1024;

/// What of each body is not counted against the memory that all have together: an ordinary request finds room whoever sends large ones.
const UNCOUNTED: usize = 16 * 1024;

/// For how long a body may be slower than the minimum pace: a lost packet or two.
const GRACE: Duration = Duration::from_secs(5);

/// How bodies are received.
#[derive(Clone)]
pub(super) struct Receiver {
    timeout: Duration,
    pace: u32,
    memory: Arc<Semaphore>,
}

impl Receiver {
    pub(super) fn new(settings: &HttpSettings) -> Self {
        let memory = (settings.http_body_memory as usize) << 20;
        Self {
            timeout: settings.http_body_timeout,
            pace: settings.http_body_pace,
            memory: Arc::new(Semaphore::new(memory.min(Semaphore::MAX_PERMITS))),
        }
    }

    /// The request with its whole body, and the memory it takes, to be kept as long as the request.
    pub(super) async fn receive(&self, request: Request) -> Result<(Request, Option<OwnedSemaphorePermit>), Response> {
        if request.body().is_end_stream() {
            return Ok((request, None));
        }
        let (parts, body) = request.into_parts();
        // The rest of what is refused is not read here: its connection ends, and lingers.
        let refuse = |problem: Problem| ([(header::CONNECTION, "close")], problem).into_response();
        if body.size_hint().lower() > BODY_MAX as u64 {
            return Err(refuse(Problem::too_large(BODY_MAX)));
        }
        let (body, memory) = self.read(body).await.map_err(refuse)?;
        if is_encoded(&parts.headers) {
            let mut response = Problem::encoded().into_response();
            response.headers_mut().insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
            return Err(response);
        }
        Ok((Request::from_parts(parts, Body::from(body)), memory))
    }

    async fn read(&self, mut body: Body) -> Result<(Bytes, Option<OwnedSemaphorePermit>), Problem> {
        let begun = Instant::now();
        let (mut first, mut rest) = (Bytes::new(), BytesMut::new());
        let mut memory: Option<OwnedSemaphorePermit> = None;
        let mut late = std::pin::pin!(sleep_until(self.due(begun, 0)));
        loop {
            let frame = tokio::select! {
                biased;
                frame = body.frame() => frame,
                () = &mut late => return Err(Problem::too_slow()),
            };
            let data = match frame {
                None => break,
                Some(Err(error)) => return Err(Problem::malformed(format!("the body ended early: {error}"))),
                Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
            };
            let received = first.len() + rest.len() + data.len();
            if received > BODY_MAX {
                return Err(Problem::too_large(BODY_MAX));
            }
            let held = memory.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
            if received > UNCOUNTED + held {
                let more = self.memory.clone().try_acquire_many_owned((received - UNCOUNTED - held) as u32);
                let more = more.map_err(|_| Problem::unavailable("too many large bodies are on their way; try again shortly"))?;
                match &mut memory {
                    Some(memory) => memory.merge(more),
                    None => memory = Some(more),
                }
            }
            if first.is_empty() {
                first = data;
            } else {
                rest.extend_from_slice(&data);
            }
            if body.is_end_stream() {
                break;
            }
            late.as_mut().reset(self.due(begun, received));
        }
        if rest.is_empty() {
            return Ok((first, memory));
        }
        let mut whole = BytesMut::with_capacity(first.len() + rest.len());
        whole.extend_from_slice(&first);
        whole.extend_from_slice(&rest);
        Ok((whole.freeze(), memory))
    }

    /// When more must have come.
    fn due(&self, begun: Instant, received: usize) -> Instant {
        let earned = Duration::from_secs_f64(received as f64 / f64::from(self.pace));
        begun + self.timeout.min(GRACE + earned)
    }
}

/// Whether a body must be decoded before it can be read (RFC 9110 section 8.4).
fn is_encoded(headers: &HeaderMap) -> bool {
    headers.get_all(header::CONTENT_ENCODING).iter().any(|value| !value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"identity"))
}
