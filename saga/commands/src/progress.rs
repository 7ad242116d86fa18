//! Progress on stderr: a bar for a terminal, a line every few seconds for a log.

use std::io::IsTerminal as _;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::output::tell;

/// How often a log gets a line, and at most how often the same trouble is told.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// How far one stage has come.
pub struct Progress {
    stage: &'static str,
    /// `None` where stderr is not a terminal.
    bar: Option<ProgressBar>,
    said: Mutex<Instant>,
    complained: Mutex<Option<Instant>>,
}

impl Progress {
    /// Starts a stage; with a length if it is known how far there is to go.
    pub fn start(stage: &'static str, length: Option<u64>) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let (bar, template) = match length {
                Some(length) => (ProgressBar::new(length), "{prefix:>9} [{wide_bar}] {percent:>3}%  {msg}"),
                None => (ProgressBar::new_spinner(), "{prefix:>9} {spinner} {elapsed}  {msg}"),
            };
            let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
            bar.set_style(style);
            bar.set_prefix(stage);
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
        Self { stage, bar, said: Mutex::new(Instant::now()), complained: Mutex::new(None) }
    }

    /// Where the stage stands.
    pub fn at(&self, position: u64, message: impl FnOnce() -> String) {
        if let Some(bar) = &self.bar {
            bar.set_position(position);
            bar.set_message(message());
        } else if due(&self.said) {
            tell(&format!("{}: {}", self.stage, message()));
        }
    }

    /// Tells something at once.
    pub fn say(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| tell(text)),
            None => tell(text),
        }
    }

    /// Tells of a trouble that many requests have at the same time, now and then.
    pub fn complain(&self, text: impl FnOnce() -> String) {
        let mut last = self.complained.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if last.is_none_or(|last| last.elapsed() >= LINE_EVERY) {
            *last = Some(Instant::now());
            self.say(&text());
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Whether the last line is long enough ago; if so, now is the last one.
fn due(last: &Mutex<Instant>) -> bool {
    let mut last = last.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let due = last.elapsed() >= LINE_EVERY;
    if due {
        *last = Instant::now();
    }
    due
}
