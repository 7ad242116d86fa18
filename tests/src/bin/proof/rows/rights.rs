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
    let operator = server.url("operator");
    let system = crate::scene::patient()
        .stack(move |options| options.nats.url = Some(operator))
        .nats_urls(["user", "product", "order"].map(|user| server.url(user)))
        .start()
        .await;
    let mut scene = Scene::on(&run, system, testkit::Service::Order).await;
    for lap in 0..run.times {
        let mark = format!("said by another in lap {lap}");
        for user in ["user", "product", "order"] {
            let broker = server.broker(user).await;
            for (subject, producer) in SUBJECTS {
                if producer != user {
                    broker.client().publish(subject, mark.clone().into()).await.expect("sent");
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
        scene.well(Instant::now()).await;
    }
    scene.end().await;
}
