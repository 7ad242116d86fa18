//! Sagas by what they wait for, page after page; and an operator's action on each.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use futures_util::{Stream, stream};
use reqwest::StatusCode;
use serde_json::Value;
use uuid::Uuid;

use super::view::View;
use crate::bulk::Outcome;
use crate::client::Gateway;
use crate::command_line::CommandLine;
use crate::list::LARGEST_PAGE;
use crate::page::Page;
use crate::problem::Failure;

/// How long the service may be away before one of many counts as left.
const PATIENCE: Duration = Duration::from_secs(60);

/// The least rest before another try.
const REST: Duration = Duration::from_millis(500);

/// Which of all sagas.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Which {
    /// As the service is asked for them.
    pub query: Vec<(String, String)>,
    /// Only those whose cause holds this text, in any case of letters.
    pub cause: String,
}

impl Which {
    /// Those that have waited too long, for this.
    pub fn stuck(cause: &str) -> Self {
        Self { query: vec![("stuck".to_owned(), "true".to_owned())], cause: cause.to_owned() }
    }

    /// Whether a saga that the service found is one of them.
    pub fn wants<C: CommandLine>(&self, view: &View<C>) -> bool {
        let holds = |cause: Option<String>| cause.is_some_and(|cause| cause.to_lowercase().contains(&self.cause.to_lowercase()));
        self.cause.is_empty() || holds(view.cause_in_short()) || holds(view.cause.clone())
    }

    /// They, newest first, each once, whatever becomes of them meanwhile.
    pub fn views<C: CommandLine>(self, service: Gateway) -> impl Stream<Item = anyhow::Result<View<C>>> + Send {
        let begin = Walk::<C> { which: self, service, page: VecDeque::new(), cursor: None, more: true };
        stream::unfold(begin, |mut walk| async move {
            match walk.next().await {
                Ok(view) => view.map(|view| (Ok(view), walk)),
                Err(failure) => {
                    walk.more = false;
                    Some((Err(failure.into()), walk))
                }
            }
        })
    }
}

/// A walk over the pages.
struct Walk<C> {
    which: Which,
    service: Gateway,
    page: VecDeque<View<C>>,
    cursor: Option<String>,
    more: bool,
}

impl<C: CommandLine> Walk<C> {
    async fn next(&mut self) -> Result<Option<View<C>>, Failure> {
        while self.page.is_empty() && self.more {
            let mut query: Vec<(&str, String)> = vec![("limit", LARGEST_PAGE.to_string())];
            query.extend(self.which.query.iter().map(|(name, value)| (name.as_str(), value.clone())));
            query.extend(self.cursor.clone().map(|cursor| ("cursor", cursor)));
            let since = Instant::now();
            let page: Page<View<C>> = loop {
                match self.service.page("/sagas", &query).await {
                    Err(failure) if rest(&failure, since).await => {}
                    asked => break asked?,
                }
            };
            self.page.extend(page.items.into_iter().filter(|view| self.which.wants(view)));
            (self.more, self.cursor) = (page.next_cursor.is_some(), page.next_cursor);
        }
        Ok(self.page.pop_front())
    }
}

/// An operator's action, to be taken on many.
#[derive(Clone, Debug)]
pub struct Act {
    /// Whom to ask.
    pub service: Gateway,
    /// `retry`, `cancel`, `compensate` or `skip`.
    pub verb: String,
    /// Who, why, and which step.
    pub body: Value,
}

impl Act {
    /// Takes it on one: waits for a service that is away, and takes no refusal for a failure of the whole.
    pub async fn on(self, id: Uuid) -> Outcome {
        let Self { service, verb, body } = self;
        let path = format!("/sagas/{id}/{verb}");
        let since = Instant::now();
        loop {
            return match service.post::<Value>(&path, &body).await {
                Ok(_) => Outcome::Done,
                Err(failure) if rest(&failure, since).await => continue,
                Err(Failure::Problem(problem)) if problem.status == StatusCode::NOT_FOUND => Outcome::Gone,
                Err(Failure::Problem(problem)) if problem.status == StatusCode::CONFLICT && went_on(&service, id).await => {
                    Outcome::Gone
                }
                Err(Failure::Problem(problem)) => {
                    Outcome::Left(problem.body.detail.clone().unwrap_or_else(|| problem.to_string()))
                }
                Err(failure) => Outcome::Left(failure.to_string()),
            };
        }
    }
}

/// Whether a saga went on by itself: nobody is asked for anything, and nothing stands in its way.
async fn went_on(service: &Gateway, id: Uuid) -> bool {
    let saga: Result<Value, Failure> = service.get(&format!("/sagas/{id}")).await;
    saga.is_ok_and(|saga| saga["waiting"].as_array().is_some_and(Vec::is_empty) && saga["stuck"] == false)
}

/// Rests before another try, if there is to be one.
async fn rest(failure: &Failure, since: Instant) -> bool {
    let again = failure.is_transient() && since.elapsed() < PATIENCE;
    if again {
        tokio::time::sleep(failure.retry_after().unwrap_or(REST).max(REST)).await;
    }
    again
}
