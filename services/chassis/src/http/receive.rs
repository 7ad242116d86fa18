//! Reads a request's body, before anything else is done about the request.
//!
//! So nobody takes a place in a queue, at a database or at a service behind the gateway with a body that is still on its way, and no refusal
//! meets a client that is still writing.

use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bytes::BytesMut;
use http_body_util::BodyExt;
use tokio::time::{Instant, sleep_until};

use crate::client::Client;
use crate::fair_limit::{FairLimit, Permit};
use crate::http::Problem;
use crate::settings::HttpSettings;

/// The longest body, in bytes: room for 200 lines several times over.
pub const BODY_MAX: usize = 256 * 1024;

/// What of each body is not counted against the memory that all have together: an ordinary request finds room whoever sends large ones.
const UNCOUNTED: usize = 16 * 1024;

/// How far a body may be behind the minimum pace at any time: a lost packet or two. What came early earns no more than this, or one that came
/// fast at first could stall for minutes.
const GRACE: Duration = Duration::from_secs(5);

/// How bodies are received.
#[derive(Clone)]
pub(super) struct Receiver {
    timeout: Duration,
    pace: u32,
    memory: FairLimit,
}

impl Receiver {
    pub(super) fn new(settings: &HttpSettings) -> Self {
        let memory = (settings.http_body_memory as usize) << 20;
        Self { timeout: settings.http_body_timeout, pace: settings.http_body_pace, memory: FairLimit::new(memory, settings) }
    }

    /// The request with its whole body, and the memory it takes, to be kept as long as the request.
    pub(super) async fn receive(&self, request: Request, client: Client) -> Result<(Request, Option<Permit>), Response> {
        if request.body().is_end_stream() {
            return Ok((request, None));
        }
        let (parts, body) = request.into_parts();
        // The rest of what is refused is not read here: its connection ends, and lingers.
        let refuse = |problem: Problem| ([(header::CONNECTION, "close")], problem).into_response();
        if body.size_hint().lower() > BODY_MAX as u64 {
            return Err(refuse(Problem::too_large(BODY_MAX)));
        }
        let (body, memory) = self.read(body, client).await.map_err(refuse)?;
        if is_encoded(&parts.headers) {
            let mut response = Problem::encoded().into_response();
            response.headers_mut().insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
            return Err(response);
        }
        Ok((Request::from_parts(parts, Body::from(body)), memory))
    }

    async fn read(&self, mut body: Body, client: Client) -> Result<(Bytes, Option<Permit>), Problem> {
        let end = Instant::now() + self.timeout;
        let mut due = Instant::now() + GRACE;
        let (mut first, mut rest) = (Bytes::new(), BytesMut::new());
        let mut memory: Option<Permit> = None;
        let mut late = std::pin::pin!(sleep_until(due.min(end)));
        loop {
            let frame = tokio::select! {
                biased;
                frame = body.frame() => frame,
                () = &mut late => return Err(Problem::too_slow()),
            };
            let data = match frame {
                None => break,
                Some(Err(error)) => return Err(Problem::malformed(format!("the body ended early, or is malformed: {error}"))),
                Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
            };
            let received = first.len() + rest.len() + data.len();
            if received > BODY_MAX {
                return Err(Problem::too_large(BODY_MAX));
            }
            let held = memory.as_ref().map_or(0, Permit::count);
            if received > UNCOUNTED + held {
                let more = received - UNCOUNTED - held;
                let fits = match &mut memory {
                    Some(memory) => memory.grow(more),
                    None => {
                        memory = self.memory.acquire(client, more);
                        memory.is_some()
                    }
                };
                if !fits {
                    return Err(Problem::unavailable("too many large bodies are on their way; try again shortly"));
                }
            }
            due = (due + self.earned(data.len())).min(Instant::now() + GRACE);
            if first.is_empty() {
                first = data;
            } else {
                rest.extend_from_slice(&data);
            }
            if body.is_end_stream() {
                break;
            }
            late.as_mut().reset(due.min(end));
        }
        if rest.is_empty() {
            return Ok((first, memory));
        }
        let mut whole = BytesMut::with_capacity(first.len() + rest.len());
        whole.extend_from_slice(&first);
        whole.extend_from_slice(&rest);
        Ok((whole.freeze(), memory))
    }

    /// The time in which so much should come.
    fn earned(&self, received: usize) -> Duration {
        Duration::from_secs_f64(received as f64 / f64::from(self.pace))
    }
}

/// Whether a body must be decoded before it can be read (RFC 9110 section 8.4).
fn is_encoded(headers: &HeaderMap) -> bool {
    headers.get_all(header::CONTENT_ENCODING).iter().any(|value| !value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"identity"))
}
