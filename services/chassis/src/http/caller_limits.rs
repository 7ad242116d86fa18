//! What one caller may ask for: so many requests a second, so many live streams.

use std::collections::HashMap;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

use crate::client::Client;
use crate::http::{Caller, Problem};
use crate::settings::CallerSettings;

/// After how many requests those are forgotten who have asked nothing lately: their addresses would fill the memory.
const FORGET_EVERY: usize = 4096;

/// When one who has too many streams should come again.
const STREAMS_AGAIN: Duration = Duration::from_secs(5);

/// Who is limited: the subject of a token, or, where nobody asks for one, whoever asks from an address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Key {
    Address(IpAddr),
    Subject(String),
}

impl Key {
    pub(super) fn of(caller: &Caller, client: Client) -> Self {
        let address = || Self::Address(client.address());
        caller.subject().map_or_else(address, |subject| Self::Subject(subject.to_owned()))
    }
}

/// The limits of each caller.
pub(super) struct CallerLimits {
    requests: Option<DefaultKeyedRateLimiter<Key>>,
    clock: DefaultClock,
    checked: AtomicUsize,
    streams: Option<Arc<Streams>>,
}

/// The live streams that are open.
struct Streams {
    each: u32,
    open: Mutex<HashMap<Key, u32>>,
}

/// A caller's place for a stream; given back when dropped.
pub(super) struct StreamOf {
    streams: Arc<Streams>,
    key: Key,
}

impl CallerLimits {
    pub(super) fn new(settings: CallerSettings) -> Self {
        let rate = settings.rate_per_second.and_then(NonZeroU32::new);
        let burst = settings.rate_burst.and_then(NonZeroU32::new);
        let quota = rate.map(|rate| Quota::per_second(rate).allow_burst(burst.unwrap_or(rate)));
        let streams = settings.streams_per_subject.map(|each| Arc::new(Streams { each, open: Mutex::default() }));
        Self { requests: quota.map(RateLimiter::keyed), clock: DefaultClock::default(), checked: AtomicUsize::new(0), streams }
    }

    /// Whether a caller may ask now. The key is made only where there is a limit.
    pub(super) fn check(&self, key: impl FnOnce() -> Key) -> Result<(), TooMany> {
        let Some(requests) = &self.requests else { return Ok(()) };
        let checked = requests.check_key(&key());
        if self.checked.fetch_add(1, Relaxed).is_multiple_of(FORGET_EVERY) {
            requests.retain_recent();
        }
        checked.map_err(|until| TooMany {
            detail: "a caller may not ask more often; WAYBILL_RATE_PER_SECOND says how often",
            wait: until.wait_time_from(self.clock.now()),
        })
    }

    /// A place for one more stream of a caller; `None` where there is no limit.
    pub(super) fn stream(&self, key: impl FnOnce() -> Key) -> Result<Option<StreamOf>, TooMany> {
        let Some(streams) = &self.streams else { return Ok(None) };
        let key = key();
        let mut open = streams.open.lock().expect("never poisoned");
        let count = open.entry(key.clone()).or_default();
        if *count >= streams.each {
            return Err(TooMany {
                detail: "a caller may not have more live streams; WAYBILL_STREAMS_PER_SUBJECT says how many",
                wait: STREAMS_AGAIN,
            });
        }
        *count += 1;
        Ok(Some(StreamOf { streams: streams.clone(), key }))
    }
}

impl Drop for StreamOf {
    fn drop(&mut self) {
        let mut open = self.streams.open.lock().expect("never poisoned");
        if let Some(count) = open.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.key);
            }
        }
    }
}

/// 429: what is too much, and after which time it is worth asking again.
#[derive(Debug)]
pub(super) struct TooMany {
    detail: &'static str,
    wait: Duration,
}

impl IntoResponse for TooMany {
    fn into_response(self) -> Response {
        let seconds = self.wait.as_secs() + u64::from(self.wait.subsec_nanos() > 0);
        let mut response = Problem::too_many_requests(self.detail).into_response();
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(rate: Option<u32>, burst: Option<u32>, streams: Option<u32>) -> CallerLimits {
        CallerLimits::new(CallerSettings { rate_per_second: rate, rate_burst: burst, streams_per_subject: streams })
    }

    fn from(last: u8) -> impl Fn() -> Key {
        move || Key::Address([192, 0, 2, last].into())
    }

    #[test]
    fn each_caller_has_a_rate_of_its_own_and_is_told_when_to_come_again() {
        let limits = limits(Some(1), Some(3), None);
        assert!((0..3).all(|_| limits.check(from(1)).is_ok()));
        let refused = limits.check(from(1)).unwrap_err().into_response();
        assert_eq!((refused.status().as_u16(), refused.headers()["retry-after"].to_str().unwrap()), (429, "1"));
        assert!(limits.check(from(2)).is_ok());
    }

    #[test]
    fn nobody_is_limited_unless_it_is_set() {
        let limits = limits(None, Some(1), None);
        assert!((0..100).all(|_| limits.check(|| unreachable!()).is_ok() && limits.stream(|| unreachable!()).is_ok()));
    }

    #[test]
    fn a_stream_that_ends_makes_room_for_another_of_its_caller() {
        let limits = limits(None, None, Some(2));
        let first = limits.stream(from(1)).ok().flatten();
        let _second = limits.stream(from(1)).ok().flatten();
        assert_eq!(limits.stream(from(1)).err().unwrap().into_response().status(), 429);
        assert!(limits.stream(from(2)).is_ok());
        drop(first);
        assert!(limits.stream(from(1)).is_ok_and(|place| place.is_some()));
    }
}
