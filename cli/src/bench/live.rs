//! Progress on stderr while a run goes on: a bar for a terminal, now and then a line for a log.

use std::io::IsTerminal as _;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use saga_commands::output::tell;

use super::tally::Window;

/// How often a log gets a line.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// The progress of one run.
#[derive(Debug)]
pub struct Live {
    bar: Option<ProgressBar>,
    begin: Instant,
    window: Window,
    last: Mutex<(Instant, u64)>,
}

impl Live {
    /// Starts with the run.
    pub fn start(begin: Instant, window: Window) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let length = window.end.saturating_duration_since(begin).as_millis();
            let bar = ProgressBar::new(u64::try_from(length).unwrap_or(u64::MAX));
            let style = ProgressStyle::with_template("{prefix:>9} [{wide_bar}] {msg}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar
        });
        Self { bar, begin, window, last: Mutex::new((begin, 0)) }
    }

    /// So many orders have become final since the beginning.
    pub fn show(&self, finals: u64) {
        let now = Instant::now();
        let mut last = self.last.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let passed = now.saturating_duration_since(last.0);
        if self.bar.is_none() && passed < LINE_EVERY {
            return;
        }
        let rate = (finals - last.1) as f64 / passed.as_secs_f64().max(1e-3);
        *last = (now, finals);
        let stage = match now {
            now if now < self.window.start => "warm-up",
            now if now < self.window.end => "measuring",
            _ => "finishing",
        };
        match &self.bar {
            Some(bar) => {
                bar.set_prefix(stage);
                bar.set_position(now.saturating_duration_since(self.begin).as_millis().try_into().unwrap_or(u64::MAX));
                bar.set_message(format!("{finals} orders, {rate:.0}/s"));
            }
            None => tell(&format!("{stage}: {finals} orders, {rate:.0}/s")),
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
