//! One request and its answer, passed on.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::{ConnectInfo, OriginalUri, Request, State};
use axum::http::header;
use axum::response::Response;
use chassis::http::{BODY_MAX, Client, Problem};
use http_body_util::Full;

use crate::headers;
use crate::upstream::Upstream;

/// Passes a request on to its service, and the answer back.
pub async fn forward(
    State(upstream): State<Arc<Upstream>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Extension(client): Extension<Client>,
    OriginalUri(uri): OriginalUri,
    request: Request,
) -> Result<Response, Problem> {
    let (mut parts, body) = request.into_parts();
    // All of it is there already: the edge has received it.
    let body = axum::body::to_bytes(body, BODY_MAX).await.map_err(|error| Problem::malformed(error.to_string()))?;
    headers::remove_hop_by_hop(&mut parts.headers);
    headers::add_forwarding(&mut parts.headers, peer.ip(), parts.version);
    // The extensions stay behind: they are this edge's, and some would mean something to the client that sends the request.
    let mut outgoing = Request::new(Full::new(body));
    *outgoing.method_mut() = parts.method;
    *outgoing.headers_mut() = parts.headers;
    *outgoing.uri_mut() = uri;
    // Answered by this edge, and judged: by its own name, which its services do not go by.
    outgoing.headers_mut().remove(header::EXPECT);
    outgoing.headers_mut().remove(header::ORIGIN);
    outgoing.headers_mut().remove("sec-fetch-site");

    let mut response = upstream.send(client, outgoing).await?;
    headers::remove_hop_by_hop(response.headers_mut());
    Ok(response.map(Body::new))
}
