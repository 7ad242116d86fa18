//! Logs: JSON lines for machines, text for a terminal. JSON escapes what came from outside, so no request can forge a line.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// Starts logging to stderr. `RUST_LOG` filters, else `default` does (`info`, say); `WAYBILL_LOG` is `json` or `text` (default: text on a terminal).
pub fn init(default: &str) {
    let filter =
        EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(format!("{default},sqlx=warn,async_nats=error")));
    let text = match std::env::var("WAYBILL_LOG").as_deref() {
        Ok("text") => true,
        Ok("json") => false,
        _ => std::io::stderr().is_terminal(),
    };
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A second start (services side by side in one process, tests) keeps the first.
    let _ = if text { subscriber.try_init() } else { subscriber.json().flatten_event(true).try_init() };
}
