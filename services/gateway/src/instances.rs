//! The instances of one service: where each is, whether it answers, and whose turn it is.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, RwLock};
use std::time::Instant;

use axum::http::uri::{Authority, PathAndQuery, Scheme};
use axum::http::{HeaderValue, Uri};

use crate::breaker::Breaker;
use crate::settings::UpstreamSettings;

/// One instance.
pub struct Instance {
    authority: Authority,
    host: HeaderValue,
    /// Whether it says that it can serve.
    ready: bool,
    pub breaker: Breaker,
}

impl Instance {
    /// The same path and query, at this instance.
    pub fn uri(&self, original: &Uri) -> Uri {
        let path = original.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
        let uri = Uri::builder().scheme(Scheme::HTTP).authority(self.authority.clone()).path_and_query(path);
        uri.build().expect("made of valid parts")
    }

    /// The `Host` of requests to this instance.
    pub fn host(&self) -> HeaderValue {
        self.host.clone()
    }
}

/// The instances that are known.
pub struct Instances {
    name: &'static str,
    settings: UpstreamSettings,
    known: RwLock<Arc<[Arc<Instance>]>>,
    turn: AtomicUsize,
}

impl Instances {
    /// None yet.
    pub fn new(name: &'static str, settings: &UpstreamSettings) -> Self {
        Self { name, settings: settings.clone(), known: RwLock::new(Arc::new([])), turn: AtomicUsize::new(0) }
    }

    /// These are the instances from now on, each with whether it is ready. One that stays keeps what is known of it.
    pub fn set(&self, instances: impl IntoIterator<Item = (Authority, bool)>) {
        let before = self.known();
        let instance = |(authority, ready): (Authority, bool)| {
            let known = before.iter().find(|known| known.authority == authority);
            if let Some(known) = known.filter(|known| known.ready == ready) {
                return known.clone();
            }
            if known.is_none() {
                tracing::info!(upstream = self.name, %authority, ready, "an instance of the service is there");
            }
            Arc::new(Instance {
                host: authority.as_str().parse().expect("an authority is a header value"),
                breaker: Breaker::new(self.name, self.settings.failures, self.settings.probe_interval),
                authority,
                ready,
            })
        };
        let now: Arc<[Arc<Instance>]> = instances.into_iter().map(instance).collect();
        for gone in before.iter().filter(|known| !now.iter().any(|other| other.authority == known.authority)) {
            tracing::warn!(upstream = self.name, authority = %gone.authority, "an instance of the service is gone");
        }
        *self.known.write().expect("the instances are never poisoned") = now;
    }

    /// All of them.
    pub fn known(&self) -> Arc<[Arc<Instance>]> {
        self.known.read().expect("the instances are never poisoned").clone()
    }

    /// The one whose turn it is, of those that are ready, else of all; not one of these, which have failed just now, nor one that answers nobody.
    pub fn next(&self, tried: &[Arc<Instance>], now: Instant) -> Option<Arc<Instance>> {
        let known = self.known();
        let turn = if known.len() > 1 { self.turn.fetch_add(1, Relaxed) } else { 0 };
        let any_ready = known.iter().any(|instance| instance.ready);
        let candidates = known.iter().filter(|instance| instance.ready || !any_ready);
        let count = candidates.clone().count();
        (0..count)
            .filter_map(|step| candidates.clone().nth(turn.wrapping_add(step) % count))
            .filter(|instance| !tried.iter().any(|tried| Arc::ptr_eq(tried, instance)))
            .find(|instance| instance.breaker.admits(now))
            .cloned()
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    fn instances(of: &[(&str, bool)]) -> Instances {
        let settings = crate::Settings::parse_from(["waybill-gateway"]);
        let instances = Instances::new("order", &settings.upstream);
        instances.set(of.iter().map(|(authority, ready)| (authority.parse().unwrap(), *ready)));
        instances
    }

    fn turns(instances: &Instances, count: usize) -> Vec<String> {
        let next = |_| instances.next(&[], Instant::now()).map_or_else(String::new, |next| next.authority.to_string());
        let mut turns: Vec<String> = (0..count).map(next).collect();
        turns.sort();
        turns
    }

    #[test]
    fn each_that_is_ready_has_its_turn_and_the_others_only_if_none_is() {
        let some = instances(&[("a:1", true), ("b:1", false), ("c:1", true)]);
        assert_eq!(turns(&some, 4), ["a:1", "a:1", "c:1", "c:1"]);
        assert_eq!(turns(&instances(&[("a:1", false), ("b:1", false)]), 2), ["a:1", "b:1"]);
        assert_eq!(turns(&instances(&[]), 1), [""]);
    }

    #[test]
    fn one_that_failed_is_left_out_and_one_that_stays_keeps_what_is_known_of_it() {
        let some = instances(&[("a:1", true), ("b:1", true)]);
        let first = some.next(&[], Instant::now()).unwrap();
        let second = some.next(std::slice::from_ref(&first), Instant::now()).unwrap();
        assert_ne!(first.authority, second.authority);
        assert!(some.next(&[first.clone(), second], Instant::now()).is_none());
        (0..5).for_each(|_| first.breaker.failed(Instant::now()));
        some.set([(first.authority.clone(), true), ("c:1".parse().unwrap(), true)]);
        assert_eq!(turns(&some, 4), ["c:1"; 4], "its breaker is open still");
    }
}
