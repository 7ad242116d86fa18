//! The same thing done to many, one after the other, at a pace: with a tally while it runs, to be paused, gone on with and stopped.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use anyhow::Context as _;
use chassis::causes;
use futures_util::{Stream, StreamExt as _, stream};
use serde::Serialize;
use tokio::sync::watch;
use tokio::time::{Interval, MissedTickBehavior, interval};

/// At work at once, so that a pace of hundreds a second does not wait for each answer.
const AT_ONCE: usize = 16;

/// Those not done that are named; all are counted.
const NAMED: usize = 100;

/// The slowest and the quickest pace, a second.
pub const RATES: [f64; 2] = [0.01, 10_000.0];

/// Reads a pace: so many a second.
///
/// # Errors
/// Where it is none, or out of bounds.
pub fn rate(text: &str) -> Result<f64, String> {
    let rate = text.trim().parse::<f64>().ok().filter(|rate| (RATES[0]..=RATES[1]).contains(rate));
    rate.ok_or_else(|| format!("`{text}` is not a number a second from {} to {}", RATES[0], RATES[1]))
}

/// What became of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was done.
    Done,
    /// There was nothing left to do.
    Gone,
    /// It was refused, or failed; why.
    Left(String),
}

/// What is wanted of work under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Wish {
    /// To go on.
    Run,
    /// To wait.
    Pause,
    /// To end after what is under way.
    Stop,
}

/// How far it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Done.
    pub done: u64,
    /// Gone before their turn came.
    pub gone: u64,
    /// Refused, or failed.
    pub left: u64,
    /// The last of these, and why.
    pub why: VecDeque<(String, String)>,
}

impl Tally {
    /// All that had their turn.
    pub fn seen(&self) -> u64 {
        self.done + self.gone + self.left
    }

    fn take(&mut self, name: String, outcome: Outcome) {
        match outcome {
            Outcome::Done => self.done += 1,
            Outcome::Gone => self.gone += 1,
            Outcome::Left(why) => {
                self.left += 1;
                self.why.push_back((name, why));
                if self.why.len() > NAMED {
                    self.why.pop_front();
                }
            }
        }
    }
}

/// Work under way, as whoever watches it has it.
#[derive(Debug)]
pub struct Bulk {
    wish: watch::Sender<Wish>,
    tally: Mutex<Tally>,
    ended: Mutex<Option<Result<(), String>>>,
}

impl Default for Bulk {
    fn default() -> Self {
        Self { wish: watch::Sender::new(Wish::Run), tally: Mutex::default(), ended: Mutex::default() }
    }
}

impl Bulk {
    /// Pauses it, lets it go on, or stops it; what is stopped stays so.
    pub fn wish(&self, wish: Wish) {
        self.wish.send_if_modified(|now| {
            let changes = *now != Wish::Stop && *now != wish;
            if changes {
                *now = wish;
            }
            changes
        });
    }

    /// What is wanted of it.
    pub fn wished(&self) -> Wish {
        *self.wish.borrow()
    }

    /// How far it is.
    pub fn tally(&self) -> Tally {
        lock(&self.tally).clone()
    }

    /// How it ended, if it has.
    pub fn ended(&self) -> Option<Result<(), String>> {
        lock(&self.ended).clone()
    }

    /// Does it with each, at most so many a second. What was done before an error, or a stop, stays done.
    ///
    /// # Errors
    /// Where the next one cannot be found.
    pub async fn run<T: ToString, F: Future<Output = Outcome>>(
        &self,
        items: impl Stream<Item = anyhow::Result<T>>,
        rate: f64,
        act: impl Fn(T) -> F,
    ) -> anyhow::Result<()> {
        let mut pace = interval(Duration::from_secs_f64(1.0 / rate));
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let items = Box::pin(items);
        let paced = stream::unfold((items, pace, self.wish.subscribe()), |(mut items, mut pace, mut wish)| async move {
            let item = items.next().await?;
            if !turn(&mut pace, &mut wish).await {
                return None;
            }
            Some((item, (items, pace, wish)))
        });
        let acted = paced.map(|item| {
            let acting = item.map(|item| (item.to_string(), act(item)));
            async move {
                let (name, acting) = acting?;
                anyhow::Ok((name, acting.await))
            }
        });
        let mut outcomes = std::pin::pin!(acted.buffer_unordered(AT_ONCE));
        let mut result = Ok(());
        while let Some(outcome) = outcomes.next().await {
            match outcome {
                Ok((name, outcome)) => lock(&self.tally).take(name, outcome),
                Err(error) => {
                    result = Err(error).context("the next one cannot be found");
                    break;
                }
            }
        }
        *lock(&self.ended) = Some(result.as_ref().copied().map_err(causes));
        result
    }
}

