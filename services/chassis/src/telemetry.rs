//! Logs: JSON lines for machines, text for a terminal. JSON escapes what came from outside, so no request can forge a line.

use std::io::IsTerminal;

use anyhow::{Context as _, bail};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::MakeExt as _;
use tracing_subscriber::fmt::format;

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
    // Each field on its line, whatever it holds: what comes from outside can neither forge a line nor steer the terminal.
    let fields = format::debug_fn(|writer, field, value| match field.name() {
        "message" => write!(writer, "{}", visible(&format!("{value:?}"))),
        name => write!(writer, "{name}={}", visible(&format!("{value:?}"))),
    });
    let subscriber =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal());
    // A second start (services side by side in one process, tests) keeps the first.
    let _ = if text {
        subscriber.fmt_fields(fields.delimited(" ")).try_init()
    } else {
        subscriber.json().flatten_event(true).try_init()
    };
    Ok(())
}

/// The text with what does not show written out: `\u{1b}`, `\n`.
fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = 0;
    for (at, c) in envelope::hidden(text) {
        shown += &text[rest..at];
        shown.extend(c.escape_default());
        rest = at + c.len_utf8();
    }
    shown + &text[rest..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_from_outside_stays_on_its_line() {
        assert_eq!(visible("a\u{1b}[2Jb\nINFO forged\u{202e}\u{9b}"), "a\\u{1b}[2Jb\\nINFO forged\\u{202e}\\u{9b}");
        assert_eq!(visible("Größe 界"), "Größe 界");
    }
}
