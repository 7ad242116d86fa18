//! Logs: JSON lines for machines, text for a terminal. JSON escapes what came from outside, so no request can forge a line.

use std::io::IsTerminal;

use anyhow::{Context as _, bail};
use tracing_subscriber::EnvFilter;

/// Starts logging to stderr. `RUST_LOG` filters, else `default` does (`info`, say); `WAYBILL_LOG` is `json` or `text` (default: text on a terminal).
///
/// # Errors
/// Where one of the two is set to something that it cannot be.
pub fn init(default: &str) -> anyhow::Result<()> {
    let given = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(|value| value.to_string_lossy().into_owned());
    let filter = match given(EnvFilter::DEFAULT_ENV) {
        Some(text) => EnvFilter::try_new(&text).with_context(|| format!("RUST_LOG is no filter of logs: `{text}`"))?,
        None => EnvFilter::new(format!("{default},sqlx=warn,async_nats=error")),
    };
    let text = match given("WAYBILL_LOG").as_deref() {
        Some("text") => true,
        Some("json") => false,
        Some(other) => bail!("WAYBILL_LOG is neither json nor text: `{other}`"),
        None => std::io::stderr().is_terminal(),
    };
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A second start (services side by side in one process, tests) keeps the first.
    let _ = if text { subscriber.try_init() } else { subscriber.json().flatten_event(true).try_init() };
    Ok(())
}