/// Waits for the next turn; `false`: it is to stop.
async fn turn(pace: &mut Interval, wish: &mut watch::Receiver<Wish>) -> bool {
    loop {
        // Err only where nobody can wish any more.
        let Ok(wished) = wish.wait_for(|wish| *wish != Wish::Pause).await.map(|wished| *wished) else { return true };
        if wished == Wish::Stop {
            return false;
        }
        tokio::select! {
            _ = pace.tick() => return *wish.borrow() != Wish::Stop,
            _ = wish.changed() => {}
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Instant;

    use super::*;

    fn items(count: u64) -> impl Stream<Item = anyhow::Result<u64>> + Send {
        stream::iter((1..=count).map(Ok))
    }

    #[tokio::test]
    async fn it_keeps_the_pace_and_counts_what_became_of_each() {
        let (bulk, began) = (Bulk::default(), Instant::now());
        let act = |item: u64| {
            std::future::ready(match item % 3 {
                0 => Outcome::Left(format!("{item} no")),
                1 => Outcome::Done,
                _ => Outcome::Gone,
            })
        };
        bulk.run(items(600), 1_000.0, act).await.unwrap();
        let tally = bulk.tally();
        assert_eq!((tally.done, tally.gone, tally.left, tally.why.len()), (200, 200, 200, NAMED));
        assert_eq!(tally.why.back().unwrap(), &("600".to_owned(), "600 no".to_owned()));
        assert!(began.elapsed() >= Duration::from_millis(590), "{:?}", began.elapsed());
        assert_eq!(bulk.ended(), Some(Ok(())));
    }

    #[tokio::test]
    async fn it_waits_while_it_is_paused_and_ends_when_it_is_stopped() {
        let bulk = Arc::new(Bulk::default());
        bulk.wish(Wish::Pause);
        let work = bulk.clone();
        let running = tokio::spawn(async move { work.run(items(1_000_000), 1_000.0, |_: u64| async { Outcome::Done }).await });
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!((bulk.tally().done, bulk.ended()), (0, None));
        bulk.wish(Wish::Run);
        let deadline = Instant::now() + Duration::from_secs(20);
        while bulk.tally().done == 0 && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        bulk.wish(Wish::Stop);
        running.await.unwrap().unwrap();
        assert!((1..1_000_000).contains(&bulk.tally().done), "{:?}", bulk.tally());
        bulk.wish(Wish::Run);
        assert_eq!(bulk.wished(), Wish::Stop, "what is stopped stays so");
    }

    #[tokio::test]
    async fn what_cannot_be_found_ends_it_and_what_was_done_stays_done() {
        let bulk = Bulk::default();
        let broken = stream::iter([Ok(1), Ok(2), Err(anyhow::anyhow!("the service is away"))]);
        let error = bulk.run(broken, RATES[1], |_: u64| async { Outcome::Done }).await.unwrap_err();
        assert!(causes(&error).contains("the service is away"));
        assert_eq!((bulk.tally().done, bulk.ended().unwrap().is_err()), (2, true));
    }

    #[test]
    fn a_pace_has_bounds() {
        assert_eq!((rate("50"), rate(" 0.5 ")), (Ok(50.0), Ok(0.5)));
        for wrong in ["", "0", "-1", "NaN", "inf", "1e9", "ten"] {
            assert!(rate(wrong).is_err(), "{wrong}");
        }
    }
}
