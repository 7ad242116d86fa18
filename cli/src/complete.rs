//! What a shell offers when a word is to be completed: the ids and numbers of the system that runs, asked for in a moment. Where none answers, nothing
//! is offered and nothing is said.
//!
//! The script that `waybill completions` prints calls this program again, with a variable set and the words so far as arguments.

use std::io::Write as _;
use std::process::exit;

use clap_complete::env::Shells;
use clap_complete::{CompleteEnv, CompletionCandidate, Shell};
use saga_commands::complete::listed;
use saga_commands::system;

use crate::addresses::{ADDRESSES, GATEWAY};

/// Set by the script, to the name of its shell.
const VARIABLE: &str = "WAYBILL_COMPLETE";

/// Answers the script of a shell about this command and ends the program; returns where no script asks.
pub fn answer(command: fn() -> clap::Command) {
    if std::env::var_os(VARIABLE).is_none() {
        return;
    }
    let words: Vec<_> = std::env::args_os().skip_while(|word| word != "--").skip(1).collect();
    // The addresses that were typed already count; what is missing or half written does not matter.
    if let Ok(matches) = command().ignore_errors(true).try_get_matches_from(&words) {
        system::said(&matches, &ADDRESSES);
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
    listed(GATEWAY, "http://127.0.0.1:8080", "/orders", "id", &["status", "created_at"])
}

/// The newest users.
pub fn users() -> Vec<CompletionCandidate> {
    listed(GATEWAY, "http://127.0.0.1:8080", "/users", "id", &["name", "email"])
}

/// The newest products.
pub fn products() -> Vec<CompletionCandidate> {
    listed(GATEWAY, "http://127.0.0.1:8080", "/products", "id", &["name"])
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
