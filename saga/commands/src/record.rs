//! What operators do outside of a saga is written down where its sagas are: before it is done, and what came of it after.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::client::Gateway;
use crate::output::{plain, tell};
use crate::problem::Failure;

/// The longest text that is kept.
const LONGEST: usize = 200;

/// How long the service may be away when what was done is to be told.
const PATIENCE: Duration = Duration::from_secs(60);

/// The rest before it is told again.
const REST: Duration = Duration::from_millis(500);

/// What is about to be done.
#[derive(Clone, Debug, Serialize)]
pub struct Deed {
    /// Who does it.
    pub by: String,
    /// What, in a word.
    pub action: &'static str,
    /// With what.
    pub about: String,
    /// The saga it is about, where it is about one.
    pub saga: Option<Uuid>,
    /// Why, where it was said.
    pub reason: Option<String>,
}

/// What is written down, and has not come to its end.
#[derive(Debug)]
#[must_use = "what came of it is told by `end`"]
pub struct Recorded {
    service: Gateway,
    id: Uuid,
    by: String,
}

#[derive(Deserialize)]
struct Begun {
    id: Uuid,
}

impl Recorded {
    /// Writes down what is about to be done. Where it cannot be, it is not to be done.
    ///
    /// # Errors
    /// Where the service does not take it.
    pub async fn begin(service: &Gateway, deed: Deed) -> Result<Self, Failure> {
        let deed = Deed { about: line(&deed.about), reason: deed.reason.as_deref().map(line), ..deed };
        let Begun { id } = service.post("/actions", &deed).await?;
        Ok(Self { service: service.clone(), id, by: deed.by })
    }

    /// Writes down what came of it. Said twice, the first stands: so it is said again where its answer is lost.
    ///
    /// # Errors
    /// Where the service does not take it; then only that it was begun is known.
    pub async fn end(self, outcome: &str) -> Result<(), Failure> {
        let body = serde_json::json!({ "by": self.by, "outcome": line(outcome) });
        let path = format!("/actions/{}/outcome", self.id);
        let since = Instant::now();
        loop {
            match self.service.post::<Begun>(&path, &body).await {
                Err(failure) if failure.is_transient() && since.elapsed() < PATIENCE => tokio::time::sleep(REST).await,
                told => return told.map(drop),
            }
        }
    }

    /// The same for a command: where it cannot be written down, its user is told so.
    pub async fn end_or_tell(self, outcome: &str) {
        if let Err(failure) = self.end(outcome).await {
            tell(&format!("What came of it is not written down: {failure}"));
        }
    }
}

/// One line of what shows, no longer than is kept.
fn line(text: &str) -> String {
    let text = plain(text.replace(['\n', '\t'], " "));
    match text.trim().char_indices().nth(LONGEST - 1) {
        Some((end, _)) if text.trim().chars().count() > LONGEST => format!("{}…", text.trim()[..end].trim_end()),
        _ => text.trim().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_one_line_of_what_is_kept() {
        assert_eq!(line(" a\nb\u{1b}[2J\tc "), "a b [2J c");
        let (longest, longer) = ("é".repeat(LONGEST), "é".repeat(LONGEST + 1));
        assert_eq!(line(&longest), longest);
        assert_eq!((line(&longer).chars().count(), line(&longer).chars().last()), (LONGEST, Some('…')));
    }
}
