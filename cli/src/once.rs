//! Changes that are made only once, however often the command is repeated.

/// What is to be done only once, however often the command is repeated.
#[derive(Debug, clap::Args)]
pub struct Once {
    /// A name for this change: the same key again makes it no second time. Without one, every call is a new change.
    #[arg(long, value_name = "KEY", value_parser = idempotency_key)]
    idempotency_key: Option<String>,
}

impl Once {
    /// The key, or a new one: an answer that is lost is then asked for again.
    pub fn key(&self) -> String {
        self.idempotency_key.clone().unwrap_or_else(|| uuid::Uuid::now_v7().to_string())
    }
}

/// What to do about a change that may have been made.
pub fn perhaps(what: &str, key: &str) -> String {
    format!("{what}. The same command with --idempotency-key {key} finds it, or makes it.")
}

fn idempotency_key(text: &str) -> Result<String, String> {
    let printable = !text.is_empty() && text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    if printable { Ok(text.to_owned()) } else { Err("must be printable ASCII, and not empty".to_owned()) }
}
