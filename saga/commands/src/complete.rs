//! What a shell offers when a word is to be completed: the ids of the system that runs, asked for in a moment. Where none answers, nothing is
//! offered and nothing is said.

use std::time::Duration;

use clap_complete::CompletionCandidate;
use serde_json::Value;

use crate::client::Gateway;
use crate::output::plain;
use crate::system;

/// Whoever types waits so long at most.
const WITHIN: Duration = Duration::from_millis(400);

/// How many are offered, the newest.
pub const OFFERED: usize = 50;

/// What a service lists, each by its id with a few of its fields. `name`, `usual`: where it is.
pub fn listed(name: &str, usual: &str, path: &str, id: &str, about: &[&str]) -> Vec<CompletionCandidate> {
    let items = asked(async {
        let url = system::http_url(&system::address(name, usual)?).map_err(anyhow::Error::msg)?;
        let page = Gateway::new(&url)?.page::<Value>(path, &[("limit", OFFERED.to_string())]).await?;
        Ok(page.items)
    });
    // An id is a UUID: nothing else, whoever answers, reaches the line that is being typed.
    let is_id = |text: &&str| text.parse::<uuid::Uuid>().is_ok();
    items.iter().filter_map(|item| Some(candidate(item[id].as_str().filter(is_id)?.to_owned(), &words(item, about)))).collect()
}

/// Something to offer, with a few words about it.
pub fn candidate(value: String, about: &str) -> CompletionCandidate {
    let about: String = plain(about.to_owned()).chars().take(60).collect();
    CompletionCandidate::new(value).help((!about.is_empty()).then(|| about.into()))
}

fn words(thing: &Value, names: &[&str]) -> String {
    names.iter().filter_map(|name| thing[name].as_str()).collect::<Vec<_>>().join(", ")
}

/// What came in time; nothing, where it did not or failed.
pub fn asked<T>(question: impl Future<Output = anyhow::Result<Vec<T>>>) -> Vec<T> {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return Vec::new() };
    let answer = runtime.block_on(async { tokio::time::timeout(WITHIN, question).await });
    // A look-up of a name that never returns must not hold up the shell.
    runtime.shutdown_background();
    answer.ok().and_then(Result::ok).unwrap_or_default()
}
