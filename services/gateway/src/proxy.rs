//! One request and its answer, passed on.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::extract::{ConnectInfo, OriginalUri, Request, State};
use axum::http::header;
use axum::response::Response;
use chassis::http::{BODY_MAX, Problem};
use http_body_util::BodyExt;

use crate::headers;
use crate::upload::Upload;
use crate::upstream::Upstream;

/// How much of a body that is refused unread is read all the same. See [`read_on`].
const READ_ON_MAX: u64 = 1024 * 1024;
const READ_ON_TIME: Duration = Duration::from_millis(500);

/// Passes a request on to its service, and the answer back.
pub async fn forward(
    State(upstream): State<Arc<Upstream>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    OriginalUri(uri): OriginalUri,
    request: Request,
) -> Result<Response, Problem> {
    if request.body().size_hint().lower() > BODY_MAX as u64 {
        read_on(request).await;
        return Err(Problem::too_large(BODY_MAX));
    }
    let (mut parts, body) = request.into_parts();
    headers::remove_hop_by_hop(&mut parts.headers);
    headers::add_forwarding(&mut parts.headers, peer.ip(), parts.version);
    // The extensions stay behind: they are this edge's, and some would mean something to the client that sends the request.
    let mut outgoing = Request::new(Upload::new(body));
    *outgoing.method_mut() = parts.method;
    *outgoing.headers_mut() = parts.headers;
    *outgoing.uri_mut() = upstream.uri(&uri);
    outgoing.headers_mut().insert(header::HOST, upstream.host());

    let mut response = upstream.send(outgoing).await?;
    headers::remove_hop_by_hop(response.headers_mut());
    Ok(response.map(Body::new))
}

/// Reads a refused body that is only somewhat too large. A connection closed on a client that is still writing is reset, and
/// most clients then never look at the answer (RFC 9112 section 9.6). A client that waits for `100 Continue` writes nothing.
async fn read_on(request: Request) {
    if request.headers().contains_key(header::EXPECT) || request.body().size_hint().lower() > READ_ON_MAX {
        return;
    }
    let mut body = request.into_body();
    let read = async { while let Some(Ok(_)) = body.frame().await {} };
    let _ = tokio::time::timeout(READ_ON_TIME, read).await;
}
