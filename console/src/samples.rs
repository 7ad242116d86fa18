//! What the services say of themselves, asked every few seconds and remembered for some minutes: for the overview.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use chassis::broker::Broker;
use futures_util::future::join_all;
use reqwest::{Client, Url};
use saga::Exportable as _;
use saga_commands::{CommandLine, broker, instances};
use serde::Deserialize;
use tokio::time::Instant;

use crate::metrics::{Buckets, series};

/// How often is asked. A look costs a service less than a millisecond.
const EVERY: Duration = Duration::from_secs(3);

/// How often is asked who is there.
const WHO_EVERY: Duration = Duration::from_secs(12);

/// A service that says nothing for so long is not there.
const PATIENCE: Duration = Duration::from_secs(2);

/// Samples that are remembered: ten minutes.
pub const KEPT: usize = 200;

/// Over so many samples rates and quantiles are: half a minute.
const OVER: usize = 10;

/// One look at everything.
#[derive(Clone, Debug)]
pub struct Sample {
    at: Instant,
    /// Sagas that came to an end since their service began, by status; `None`: it did not answer.
    ended: Option<BTreeMap<String, f64>>,
    seconds: Buckets,
    /// Sagas in flight.
    pub in_flight: Option<f64>,
    /// Those of them that have waited too long.
    pub stuck: Option<f64>,
    /// Dead letters that are kept.
    pub letters: Option<f64>,
}

/// A service at an address.
#[derive(Clone, Debug)]
pub struct Place {
    /// `order`.
    pub service: String,
    /// Where.
    pub address: String,
    /// Of its build, if it says so.
    pub version: String,
    /// Whether it can serve; `None`: it does not answer.
    pub ready: Option<bool>,
    /// What is wrong with it, or worth knowing.
    pub says: Vec<String>,
    /// The rows of its outbox, and how old the oldest is, in seconds.
    pub outbox: Option<(f64, f64)>,
}

/// What is remembered.
#[derive(Debug, Default)]
pub struct Samples {
    kept: RwLock<Kept>,
}

#[derive(Clone, Debug, Default)]
struct Kept {
    ring: VecDeque<Sample>,
    places: Vec<Place>,
}

/// What `/readyz` answers.
#[derive(Deserialize)]
struct Readiness {
    ready: bool,
    checks: BTreeMap<String, String>,
    #[serde(default)]
    notes: BTreeMap<String, String>,
}

impl Samples {
    /// Looks until it is dropped. `known`: services that are there, whether or not they answer on the broker.
    pub async fn keep<C: CommandLine>(self: Arc<Self>, known: Vec<(String, Url)>, broker: Option<Broker>) {
        let http = Client::builder().timeout(PATIENCE).no_proxy().build().unwrap_or_default();
        let (mut places, mut asked) = (Vec::new(), None::<Instant>);
        loop {
            if asked.is_none_or(|asked| asked.elapsed() >= WHO_EVERY) {
                places = with_gone(who(&known, C::SERVICES, broker.as_ref()).await, places);
                asked = Some(Instant::now());
            }
            let looks = join_all(places.iter().map(|place| look(&http, place))).await;
            let letters = match &broker {
                Some(broker) => letters(broker).await,
                None => None,
            };
            self.take(C::Saga::NAME, looks, letters);
            tokio::time::sleep(EVERY).await;
        }
    }

    fn take(&self, kind: &str, looks: Vec<(Place, String)>, letters: Option<f64>) {
        let own: Vec<&str> = looks
            .iter()
            .filter(|(place, text)| place.service == kind && !text.is_empty())
            .map(|(_, text)| text.as_str())
            .collect();
        let largest = |name: &str| own.iter().flat_map(|text| series(text, name)).map(|(_, value)| value).reduce(f64::max);
        let (mut ended, mut seconds) = (BTreeMap::<String, f64>::new(), Buckets::default());
        for text in &own {
            for (labels, value) in series(text, &format!("waybill_{kind}s_ended_total")) {
                *ended.entry(labels.get("status").unwrap_or_default().to_owned()).or_default() += value;
            }
            seconds.add(&Buckets::read(text, "waybill_saga_seconds"));
        }
        let sample = Sample {
            at: Instant::now(),
            ended: (!own.is_empty()).then_some(ended),
            seconds,
            in_flight: largest("waybill_sagas_in_flight"),
            stuck: largest("waybill_sagas_stuck"),
            letters,
        };
        let mut kept = self.kept.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        kept.ring.push_back(sample);
        if kept.ring.len() > KEPT {
            kept.ring.pop_front();
        }
        kept.places = looks.into_iter().map(|(place, _)| place).collect();
    }

    /// Every service that is known.
    pub fn places(&self) -> Vec<Place> {
        self.read().places
    }

    /// All samples, the oldest first.
    pub fn all(&self) -> Vec<Sample> {
        self.read().ring.into()
    }

    /// How many were stuck at the last look, and how many dead letters were kept.
    pub fn waiting(&self) -> [Option<f64>; 2] {
        let kept = self.kept.read().unwrap_or_else(|poisoned| poisoned.into_inner());
        kept.ring.back().map_or([None, None], |last| [last.stuck, last.letters])
    }

    fn read(&self) -> Kept {
        self.kept.read().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }
}

impl Sample {
    /// Whether the service that runs the sagas answered.
    pub fn answered(&self) -> bool {
        self.ended.is_some()
    }
}

/// The sample before which rates are told at this place.
fn before(samples: &[Sample], at: usize) -> Option<&Sample> {
    samples[at.saturating_sub(OVER)..at].iter().find(|sample| sample.ended.is_some())
}

