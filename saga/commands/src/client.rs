//! The gateway over HTTP: requests out, typed answers or a [`Failure`] back. The one place that says who asks.

use std::time::Duration;

use bytes::Bytes;
use reqwest::{Client, Method, RequestBuilder, Url, header};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::page::Page;
use crate::problem::{Failure, Problem};
use crate::retry::{Unmade, surely};
use crate::system::shown;
use crate::token::Token;

/// How long an ordinary request may take. Requests that wait for an outcome add their wait to it.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A year: the HTTP client knows no other way to wait without limit.
const NO_LIMIT: Duration = Duration::from_secs(365 * 24 * 3600);

/// How long an answer that comes piece by piece may pause before its server counts as gone.
const SILENCE: Duration = Duration::from_secs(60);

/// Says which request is which: the same key again gives the first answer again.
const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// A client of the gateway, or of one service.
#[derive(Clone, Debug)]
pub struct Gateway {
    http: Client,
    base: String,
    token: Option<Token>,
}

/// A successful answer.
#[derive(Debug)]
pub struct Response<T> {
    /// The server had seen the idempotency key before, and gives the first answer again.
    pub replayed: bool,
    /// The document.
    pub body: T,
}

impl Gateway {
    /// A client of the gateway at this address, who brings the token that was given for it. Does not connect yet.
    pub fn new(base: &Url) -> anyhow::Result<Self> {
        Self::bearing(base, Token::for_address(base)?)
    }

    /// The same with this token, or none.
    ///
    /// # Errors
    /// Where the token cannot be read.
    pub fn bearing(base: &Url, token: Option<Token>) -> anyhow::Result<Self> {
        token.as_ref().map(Token::header).transpose()?;
        let http = Client::builder()
            .user_agent(concat!("waybill/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(Duration::from_secs(5))
            .timeout(PATIENCE)
            // We speak to the address that was said, whatever proxy the environment names for other tools.
            .no_proxy()
            .build()?;
        Ok(Self { http, base: base.as_str().trim_end_matches('/').to_owned(), token })
    }

    /// Where it is, without a password.
    pub fn address(&self) -> String {
        shown(&self.base)
    }

    /// Whether it brings a token.
    pub fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// Who the token says it is that asks.
    pub fn subject(&self) -> Option<String> {
        self.token.as_ref()?.subject()
    }

    /// A request to the path, to be filled in and given to [`Gateway::send`].
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.base));
        // Read each time, because a token is renewed while a command runs. Where it cannot be read the server says what it lacks.
        match self.token.as_ref().and_then(|token| token.header().ok()) {
            Some(token) => request.header(header::AUTHORIZATION, token),
            None => request,
        }
    }

    /// One thing.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.send(self.request(Method::GET, path)).await.map(|answer| answer.body)
    }

    /// Sends a document and reads what comes of it.
    pub async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, Failure> {
        self.send(self.request(Method::POST, path).json(body)).await.map(|answer| answer.body)
    }

    /// Creates something at most once: the same key again gives the same thing again.
    pub async fn create<T: DeserializeOwned>(
        &self,
        path: &str,
        key: &str,
        body: &impl Serialize,
    ) -> Result<Response<T>, Failure> {
        self.send(self.request(Method::POST, path).header(IDEMPOTENCY_KEY, key_header(key)).json(body)).await
    }

    /// Changes something at most once, and repeats the request, with the same key, while its answer is lost.
    pub async fn change<T: DeserializeOwned>(&self, path: &str, key: &str, body: &impl Serialize) -> Result<T, Unmade> {
        surely(async || self.create(path, key, body).await.map(|answer| answer.body)).await
    }

    /// One page of a list.
    pub async fn page<T: DeserializeOwned>(&self, path: &str, query: &[(&str, String)]) -> Result<Page<T>, Failure> {
        self.send(self.request(Method::GET, path).query(query)).await.map(|answer| answer.body)
    }

    /// Sends a request and reads the answer.
    pub async fn send<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<Response<T>, Failure> {
        let url = shown(&self.base);
        let response = self.response(request.header(header::ACCEPT, "application/json")).await?;
        let replayed = response.headers().get("idempotency-replayed").is_some_and(|value| value == "true");
        let bytes = response.bytes().await.map_err(|cause| Failure::Unreachable { url: url.clone(), cause })?;
        let body = serde_json::from_slice(&bytes).map_err(|error| Failure::Garbled { url, why: error.to_string() })?;
        Ok(Response { replayed, body })
    }

    /// An answer that comes piece by piece, for as long as it takes.
    pub async fn stream(&self, request: RequestBuilder, accept: &str) -> Result<Pieces, Failure> {
        let response = self.response(request.header(header::ACCEPT, accept).timeout(NO_LIMIT)).await?;
        Ok(Pieces { response, url: shown(&self.base) })
    }

    async fn response(&self, request: RequestBuilder) -> Result<reqwest::Response, Failure> {
        let url = shown(&self.base);
        match request.send().await {
            Ok(response) if response.status().is_success() => Ok(response),
            Ok(response) => Err(Failure::Problem(Box::new(Problem::read(response).await))),
            Err(cause) if cause.is_builder() => Err(Failure::Garbled { url, why: cause.to_string() }),
            Err(cause) => Err(Failure::Unreachable { url, cause }),
        }
    }
}

/// An answer on its way.
#[derive(Debug)]
pub struct Pieces {
    response: reqwest::Response,
    url: String,
}

impl Pieces {
    /// The next piece; `None` at the end of a complete answer.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        let url = self.url.clone();
        match tokio::time::timeout(SILENCE, self.response.chunk()).await {
            Ok(piece) => piece.map_err(|cause| Failure::Unreachable { url, cause }),
            Err(_) => Err(Failure::Garbled { url, why: "nothing, for a minute, in the middle of an answer".to_owned() }),
        }
    }
}

/// The key as the header wants it (RFC 8941): a token as it is, anything else as a quoted string.
pub fn key_header(key: &str) -> String {
    let is_token = key.starts_with(|c: char| c.is_ascii_alphabetic() || c == '*')
        && key.chars().all(|c| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~:/".contains(c));
    if is_token { key.to_owned() } else { format!("\"{}\"", key.replace('\\', "\\\\").replace('"', "\\\"")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_a_token_or_a_quoted_string() {
        assert_eq!(key_header("import:basket:7"), "import:basket:7");
        assert_eq!(key_header("0198c0de"), "\"0198c0de\"");
        assert_eq!(key_header("a \"b\" \\"), r#""a \"b\" \\""#);
    }
}
