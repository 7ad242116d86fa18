//! A client's view: requests to one address, and their answers.

use reqwest::header::HeaderMap;
use reqwest::{Method, RequestBuilder};
use serde_json::Value;

use crate::contract;

/// Sends requests to one address: a service or the gateway, with or without `/v1`.
#[derive(Clone, Debug)]
pub struct Client {
    /// `http://127.0.0.1:8083/v1`.
    pub base: String,
    http: reqwest::Client,
    token: Option<String>,
}

impl Client {
    pub(crate) fn new(base: String, http: reqwest::Client, token: Option<String>) -> Self {
        Self { base, http, token }
    }

    /// The same address, asked with this token.
    pub fn bearing(&self, token: impl Into<String>) -> Self {
        Self { token: Some(token.into()), ..self.clone() }
    }

    /// The same address, asked by nobody in particular.
    pub fn anonymous(&self) -> Self {
        Self { token: None, ..self.clone() }
    }

    /// The same address with a prefix.
    pub fn under(&self, prefix: &str) -> Self {
        Self { base: format!("{}{prefix}", self.base), ..self.clone() }
    }

    /// A request to be added to, for [`answer`].
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.base));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    /// GET.
    pub async fn get(&self, path: &str) -> Answer {
        answer(self.request(Method::GET, path)).await
    }

    /// POST with a JSON body.
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        answer(self.request(Method::POST, path).json(body)).await
    }

    /// PATCH with a JSON body.
    pub async fn patch(&self, path: &str, body: &Value) -> Answer {
        answer(self.request(Method::PATCH, path).json(body)).await
    }

    /// POST with these bytes, said to be JSON.
    pub async fn post_raw(&self, path: &str, body: impl Into<reqwest::Body>) -> Answer {
        answer(self.request(Method::POST, path).header("content-type", "application/json").body(body)).await
    }
}

/// An answer, read in full.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub text: String,
}

/// Sends a request that must be answered.
pub async fn answer(request: RequestBuilder) -> Answer {
    Answer::try_of(request).await.expect("an answer")
}

impl Answer {
    /// Sends a request that may fail to be answered.
    pub async fn try_of(request: RequestBuilder) -> reqwest::Result<Self> {
        let (client, request) = request.build_split();
        let request = request?;
        let (method, path) = (request.method().clone(), request.url().path().to_owned());
        let response = client.execute(request).await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let answer = Self { status, headers, text: response.text().await? };
        // So every end-to-end test is one of the contract too.
        if let Err(why) = contract::answer(&method, &path, answer.given()) {
            panic!("{method} {path} is not answered as the OpenAPI document says: {why}\n{answer:#?}");
        }
        Ok(answer)
    }

    fn given(&self) -> contract::Given<'_> {
        contract::Given { status: self.status, content_type: self.header("content-type"), text: &self.text }
    }

    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error} in the body of {self:?}"))
    }

    /// A header, empty where there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|value| value.to_str().expect("a header of text")).unwrap_or_default()
    }

    /// The body as JSON, of an answer that must have this status.
    #[track_caller]
    pub fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{self:#?}");
        self.json()
    }

    /// The problem, of an answer that must be one with this status and type (the part after `urn:waybill:problem:`).
    #[track_caller]
    pub fn problem(&self, status: u16, kind: &str) -> Value {
        assert_eq!(self.status, status, "{self:#?}");
        assert_eq!(self.header("content-type"), "application/problem+json", "{self:#?}");
        let problem = self.json();
        assert_eq!(problem["type"], format!("urn:waybill:problem:{kind}"), "{problem:#}");
        assert_eq!(problem["status"], status, "{problem:#}");
        for field in ["title", "detail"] {
            assert!(problem[field].as_str().is_some_and(|text| !text.is_empty()), "{field} in {problem:#}");
        }
        problem
    }

    /// Where an invalid body (422) is wrong, sorted.
    #[track_caller]
    pub fn invalid(&self) -> Vec<String> {
        let problem = self.problem(422, "invalid");
        let errors = problem["errors"].as_array().unwrap_or_else(|| panic!("no errors in {problem:#}"));
        let mut pointers: Vec<String> = errors
            .iter()
            .map(|error| {
                assert!(error["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{error}");
                error["pointer"].as_str().expect("a pointer").to_owned()
            })
            .collect();
        pointers.sort();
        pointers
    }
}
