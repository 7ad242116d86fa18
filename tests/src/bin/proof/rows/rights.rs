//! Who may reach what.

use std::time::Instant;

use chassis::topology::{self, TopologySettings};
use events::streams::{CONSUMERS, STREAMS, TOPOLOGY};
use testkit::System;
use testkit::deployed::Deployed;

use crate::run::Run;
use crate::scene::Scene;

pub async fn owners(run: Run) {
    run.skip("not built: there are no identities and no tokens yet, so nobody's data is anybody's own");
}

/// A subject and the one service that may say it.
const SUBJECTS: [(&str, &str); 6] = [
    ("commands.user.validate", "order"),
    ("commands.product.reserve", "order"),
    ("replies.user", "user"),
    ("replies.product", "product"),
    ("events.order.confirmed.1", "order"),
    ("events.product.stock_changed.1", "product"),
];

/// What the server would do if a reply subject made it act.
const DAMAGE: [&str; 3] = [
    "$JS.API.STREAM.DELETE.ORDER_EVENTS",
    "$JS.API.STREAM.PURGE.ORDER_EVENTS",
    "$JS.API.CONSUMER.DELETE.PRODUCT_COMMANDS.product",
];

/// When everything was made, and how far it reaches back: what is deleted comes again, later.
async fn age(system: &System) -> Vec<String> {
    let mut all = Vec::new();
    for stream in &STREAMS {
        let info = system.jetstream().get_stream(stream.name).await.expect("a stream").cached_info().clone();
        all.push(format!("{} of {}, from {}", stream.name, info.created, info.state.first_sequence));
    }
    for consumer in &CONSUMERS {
        let info =
            system.jetstream().get_stream_no_info(consumer.stream).await.expect("a stream").consumer_info(consumer.name).await;
        all.push(format!("{consumer:?} of {}", info.expect("a consumer").created));
    }
    all
}

async fn stored(system: &System) -> Vec<(String, bytes::Bytes)> {
    let mut all = Vec::new();
    for stream in &STREAMS {
        all.extend(system.said(stream.name).await.into_iter().map(|said| (said.subject, said.payload)));
    }
    all
}

pub async fn subjects(run: Run) {
    let server = Deployed::start().await;
    let provisioner = server.broker("provision").await;
    topology::ensure(provisioner.jetstream(), &TOPOLOGY, &TopologySettings::default()).await.expect("the streams");
    let system = crate::scene::patient().deployed(&server).start().await;
    let mut scene = Scene::on(&run, system, testkit::Service::Order).await;
    let before = age(&scene.system).await;
    for lap in 0..run.times {
        let mark = format!("said by another in lap {lap}");
        for user in ["user", "product", "order"] {
            let broker = server.broker(user).await;
            for (subject, producer) in SUBJECTS {
                if producer != user {
                    broker.client().publish(subject, mark.clone().into()).await.expect("sent");
                }
            }
            // Refused requests of its own, to be answered to subjects that are not.
            for consumer in CONSUMERS.iter().filter(|consumer| consumer.name == user) {
                let next = format!("$JS.API.CONSUMER.MSG.NEXT.{}.{}", consumer.stream, consumer.name);
                for damage in DAMAGE {
                    broker.client().publish_with_reply(next.clone(), damage, "{".into()).await.expect("sent");
                }
            }
            // There and back: the server has dealt with all of it.
            let own = CONSUMERS.iter().find(|consumer| consumer.name == user).expect("each has one");
            let jetstream = broker.jetstream();
            let found: Result<async_nats::jetstream::consumer::PullConsumer, _> =
                jetstream.get_consumer_from_stream(own.name, own.stream).await;
            drop(found.expect("its own consumer"));
        }
        run.fired();
        let theirs = stored(&scene.system).await.into_iter().find(|(_, payload)| payload == mark.as_bytes());
        assert_eq!(theirs, None, "stored, although another may not say it");
        assert_eq!(age(&scene.system).await, before, "deleted by the subject of a reply");
        scene.well(Instant::now()).await;
    }
    scene.end().await;
}
