//! Which instances there are: those that answer on the broker when they are asked who is there.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::http::uri::Authority;
use chassis::broker::Broker;
use chassis::discovery::{Instance, ping};
use futures_util::StreamExt as _;
use futures_util::stream::SelectAll;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::upstream::Upstream;

/// How often is asked.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// How often an instance may leave unanswered what it is asked, before it counts as gone: within five seconds.
const UNANSWERED_MAX: u32 = 3;

/// What is known of an instance.
struct Heard {
    ready: bool,
    /// How often it was asked since it answered.
    unanswered: u32,
}

/// The instances of one service, each at its address.
type Heards = BTreeMap<String, Heard>;

/// A service, who answered, and where to.
struct Asked {
    upstream: Arc<Upstream>,
    heards: Heards,
    inbox: String,
}

/// Keeps the instances of the services, until shutdown. While the broker is away nothing is asked and the list stays as it is; whom nobody can
/// connect to the breakers leave out.
pub async fn follow(broker: Broker, upstreams: Vec<Arc<Upstream>>, shutdown: CancellationToken) {
    let (mut known, mut answers) = (Vec::new(), SelectAll::new());
    for (place, upstream) in upstreams.into_iter().enumerate() {
        // An inbox for each: an answer is about the service that was asked, whatever it says. Nobody speaks for another.
        let inbox = broker.client().new_inbox();
        tokio::select! {
            heard = broker.client().subscribe(inbox.clone()) => match heard {
                Ok(heard) => answers.push(heard.map(move |answer| (place, answer))),
                Err(error) => return tracing::error!(%error, "the services cannot be found by asking the broker"),
            },
            () = shutdown.cancelled() => return,
        }
        known.push(Asked { upstream, heards: Heards::new(), inbox });
    }
    let mut every = interval(ASK_EVERY);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut asked = false;
    loop {
        tokio::select! {
            _ = every.tick() => {
                if broker.is_connected() {
                    for Asked { upstream, heards, inbox } in &mut known {
                        if lose(heards) {
                            tell(upstream, heards);
                        }
                        let ask = broker.client().publish_with_reply(ping(Some(upstream.name())), inbox.clone(), "".into());
                        if let Err(error) = ask.await {
                            tracing::debug!(%error, "the services are not asked");
                        }
                    }
                    asked = true;
                } else if !asked {
                    // At the start: not a second later than need be.
                    every.reset_after(Duration::from_millis(50));
                }
            }
            Some((place, answer)) = answers.next() => {
                let Asked { upstream, heards, .. } = &mut known[place];
                if let Some(instance) = Instance::read(&answer.payload)
                    && instance.service == upstream.name()
                    && hear(heards, instance)
                {
                    tell(upstream, heards);
                }
            }
            () = shutdown.cancelled() => return,
        }
    }
}

/// Notes an answer; whether anything is otherwise than it was known.
fn hear(heards: &mut Heards, instance: Instance) -> bool {
    let heard = Heard { ready: instance.ready, unanswered: 0 };
    heards.insert(instance.address, heard).is_none_or(|before| before.ready != instance.ready)
}

/// Before they are asked once more: lets go of whoever did not answer; whether anybody.
fn lose(heards: &mut Heards) -> bool {
    let before = heards.len();
    heards.retain(|_, heard| {
        heard.unanswered += 1;
        heard.unanswered <= UNANSWERED_MAX
    });
    heards.len() < before
}

fn tell(upstream: &Upstream, heards: &Heards) {
    let readable = heards.iter().filter_map(|(address, heard)| Some((address.parse::<Authority>().ok()?, heard.ready)));
    upstream.set_instances(readable);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_does_not_answer_is_let_go_and_who_does_stays() {
        let instance = |address: &str, ready| Instance {
            service: "order".to_owned(),
            id: String::new(),
            discovery_id: String::new(),
            version: String::new(),
            address: address.to_owned(),
            ready,
        };
        let mut heards = Heards::new();
        assert!(hear(&mut heards, instance("a:1", true)) && hear(&mut heards, instance("b:1", false)));
        for _ in 0..UNANSWERED_MAX {
            assert!(!lose(&mut heards));
            assert!(!hear(&mut heards, instance("b:1", false)), "nothing new");
        }
        assert!(lose(&mut heards));
        assert_eq!(heards.keys().collect::<Vec<_>>(), ["b:1"]);
        assert!(hear(&mut heards, instance("b:1", true)), "it is ready now");
    }
}
