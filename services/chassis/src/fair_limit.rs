//! A bounded room in which nobody takes the others' places: connections, streams, memory, queues.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use crate::client::Client;
use crate::settings::HttpSettings;

/// A bounded room, so many places in all. Each client gets at most its share of what the others leave, so there is always something left for
/// one more: one client gets three quarters of the room, two get three sevenths each, and a seventh is free.
///
/// Whoever comes through a trusted proxy has a share of that proxy's share.
#[derive(Clone)]
pub struct FairLimit(Arc<Limit>);

struct Limit {
    total: usize,
    /// In percent of what others leave.
    share: usize,
    /// In places, whatever others leave.
    at_most: usize,
    held: Mutex<Held>,
}

/// How many places are held, in all and by whom.
#[derive(Default)]
struct Held {
    count: usize,
    by: HashMap<IpAddr, Held>,
}

/// Places in a room; given back when dropped.
pub struct Permit {
    limit: Arc<Limit>,
    client: Client,
    count: usize,
}

impl FairLimit {
    /// A room of which one client gets the usual share.
    pub fn new(total: usize, settings: &HttpSettings) -> Self {
        Self(Arc::new(Limit { total, share: settings.http_client_share.into(), at_most: usize::MAX, held: Mutex::default() }))
    }

    /// A room of which one client gets so many places, if a number is given.
    pub(crate) fn with_number(total: usize, number: Option<usize>, settings: &HttpSettings) -> Self {
        let Some(at_most) = number else { return Self::new(total, settings) };
        Self(Arc::new(Limit { total, share: 100, at_most, held: Mutex::default() }))
    }

    /// Takes so many places; `None`: there are not so many, or it is more than the client's share.
    pub fn acquire(&self, client: Client, count: usize) -> Option<Permit> {
        self.0.take(client, count).then(|| Permit { limit: self.0.clone(), client, count })
    }
}

impl Permit {
    /// Takes more places; false: the same as [`FairLimit::acquire`].
    pub fn grow(&mut self, count: usize) -> bool {
        let grows = self.limit.take(self.client, count);
        self.count += if grows { count } else { 0 };
        grows
    }

    /// How many places these are.
    pub fn count(&self) -> usize {
        self.count
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.limit.held.lock().expect("never poisoned").remove(self.client.path(), self.count);
    }
}

impl Limit {
    fn take(&self, client: Client, count: usize) -> bool {
        let mut all = self.held.lock().expect("never poisoned");
        let (mut room, mut held) = (self.total, Some(&*all));
        for address in client.path() {
            let inside = held.map_or(0, |held| held.count);
            held = held.and_then(|held| held.by.get(address));
            let others = inside - held.map_or(0, |held| held.count);
            let left = room.saturating_sub(others);
            // The first place is given while there is one.
            room = (left * self.share / 100).max(left.min(1)).min(self.at_most);
        }
        let fits = held.map_or(0, |held| held.count) + count <= room;
        if fits {
            all.add(client.path(), count);
        }
        fits
    }
}

impl Held {
    fn add(&mut self, path: &[IpAddr], count: usize) {
        self.count += count;
        if let [first, rest @ ..] = path {
            self.by.entry(*first).or_default().add(rest, count);
        }
    }

    fn remove(&mut self, path: &[IpAddr], count: usize) {
        self.count -= count;
        if let [first, rest @ ..] = path
            && let Some(inner) = self.by.get_mut(first)
        {
            inner.remove(rest, count);
            if inner.count == 0 {
                self.by.remove(first);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use axum::http::HeaderMap;

    use super::*;

    fn settings(flags: &[&str]) -> HttpSettings {
        HttpSettings::of_flags(flags)
    }

    fn direct(number: u8) -> Client {
        Client::direct([192, 0, 2, number].into())
    }

    /// One that came through a gateway on this machine.
    fn through(number: u8) -> Client {
        let headers = [("x-forwarded-for".parse().unwrap(), format!("192.0.2.{number}").parse().unwrap())].into_iter().collect();
        Client::of(SocketAddr::new([127, 0, 0, 1].into(), 1), &headers, &"127.0.0.0/8".parse().unwrap())
    }

    /// As many places as the client can get.
    fn fill(limit: &FairLimit, client: Client) -> Vec<Permit> {
        std::iter::from_fn(|| limit.acquire(client, 1)).collect()
    }

    #[test]
    fn one_client_gets_three_quarters_and_everybody_a_share_of_what_others_leave() {
        let limit = FairLimit::new(1024, &settings(&[]));
        let held: Vec<Vec<Permit>> = (1..=4).map(|number| fill(&limit, direct(number))).collect();
        assert_eq!(held.iter().map(Vec::len).collect::<Vec<_>>(), [768, 192, 48, 12]);
        let mut held = held;
        held.remove(0);
        let again = fill(&limit, direct(1));
        assert_eq!(again.len(), (1024 - 252) * 3 / 4);
        drop((held, again));
        assert!(limit.0.held.lock().unwrap().by.is_empty() && limit.0.held.lock().unwrap().count == 0);
    }

    #[test]
    fn a_small_room_is_nobodys_alone_and_a_room_of_one_is_used() {
        let fills = |total: usize| fill(&FairLimit::new(total, &settings(&[])), direct(1)).len();
        assert_eq!([1, 2, 3, 4, 40].map(fills), [1, 1, 2, 3, 30]);
    }

    #[test]
    fn a_client_of_a_proxy_has_a_share_of_the_proxys_share() {
        let limit = FairLimit::new(1024, &settings(&[]));
        let one = fill(&limit, through(1));
        let other = fill(&limit, through(2));
        assert_eq!((one.len(), other.len()), (576, 144));
        // However many addresses are invented behind it, all of them together have the share of one.
        let invented: usize = (3..=255).map(|number| fill(&limit, through(number)).leak().len()).sum();
        assert!(one.len() + other.len() + invented <= 768);
        assert_eq!(fill(&limit, direct(9)).len(), (1024 - one.len() - other.len() - invented) * 3 / 4);
    }

    #[test]
    fn the_share_is_a_setting_and_a_number_goes_before_it() {
        let number = |share: &str, at_most| {
            let limit = FairLimit::with_number(100, at_most, &settings(&["--http-client-share", share]));
            fill(&limit, direct(1)).len()
        };
        assert_eq!((number("50", None), number("100", None), number("50", Some(80)), number("75", Some(3))), (50, 100, 80, 3));
    }

    #[test]
    fn a_permit_grows_within_the_share_and_gives_everything_back() {
        let limit = FairLimit::new(100, &settings(&[]));
        let mut permit = limit.acquire(direct(1), 50).unwrap();
        assert!(permit.grow(25) && !permit.grow(1));
        assert_eq!(permit.count(), 75);
        assert!(limit.acquire(direct(2), 19).is_none());
        drop(permit);
        assert!(
            limit
                .acquire(Client::of(SocketAddr::new([1, 1, 1, 1].into(), 1), &HeaderMap::new(), &"none".parse().unwrap()), 75)
                .is_some()
        );
    }
}
