//! Those who wait for a saga to move: clients of `Prefer: wait`, and live streams.
//!
//! What this instance commits wakes them. For what another instance did, one task asks for all of them where their sagas stand, many in one
//! statement, and wakes those whose saga stands elsewhere. Only who is woken reads: thousands may wait for sagas that rest.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use chassis::database::Database;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::saga::Saga;
use crate::store::Store;

/// How often some are asked for: the longest that few who wait learn late of what another instance did.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Sagas asked for at once, a fraction of a millisecond's work each hundred. Ten thousand come round in two and a half seconds.
const LOOK_MAX: usize = 1_000;

/// How long one look may take before the next is tried.
const LOOK_WITHIN: Duration = Duration::from_secs(5);

/// Those who wait, by saga.
#[derive(Clone, Default)]
pub struct Waiters(Arc<Mutex<BTreeMap<Uuid, Watched>>>);

/// A saga for which somebody waits.
#[derive(Default)]
struct Watched {
    /// The last sequence that anybody here knows of.
    sequence: watch::Sender<u32>,
    subscriptions: usize,
}

/// A place among those who wait; leaves when dropped.
pub struct Subscription {
    waiters: Waiters,
    saga: Uuid,
    sequence: watch::Receiver<u32>,
    /// How far this one has seen the saga come.
    seen: u32,
}

impl Waiters {
    /// Takes a place. Take it before looking at the saga, or what another instance does next may be learned of late.
    pub fn join(&self, saga: Uuid) -> Subscription {
        let mut sagas = self.lock();
        let watched = sagas.entry(saga).or_default();
        watched.subscriptions += 1;
        Subscription { waiters: self.clone(), saga, sequence: watched.sequence.subscribe(), seen: 0 }
    }

    /// A saga has come this far: wakes whoever waits for it and has not seen that.
    pub fn moved(&self, saga: Uuid, sequence: u32) {
        if let Some(watched) = self.lock().get(&saga) {
            watched.sequence.send_if_modified(|known| {
                let is_news = *known < sequence;
                *known = sequence.max(*known);
                is_news
            });
        }
    }

    /// Looks for what other instances did, until shutdown.
    pub async fn look<S: Saga>(self, store: Store<S>, database: Database, shutdown: CancellationToken) {
        let mut last = None;
        loop {
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => {}
                () = shutdown.cancelled() => return,
            }
            let sagas = self.after(last);
            last = sagas.last().copied().filter(|_| sagas.len() == LOOK_MAX);
            if sagas.is_empty() {
                continue;
            }
            let database = database.clone();
            // Spawned, because a database future must never be dropped half way.
            let look = tokio::spawn(async move {
                let sagas = &sagas;
                database.read(|mut db| async move { store.sequences(&mut db, sagas).await }).await
            });
            match tokio::time::timeout(LOOK_WITHIN, look).await {
                Ok(Ok(Ok(found))) => found.into_iter().for_each(|(saga, sequence)| self.moved(saga, sequence)),
                Ok(Ok(Err(error))) => tracing::debug!(%error, "nobody sees what other instances do"),
                Ok(Err(_)) => return, // The runtime is going down.
                Err(_) => tracing::debug!("nobody sees what other instances do: the database does not answer"),
            }
        }
    }

    /// The next sagas for which somebody waits, in turn.
    fn after(&self, last: Option<Uuid>) -> Vec<Uuid> {
        let from = last.map_or(Bound::Unbounded, Bound::Excluded);
        self.lock().range((from, Bound::Unbounded)).take(LOOK_MAX).map(|(saga, _)| *saga).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Uuid, Watched>> {
        self.0.lock().expect("the map is never poisoned")
    }
}

impl Subscription {
    /// The saga was read, and had come this far.
    pub fn saw(&mut self, sequence: u32) {
        self.seen = sequence.max(self.seen);
        self.waiters.moved(self.saga, sequence);
    }

    /// Waits until the saga has come further than was seen here.
    pub async fn moved(&mut self) {
        let seen = self.seen;
        let known = self.sequence.wait_for(|known| *known > seen).await.map(|known| *known);
        match known {
            Ok(known) => self.seen = known,
            // The sender lives as long as this place.
            Err(_) => std::future::pending().await,
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        if let Entry::Occupied(mut watched) = self.waiters.lock().entry(self.saga) {
            watched.get_mut().subscriptions -= 1;
            if watched.get().subscriptions == 0 {
                watched.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use uuid::Uuid;

    use super::*;

    fn saga(number: u128) -> Uuid {
        Uuid::from_u128(number)
    }

    #[test]
    fn who_waits_is_woken_once_for_each_move_whoever_saw_it_first() {
        let waiting = Waiters::default();
        let (mut one, mut other) = (waiting.join(saga(1)), waiting.join(saga(1)));
        waiting.moved(saga(2), 9);
        assert!(one.moved().now_or_never().is_none());
        one.saw(2);
        assert!(one.moved().now_or_never().is_none(), "it was there");
        assert!(other.moved().now_or_never().is_some(), "it may have looked a moment earlier");
        for (sequence, is_news) in [(2, false), (1, false), (3, true)] {
            waiting.moved(saga(1), sequence);
            assert_eq!(one.moved().now_or_never().is_some(), is_news, "{sequence}");
            assert_eq!(other.moved().now_or_never().is_some(), is_news, "{sequence}");
        }
        assert!(waiting.join(saga(1)).moved().now_or_never().is_some(), "who comes later knows it too");
    }

    #[test]
    fn all_come_round_in_turn_and_who_leaves_is_forgotten() {
        let waiting = Waiters::default();
        let places: Vec<Subscription> = (0..LOOK_MAX as u128 + 3).map(|number| waiting.join(saga(number))).collect();
        let first = waiting.after(None);
        assert_eq!(first.len(), LOOK_MAX);
        assert_eq!(waiting.after(first.last().copied()).len(), 3);
        let again = waiting.join(saga(0));
        drop(places);
        assert_eq!(waiting.after(None), [saga(0)]);
        drop(again);
        assert!(waiting.after(None).is_empty());
    }
}
