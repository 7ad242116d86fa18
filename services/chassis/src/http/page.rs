//! Pages: newest first, an opaque cursor, a limit with a cap in items and one in bytes.

use axum::extract::{FromRequestParts, OriginalUri};
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::http::{Problem, Query};

/// The most bytes of a page, unless a single item is longer: what one client may have us keep for it. Its page then has fewer items than were
/// asked for, and a cursor to the rest.
const BYTES_MAX: usize = 256 * 1024;

/// The end of a page: what stands after its items.
const CLOSING: usize = 64;

const LIMIT_DEFAULT: i64 = 50;
pub(super) const LIMIT_MAX: i64 = 200;

/// `?limit=&cursor=`, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageQuery {
    /// How many items: 1 to 200, 50 where nothing is said.
    pub limit: i64,
    /// The id after which the page begins.
    pub after: Option<Uuid>,
    limit_given: bool,
    path: String,
    query: String,
}

#[derive(Deserialize)]
struct Raw {
    limit: Option<String>,
    cursor: Option<String>,
}

impl<S: Send + Sync> FromRequestParts<S> for PageQuery {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Query(raw) = Query::<Raw>::from_request_parts(parts, state).await?;
        let limit_given = raw.limit.is_some();
        let limit = match raw.limit.as_deref().map(number) {
            None => LIMIT_DEFAULT,
            Some(Some(limit)) if (1..=LIMIT_MAX).contains(&limit) => limit,
            Some(_) => return Err(Problem::malformed(format!("`limit` must be a number from 1 to {LIMIT_MAX}"))),
        };
        let after = match raw.cursor.as_deref() {
            None | Some("") => None,
            Some(cursor) => {
                Some(Uuid::try_parse(cursor).map_err(|_| Problem::malformed("`cursor` is not one this service gave"))?)
            }
        };
        let OriginalUri(uri) = OriginalUri::from_request_parts(parts, state).await.expect("never refused");
        Ok(Self { limit, after, limit_given, path: uri.path().to_owned(), query: uri.query().unwrap_or_default().to_owned() })
    }
}

/// A number as people write it. `parse` would take a sign too.
pub fn number(text: &str) -> Option<i64> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

impl PageQuery {
    /// The same with as many items as a page may have where nothing is said.
    pub fn largest(self) -> Self {
        let limit = if self.limit_given { self.limit } else { LIMIT_MAX };
        Self { limit, ..self }
    }

    /// How many rows to read: one more than asked for, to know whether there is a next page.
    pub fn rows(&self) -> i64 {
        self.limit + 1
    }

    /// The page made of the rows read: as many as were asked for, or as fit into `BYTES_MAX`.
    ///
    /// # Errors
    /// An item that cannot be written as JSON.
    pub fn page<T: Serialize>(&self, items: Vec<T>, id: impl Fn(&T) -> Uuid) -> Result<Page, Problem> {
        self.part(items, id, None)
    }

    /// The same of rows after which there may be others all the same, from there on.
    ///
    /// # Errors
    /// An item that cannot be written as JSON.
    pub fn part<T: Serialize>(&self, items: Vec<T>, id: impl Fn(&T) -> Uuid, next: Option<Uuid>) -> Result<Page, Problem> {
        let mut body = br#"{"items":["#.to_vec();
        let mut last = None;
        let mut next_cursor = next.map(|next| next.simple().to_string());
        for (index, item) in items.iter().enumerate() {
            let begun = body.len();
            if index > 0 {
                body.push(b',');
            }
            serde_json::to_writer(&mut body, item).map_err(|error| Problem::internal(&error.into()))?;
            if index as i64 == self.limit || (index > 0 && body.len() + CLOSING > BYTES_MAX) {
                body.truncate(begun);
                next_cursor = last.map(|last: Uuid| last.simple().to_string());
                break;
            }
            last = Some(id(item));
        }
        body.extend_from_slice(br#"],"next_cursor":"#);
        let link = next_cursor.as_ref().map(|cursor| {
            let kept = self.query.split('&').filter(|pair| !pair.is_empty() && !pair.starts_with("cursor="));
            let query: Vec<&str> = kept.collect();
            let query = if query.is_empty() { String::new() } else { format!("{}&", query.join("&")) };
            format!("<{}?{query}cursor={cursor}>; rel=\"next\"", self.path)
        });
        match next_cursor {
            Some(cursor) => body.extend_from_slice(format!("\"{cursor}\"}}").as_bytes()),
            None => body.extend_from_slice(b"null}"),
        }
        Ok(Page { body, link })
    }
}

/// A page: `{"items": [...], "next_cursor": ...}` with a `Link` to the next.
#[derive(Clone, Debug)]
pub struct Page {
    body: Vec<u8>,
    link: Option<String>,
}

impl Page {
    /// The same, silent about pages where no other comes after it: `{"items": [...]}`.
    pub fn plain_if_last(mut self) -> Self {
        if self.link.is_none() {
            self.body.truncate(self.body.len() - r#","next_cursor":null}"#.len());
            self.body.push(b'}');
        }
        self
    }
}

impl IntoResponse for Page {
    fn into_response(self) -> Response {
        let link: Option<(HeaderName, HeaderValue)> =
            self.link.as_ref().and_then(|link| Some((header::LINK, HeaderValue::from_str(link).ok()?)));
        let mut response = ([(header::CONTENT_TYPE, "application/json")], self.body).into_response();
        response.headers_mut().extend(link);
        response
    }
}
