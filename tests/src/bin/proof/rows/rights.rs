//! Who may reach what.

use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chassis::topology::{self, TopologySettings};
use chrono::Utc;
use events::streams::{CONSUMERS, STREAMS, TOPOLOGY};
use events::{OrderId, ProductId, UserId};
use reqwest::Method;
use serde_json::{Value, json};
use testkit::deployed::Deployed;
use testkit::{Client, Issuer, Service, System, answer, id, order_body};

use crate::run::Run;
use crate::scene::Scene;

/// Tokens that nobody may believe, and the one they are made from.
fn bad_tokens(issuer: &Issuer, subject: UserId) -> Vec<(&'static str, String)> {
    let good = issuer.token(subject, &["customer"]);
    let (_, rest) = good.split_once('.').expect("three parts");
    let head = |head: Value| format!("{}.{rest}", URL_SAFE_NO_PAD.encode(head.to_string()));
    let claims = |name: &str, value: Value| {
        let mut claims = Issuer::claims(&subject.to_string(), &["customer", "operator"]);
        claims[name] = value;
        issuer.sign(&claims)
    };
    let now = Utc::now().timestamp();
    vec![
        ("expired", claims("exp", json!(now - 61))),
        ("not valid yet", claims("nbf", json!(now + 120))),
        ("another audience", claims("aud", json!("another-system"))),
        ("another issuer", claims("iss", json!("https://elsewhere.test"))),
        ("alg none", head(json!({ "alg": "none" })).rsplit_once('.').expect("three parts").0.to_owned() + "."),
        ("alg HS256", head(json!({ "alg": "HS256", "kid": "ed" }))),
        ("a key of another", Issuer::new().token(subject, &["operator"])),
        ("an invented key", head(json!({ "alg": "EdDSA", "kid": "../../etc/passwd" }))),
        ("changed", format!("{}A.{}", good.rsplit_once('.').expect("three parts").0, "AAAA")),
    ]
}

/// What anybody tries who knows the id of an order that is another's.
async fn nothing_of(order: OrderId, owner: UserId, stranger: &Client, key: &str, product: ProductId) {
    let path = format!("/orders/{order}");
    for path in [
        path.clone(),
        format!("{path}/history"),
        format!("{path}/events"),
        format!("/users/{owner}"),
        format!("/users/{owner}/validate"),
    ] {
        stranger.get(&path).await.problem(404, "not-found");
    }
    stranger.post(&format!("{path}/cancel"), &json!({})).await.problem(404, "not-found");
    let listed = stranger.get(&format!("/orders?user_id={owner}")).await.expect(200);
    assert_eq!(listed["items"], json!([]), "another's order is in a list");
    let own = stranger.request(Method::POST, "/orders").header("idempotency-key", key);
    answer(own.json(&order_body(owner, &[(product, 1)]))).await.problem(403, "forbidden");
}

pub async fn owners(run: Run) {
    let issuer = Issuer::new();
    let system = crate::scene::patient().believing(&issuer).start().await;
    let mut scene = Scene::on(&run, system, Service::Order).await;
    let eve = scene.system.create_user(true).await;
    for lap in 0..run.times {
        let ada = scene.system.create_user(true).await;
        let key = format!("hers-{lap}");
        let placed =
            scene.system.client(Service::Order).bearing(issuer.token(ada, &["customer"])).request(Method::POST, "/orders");
        let placed = placed.header("idempotency-key", &key).json(&order_body(ada, &[(scene.product, 1)]));
        let order = OrderId(id(&answer(placed).await.expect(202)));
        scene.adopt(order);
        let bad = bad_tokens(&issuer, ada);
        for service in [Service::Order, Service::Gateway] {
            let client = scene.system.client(service);
            if service == Service::Gateway {
                nothing_of(order, ada, &client.bearing(issuer.token(eve, &["customer"])), &key, scene.product).await;
            }
            for (why, token) in &bad {
                let answer = client.bearing(token).get(&format!("/orders/{order}")).await;
                assert_eq!(answer.status, 401, "{why}: {answer:#?}");
            }
            client.anonymous().get(&format!("/orders/{order}")).await.problem(401, "unauthenticated");
        }
        // Her key is not Eve's: it gives neither her order nor her answer.
        let eves = scene.system.client(Service::Order).bearing(issuer.token(eve, &["customer"])).request(Method::POST, "/orders");
        let eves = eves.header("idempotency-key", &key).json(&order_body(eve, &[(scene.product, 1)]));
        let other = OrderId(id(&answer(eves).await.expect(202)));
        assert_ne!(other, order, "a key leads to another's order");
        scene.adopt(other);
        run.fired();
        scene.well(Instant::now()).await;
    }
    scene.end().await;
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
    let mut scene = Scene::on(&run, system, Service::Order).await;
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
