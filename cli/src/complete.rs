//! What a shell offers when a word is to be completed: the ids and numbers of the system that runs, asked for in a moment. Where none answers, nothing
//! is offered and nothing is said.
//!
//! The script that `waybill completions` prints calls this program again, with a variable set and the words so far as arguments.

use std::io::Write as _;
use std::process::exit;
use std::time::Duration;

use clap_complete::env::Shells;
use clap_complete::{CompleteEnv, CompletionCandidate, Shell};
use serde_json::Value;

use crate::client::Gateway;
use crate::output::plain;
use crate::system::{self, GATEWAY, ORDER};

/// Set by the script, to the name of its shell.
const VARIABLE: &str = "WAYBILL_COMPLETE";

/// Whoever types waits so long at most.
const WITHIN: Duration = Duration::from_millis(400);

/// How many are offered, the newest.
pub const OFFERED: usize = 50;

/// Answers the script of a shell about this command and ends the program; returns where no script asks.
pub fn answer(command: fn() -> clap::Command) {
    if std::env::var_os(VARIABLE).is_none() {
        return;
    }
    let words: Vec<_> = std::env::args_os().skip_while(|word| word != "--").skip(1).collect();
    // The addresses that were typed already count; what is missing or half written does not matter.
    if let Ok(matches) = command().ignore_errors(true).try_get_matches_from(&words) {
        system::said(&matches);
    }
    match CompleteEnv::with_factory(command).var(VARIABLE).try_complete(std::env::args_os(), None) {
        Ok(false) => {}
        Err(error) if words.is_empty() => error.exit(),
        // There is nothing to offer: the shell shows nothing.
        Ok(true) | Err(_) => exit(0),
    }
}

/// The script of a shell.
pub fn script(shell: Shell) -> std::io::Result<Vec<u8>> {
    let mut program = std::env::args_os().next().map(std::path::PathBuf::from).unwrap_or_default();
    if program.components().count() > 1 {
        program = std::path::absolute(&program)?;
    }
    let mut script = Vec::new();
    match Shells::builtins().completer(&shell.to_string()) {
        Some(shell) => shell.write_registration(VARIABLE, "waybill", "waybill", &program.to_string_lossy(), &mut script)?,
        None => writeln!(script, "# {shell} cannot be completed for")?,
    }
    Ok(script)
}

/// The newest orders, from the gateway.
pub fn orders() -> Vec<CompletionCandidate> {
    listed(GATEWAY, "http://127.0.0.1:8080", "/orders", "id", |order| words(order, &["status", "created_at"]))
}

/// The newest orders, from the order service, which the operators' commands ask.
pub fn sagas() -> Vec<CompletionCandidate> {
    listed(ORDER, "http://127.0.0.1:8083", "/orders", "id", |order| words(order, &["status", "created_at"]))
}

/// The sagas that wait for somebody.
pub fn sagas_in_flight() -> Vec<CompletionCandidate> {
    listed(ORDER, "http://127.0.0.1:8083", "/sagas", "order_id", |saga| words(saga, &["status", "cause"]))
}

/// The newest users.
pub fn users() -> Vec<CompletionCandidate> {
    listed(GATEWAY, "http://127.0.0.1:8080", "/users", "id", |user| words(user, &["name", "email"]))
}

/// The newest products.
pub fn products() -> Vec<CompletionCandidate> {
    listed(GATEWAY, "http://127.0.0.1:8080", "/products", "id", |product| words(product, &["name"]))
}

/// The same with the sign after which the quantity stands.
pub fn items() -> Vec<CompletionCandidate> {
    let with_sign = |product: CompletionCandidate| {
        let mut value = product.get_value().to_owned();
        value.push("=");
        CompletionCandidate::new(value).help(product.get_help().cloned())
    };
    products().into_iter().map(with_sign).collect()
}

fn listed(name: &str, usual: &str, path: &str, id: &str, about: fn(&Value) -> String) -> Vec<CompletionCandidate> {
    let items = asked(async {
        let url = system::http_url(&system::address(name, usual)?).map_err(anyhow::Error::msg)?;
        let page = Gateway::new(&url)?.page::<Value>(path, &[("limit", OFFERED.to_string())]).await?;
        Ok(page.items)
    });
    // An id is a UUID: nothing else, whoever answers, reaches the line that is being typed.
    let is_id = |text: &&str| text.parse::<uuid::Uuid>().is_ok();
    items.iter().filter_map(|item| Some(candidate(item[id].as_str().filter(is_id)?.to_owned(), &about(item)))).collect()
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