/// How many came to an end a second, by status.
pub fn rates(samples: &[Sample], at: usize) -> Option<BTreeMap<String, f64>> {
    let (now, then) = (samples.get(at)?, before(samples, at)?);
    let seconds = (now.at - then.at).as_secs_f64();
    let (now, then) = (now.ended.as_ref()?, then.ended.as_ref()?);
    let rate = |(status, count): (&String, &f64)| {
        let before = then.get(status).copied().unwrap_or_default();
        // A service that was begun anew counts from nothing.
        let grown = if *count >= before { count - before } else { *count };
        (status.clone(), grown / seconds)
    };
    Some(now.iter().map(rate).collect())
}

/// Seconds that this share of those that came to an end took at most.
pub fn quantile(samples: &[Sample], at: usize, share: f64) -> Option<f64> {
    samples.get(at)?.seconds.since(&before(samples, at)?.seconds).quantile(share)
}

/// Who is there: what is known, and whoever answers on the broker. One of `services` of which nobody does has a place without an address.
async fn who(known: &[(String, Url)], services: &[&str], broker: Option<&Broker>) -> Vec<Place> {
    let place = |service: String, address: String, version: String| Place {
        service,
        address: address.replace("localhost", "127.0.0.1"),
        version,
        ready: None,
        says: Vec::new(),
        outbox: None,
    };
    let address =
        |url: &Url| format!("{}:{}", url.host_str().unwrap_or_default(), url.port_or_known_default().unwrap_or_default());
    let found = match broker {
        Some(broker) if broker.is_connected() => instances::found(broker.client()).await.ok(),
        _ => None,
    };
    let missed = if found.is_some() { services } else { &[] };
    let found = found.unwrap_or_default().into_iter();
    let mut places: Vec<Place> = found.map(|instance| place(instance.service, instance.address, instance.version)).collect();
    for (service, url) in known {
        let known = place(service.clone(), address(url), String::new());
        if places.iter().all(|place| place.address != known.address) {
            places.push(known);
        }
    }
    for service in missed {
        if places.iter().all(|place| place.service != *service) {
            places.push(place((*service).to_owned(), String::new(), String::new()));
        }
    }
    places.sort_by(|one, other| (&one.service, &one.address).cmp(&(&other.service, &other.address)));
    places
}

/// Those that are there, and those that were, of services of which nobody is there any more: what is gone is what somebody looks for.
fn with_gone(mut found: Vec<Place>, before: Vec<Place>) -> Vec<Place> {
    let is_there = |place: &Place| found.iter().any(|other| other.service == place.service && !other.address.is_empty());
    let gone: Vec<Place> = before.into_iter().filter(|place| !place.address.is_empty() && !is_there(place)).collect();
    // Where it was says more than that it is missed.
    found.retain(|place| !place.address.is_empty() || gone.iter().all(|other| other.service != place.service));
    found.extend(gone);
    found.sort_by(|one, other| (&one.service, &one.address).cmp(&(&other.service, &other.address)));
    found
}

/// A service with what it says, and its metrics; empty where it does not answer.
async fn look(http: &Client, place: &Place) -> (Place, String) {
    if place.address.is_empty() {
        let says = vec!["nobody answers on the broker".to_owned()];
        return (Place { says, ..place.clone() }, String::new());
    }
    let (readiness, metrics) = tokio::join!(ask(http, place, "/readyz"), ask(http, place, "/metrics"));
    let mut place = Place { ready: None, says: Vec::new(), outbox: None, ..place.clone() };
    if let Some(readiness) = readiness.and_then(|text| serde_json::from_str::<Readiness>(&text).ok()) {
        place.ready = Some(readiness.ready);
        let wrong = readiness.checks.into_iter().filter(|(_, state)| state != "ok");
        place.says = wrong.chain(readiness.notes).map(|(name, what)| format!("{name}: {what}")).collect();
    }
    let metrics = metrics.unwrap_or_default();
    let of_service = |name: &str| {
        let own = series(&metrics, name).filter(|(labels, _)| labels.get("service").is_none_or(|named| named == place.service));
        own.map(|(_, value)| value).reduce(f64::max)
    };
    place.outbox = of_service("waybill_outbox_rows").zip(of_service("waybill_outbox_oldest_seconds"));
    let version = series(&metrics, "waybill_build_info").find_map(|(labels, _)| labels.get("version").map(str::to_owned));
    if place.version.is_empty() {
        place.version = version.unwrap_or_default();
    }
    (place, metrics)
}

async fn ask(http: &Client, place: &Place, path: &str) -> Option<String> {
    http.get(format!("http://{}{path}", place.address)).send().await.ok()?.text().await.ok()
}

/// How many dead letters are kept.
async fn letters(broker: &Broker) -> Option<f64> {
    let asked = tokio::time::timeout(PATIENCE, broker::stream(broker, envelope::dead_letter::DEAD_LETTERS)).await;
    Some(asked.ok()?.ok()?.cached_info().state.messages as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_of_which_nobody_is_left_is_shown_and_an_instance_that_was_replaced_is_not() {
        let place = |service: &str, address: &str| Place {
            service: service.to_owned(),
            address: address.to_owned(),
            version: String::new(),
            ready: None,
            says: Vec::new(),
            outbox: None,
        };
        let before = vec![place("order", "a:1"), place("product", "a:2"), place("user", "a:3"), place("till", "")];
        let now = with_gone(vec![place("user", "b:3"), place("order", "a:1"), place("product", "")], before);
        let names: Vec<(&str, &str)> = now.iter().map(|place| (place.service.as_str(), place.address.as_str())).collect();
        assert_eq!(names, [("order", "a:1"), ("product", "a:2"), ("user", "b:3")]);
    }
}
