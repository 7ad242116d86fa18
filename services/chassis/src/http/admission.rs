//! Who gets a connection: at most so many, at most so many of one client, and a few more for health.

use std::net::IpAddr;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::client::Client;
use crate::fair_limit::{FairLimit, Permit};
use crate::settings::HttpSettings;

/// Connections beyond the ordinary ones, for health and metrics: an orchestrator that cannot ask a busy service would restart it. Each serves
/// one request and ends soon, so few are enough.
const RESERVE: usize = 64;

/// The places of all connections.
pub(super) struct Admission {
    ordinary: Arc<Semaphore>,
    shares: FairLimit,
    reserve: Arc<Semaphore>,
}

/// A connection's place; given back when dropped.
pub(super) struct Place {
    _permit: OwnedSemaphorePermit,
    /// Of the client's share. Not in the reserve.
    share: Option<Permit>,
}

impl Place {
    /// Whether only health and metrics are served here.
    pub(super) fn is_reserve(&self) -> bool {
        self.share.is_none()
    }
}

impl Admission {
    pub(super) fn new(settings: &HttpSettings) -> Self {
        let ordinary = settings.http_connections.min(Semaphore::MAX_PERMITS);
        Self {
            ordinary: Arc::new(Semaphore::new(ordinary)),
            shares: FairLimit::with_number(ordinary, settings.http_connections_per_client, settings),
            reserve: Arc::new(Semaphore::new(RESERVE)),
        }
    }

    /// Waits until a connection can have a place of some kind. What comes meanwhile waits in the listener's backlog.
    pub(super) async fn room(&self) {
        tokio::select! {
            _ = self.ordinary.acquire() => {}
            _ = self.reserve.acquire() => {}
        }
    }

    /// The place of a new connection; `None`: it is one too many of its client.
    pub(super) fn admit(&self, peer: IpAddr) -> Option<Place> {
        if let Some(share) = self.shares.acquire(Client::direct(peer), 1)
            && let Ok(permit) = self.ordinary.clone().try_acquire_owned()
        {
            return Some(Place { _permit: permit, share: Some(share) });
        }
        let permit = self.reserve.clone().try_acquire_owned().ok()?;
        Some(Place { _permit: permit, share: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admission(flags: &[&str]) -> Admission {
        Admission::new(&HttpSettings::of_flags(flags))
    }

    #[test]
    fn a_client_gets_its_share_and_no_more_and_what_it_gives_back_is_free() {
        let admission = admission(&["--http-connections=8", "--http-connections-per-client=3"]);
        let (one, other) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let mut held: Vec<Place> = (0..3).map(|_| admission.admit(one).unwrap()).collect();
        assert!(held.iter().all(|place| !place.is_reserve()));
        assert!(admission.admit(one).unwrap().is_reserve());
        assert!(!admission.admit(other).unwrap().is_reserve());
        held.pop();
        assert!(!admission.admit(one).unwrap().is_reserve());
    }

    #[test]
    fn beyond_all_places_is_the_reserve_and_beyond_that_nothing() {
        let admission = admission(&["--http-connections=2", "--http-connections-per-client=2"]);
        let peer = "192.0.2.1".parse().unwrap();
        let held: Vec<Place> = (0..2 + RESERVE).map(|_| admission.admit(peer).unwrap()).collect();
        assert_eq!(held.iter().filter(|place| place.is_reserve()).count(), RESERVE);
        assert!(admission.admit(peer).is_none());
    }
}
