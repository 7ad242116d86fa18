//! Answers whose length nobody knows at their beginning. Each holds its places until it ends, and lasts no longer than its caller is believed.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use axum::http::header;
use axum::response::Response;
use hyper::body::{Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

/// A body that lasts.
struct Stream<P> {
    body: Body,
    /// When the token of the caller expires, if it has one.
    ends: Option<Pin<Box<Sleep>>>,
    /// Whether it may end anywhere. What is cut short must not look whole: it breaks off instead.
    ends_anywhere: bool,
    _places: P,
}

/// Whether an answer lasts.
pub(super) fn lasts(response: &Response) -> bool {
    response.body().size_hint().exact().is_none() && !response.body().is_end_stream()
}

/// The answer, with what it holds until it ends.
pub(super) fn seated<P: Send + Unpin + 'static>(response: Response, ends: Option<Instant>, places: P) -> Response {
    let content_type = response.headers().get(header::CONTENT_TYPE);
    // Who follows events comes again, with another token, and goes on where it was.
    let ends_anywhere = content_type.is_some_and(|value| value.as_bytes().starts_with(b"text/event-stream"));
    let ends = ends.map(|ends| Box::pin(sleep_until(ends)));
    response.map(|body| Body::new(Stream { body, ends, ends_anywhere, _places: places }))
}

impl<P: Unpin> HttpBody for Stream<P> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if let Some(ends) = &mut self.ends
            && ends.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(if self.ends_anywhere {
                None
            } else {
                tracing::warn!("an answer broke off: the token of its caller has expired");
                Some(Err(axum::Error::new("the token has expired")))
            });
        }
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::response::IntoResponse as _;
    use futures_util::stream;
    use http_body_util::BodyExt as _;

    use super::*;

    fn forever(content_type: &'static str) -> Response {
        let pieces = stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Some((Ok::<_, std::io::Error>("piece\n"), ()))
        });
        ([(header::CONTENT_TYPE, content_type)], Body::from_stream(pieces)).into_response()
    }

    #[tokio::test(start_paused = true)]
    async fn what_lasts_ends_with_the_token_and_what_is_cut_short_does_not_look_whole() {
        for (content_type, whole) in [("text/event-stream", true), ("application/x-ndjson", false)] {
            let begun = Instant::now();
            let ends = Some(begun + Duration::from_millis(5_500));
            let response = forever(content_type);
            assert!(lasts(&response));
            let answer = seated(response, ends, ()).into_body().collect().await;
            assert_eq!(begun.elapsed(), Duration::from_millis(5_500), "{content_type}");
            assert_eq!(answer.is_ok(), whole, "{content_type}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_held_is_given_back_at_the_end() {
        let held = std::sync::Arc::new(());
        let answer = seated(forever("text/event-stream"), Some(Instant::now() + Duration::from_secs(1)), held.clone());
        assert_eq!(std::sync::Arc::strong_count(&held), 2);
        drop(answer.into_body().collect().await);
        assert_eq!(std::sync::Arc::strong_count(&held), 1);
    }
}
