//! A server that exits by itself is started again, with its data and on its port.

use std::future::Future;
use std::time::{Duration, Instant};

use crate::process::Slot;

/// How often an exit is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// A server that has run for so long has not crashed because of how it was started.
const STEADY: Duration = Duration::from_secs(60);
/// The pauses of a server that crashes again and again: none, then doubling from the first to the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Starts the server again whenever it exits, for ever. `say` is told each time, in one line.
pub(crate) async fn keep<F: Future<Output = anyhow::Result<()>>>(
    name: &str,
    process: &Slot,
    start: impl Fn() -> F,
    say: &impl Fn(&str),
) {
    let (mut crashes, mut started) = (0_u32, Instant::now());
    loop {
        let Some(exit) = process.exit() else {
            tokio::time::sleep(LOOK_EVERY).await;
            continue;
        };
        crashes = if started.elapsed() < STEADY { crashes.saturating_add(1) } else { 1 };
        let (pid, status, pause) = (exit.pid, exit.status, pause(crashes));
        if !pause.is_zero() {
            let (seconds, log, last) = (pause.as_secs(), exit.log.display(), exit.last_line);
            say(&format!(
                "{name} keeps ending ({status}, {crashes} times): the next start is in {seconds} s; {log} ends with: {last}"
            ));
            tokio::time::sleep(pause).await;
        }
        started = Instant::now();
        let begun = start().await;
        match (begun, process.with(|process| process.pid())) {
            (Ok(()), Ok(again)) => {
                say(&format!("{name} (process {pid}) ended ({status}); it runs again as process {again}, with its data"))
            }
            // What it said before it exited is told when its exit is found.
            _ if process.exit().is_some() => {}
            (Err(error), _) => {
                say(&format!("{name} (process {pid}) ended ({status}) and does not start again: {}", first_line(&error)))
            }
            (Ok(()), Err(_)) => {}
        }
    }
}

fn pause(crashes: u32) -> Duration {
    match crashes {
        0 | 1 => Duration::ZERO,
        more => FIRST_PAUSE.saturating_mul(1 << (more - 2).min(10)).min(LONGEST_PAUSE),
    }
}

fn first_line(error: &anyhow::Error) -> String {
    format!("{error:#}").lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_crash_costs_no_pause_and_many_cost_half_a_minute_each() {
        let seconds: Vec<u64> = (1..=8).map(|crashes| pause(crashes).as_secs()).collect();
        assert_eq!(seconds, [0, 1, 2, 4, 8, 16, 30, 30]);
        assert_eq!(pause(u32::MAX), LONGEST_PAUSE);
    }
}
