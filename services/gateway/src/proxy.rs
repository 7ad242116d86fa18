//! One request and its answer, passed on.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::{Body, HttpBody};
use axum::extract::{ConnectInfo, OriginalUri, Request, State};
use axum::http::header;
use axum::response::Response;
use chassis::http::{BODY_MAX, Problem, read_on};

use crate::headers;
use crate::upload::Upload;
use crate::upstream::Upstream;

/// Passes a request on to its service, and the answer back.
pub async fn forward(
    State(upstream): State<Arc<Upstream>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    OriginalUri(uri): OriginalUri,
    request: Request,
) -> Result<Response, Problem> {
    if request.body().size_hint().lower() > BODY_MAX as u64 {
        let expects = request.headers().contains_key(header::EXPECT);
        read_on(request.into_body(), expects).await;
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
