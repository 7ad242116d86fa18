//! Who gets a connection: at most so many, at most so many of one client, and a few more for health.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::settings::HttpSettings;

/// Connections beyond the ordinary ones, for health and metrics: an orchestrator that cannot ask a busy service would restart it. Each serves
/// one request and ends soon, so few are enough.
const RESERVE: usize = 64;

/// How many connections each client has.
type Clients = Arc<Mutex<HashMap<IpAddr, usize>>>;

/// The places of all connections.
pub(super) struct Admission {
    ordinary: Arc<Semaphore>,
    reserve: Arc<Semaphore>,
    per_client: usize,
    clients: Clients,
}

/// A connection's place; given back when dropped.
pub(super) struct Place {
    _permit: OwnedSemaphorePermit,
    /// Counted for this client. Not in the reserve.
    client: Option<(IpAddr, Clients)>,
}

impl Place {
    /// Whether only health and metrics are served here.
    pub(super) fn is_reserve(&self) -> bool {
        self.client.is_none()
    }
}

impl Admission {
    pub(super) fn new(settings: &HttpSettings) -> Self {
        let ordinary = settings.http_connections.min(Semaphore::MAX_PERMITS);
        Self {
            ordinary: Arc::new(Semaphore::new(ordinary)),
            reserve: Arc::new(Semaphore::new(RESERVE)),
            per_client: settings.connections_per_client(),
            clients: Arc::default(),
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
        let client = client(peer);
        if let Some(counted) = self.count(client) {
            match self.ordinary.clone().try_acquire_owned() {
                Ok(permit) => return Some(Place { _permit: permit, client: Some(counted) }),
                Err(_) => forget(&counted),
            }
        }
        let permit = self.reserve.clone().try_acquire_owned().ok()?;
        Some(Place { _permit: permit, client: None })
    }

    fn count(&self, client: IpAddr) -> Option<(IpAddr, Clients)> {
        let mut clients = self.clients.lock().expect("never poisoned");
        let open = clients.entry(client).or_default();
        if *open >= self.per_client {
            return None;
        }
        *open += 1;
        Some((client, self.clients.clone()))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(counted) = &self.client {
            forget(counted);
        }
    }
}

fn forget((client, clients): &(IpAddr, Clients)) {
    let mut clients = clients.lock().expect("never poisoned");
    if let Some(open) = clients.get_mut(client) {
        *open -= 1;
        if *open == 0 {
            clients.remove(client);
        }
    }
}

/// Who counts as one client: an address; of IPv6 its network, because each client has 2^64 of its own.
fn client(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        http: HttpSettings,
    }

    fn admission(flags: &[&str]) -> Admission {
        Admission::new(&Command::parse_from([&["test"], flags].concat()).http)
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
        drop(held);
        assert!(admission.clients.lock().unwrap().is_empty());
    }

    #[test]
    fn beyond_all_places_is_the_reserve_and_beyond_that_nothing() {
        let admission = admission(&["--http-connections=2", "--http-connections-per-client=2"]);
        let peer = "192.0.2.1".parse().unwrap();
        let held: Vec<Place> = (0..2 + RESERVE).map(|_| admission.admit(peer).unwrap()).collect();
        assert_eq!(held.iter().filter(|place| place.is_reserve()).count(), RESERVE);
        assert!(admission.admit(peer).is_none());
    }

    #[test]
    fn addresses_of_one_network_are_one_client() {
        let same = |one: &str, other: &str| client(one.parse().unwrap()) == client(other.parse().unwrap());
        assert!(same("2001:db8::1", "2001:db8::ffff:1"));
        assert!(!same("2001:db8::1", "2001:db8:0:1::1"));
        assert!(same("::ffff:192.0.2.1", "192.0.2.1"));
        assert!(!same("192.0.2.1", "192.0.2.2"));
    }
}
