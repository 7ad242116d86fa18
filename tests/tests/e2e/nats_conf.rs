//! The deployment's broker configuration (`nats.conf`) on a real nats-server: the whole system runs with the rights it grants, and no
//! member gets beyond them.

use std::collections::BTreeSet;
use std::process::Stdio;
use std::time::Duration;

use async_nats::jetstream::consumer::pull;
use chassis::broker::Broker;
use chassis::topology::{self, TopologySettings};
use events::dead_letter::DEAD_LETTERS;
use events::streams::{CONSUMERS, STREAMS, TOPOLOGY};
use futures_util::{FutureExt as _, StreamExt as _};
use gateway::Discovery;
use testkit::deployed::{Deployed, nats_server, secrets};
use testkit::{Service, System, eventually};
use tokio::process::Command;

use crate::discovery::until_found;

/// Everybody but the operator.
pub const MEMBERS: [&str; 5] = ["provision", "user", "product", "order", "gateway"];

/// A subject of every stream, and the one member besides the operator who may publish it.
fn producers() -> Vec<(&'static str, String, &'static str)> {
    let own = STREAMS.iter().filter(|stream| stream.name != DEAD_LETTERS);
    let own =
        own.flat_map(|stream| stream.subjects.iter().map(|subject| (stream.name, subject.replace('*', "1"), stream.producer)));
    let letters = CONSUMERS.iter().map(|consumer| (DEAD_LETTERS, consumer.dead_subject(), consumer.name));
    let services: BTreeSet<&str> = STREAMS.iter().map(|stream| stream.producer).filter(|producer| !producer.is_empty()).collect();
    let outboxes = services.into_iter().map(|service| (DEAD_LETTERS, format!("dead.OUTBOX.{service}"), service));
    own.chain(letters).chain(outboxes).collect()
}

/// Waits until the server has dealt with everything this member sent so far, and what it sent before its answer has come: there and
/// back with a request that the member may make.
pub async fn settled(member: &str, broker: &Broker) {
    match CONSUMERS.iter().find(|consumer| consumer.name == member) {
        Some(own) => drop(broker.jetstream().get_consumer_from_stream::<pull::Config, _, _>(own.name, own.stream).await.unwrap()),
        // Nobody answers, which the server says.
        None if member == "gateway" => drop(broker.client().request("$SRV.PING.nobody", "".into()).await.unwrap_err()),
        None => drop(broker.jetstream().get_stream(STREAMS[0].name).await.unwrap()),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_takes_the_configuration_only_with_everybodys_key_and_its_own_certificate() {
    let folder = std::env::temp_dir().join(format!("waybill-secrets-{}", uuid::Uuid::now_v7()));
    let (_, complete) = secrets(&folder);
    assert_eq!(complete.len(), MEMBERS.len() + 1 + 3);
    assert!(nats_server().await.arg("-t").envs(complete.clone()).status().await.unwrap().success());
    for (missing, _) in &complete {
        let incomplete = complete.iter().filter(|(name, _)| name != missing).cloned();
        let status = nats_server().await.arg("-t").envs(incomplete).status().await.unwrap();
        assert!(!status.success(), "{missing} is missing and nobody notices");
    }
    std::fs::remove_dir_all(&folder).unwrap();
}

/// `-t` reads the whole file, names what is wrong with it, and ends.
#[tokio::test(flavor = "multi_thread")]
async fn the_server_takes_the_clusters_configuration_only_with_a_folder_for_its_store() {
    const CLUSTER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../nats-cluster.conf");
    let read = async |store: Option<&str>| {
        let mut command = Command::new(stack::Options::for_tests().nats_server().await.unwrap());
        command.env_remove("WAYBILL_NATS_STORE").envs(store.map(|store| ("WAYBILL_NATS_STORE", store)));
        let done = command.args(["-t", "-c", CLUSTER, "--name", "nats-1"]).stdin(Stdio::null()).output().await.unwrap();
        (done.status.success(), String::from_utf8_lossy(&done.stderr).into_owned())
    };
    let (taken, said) = read(Some("/tmp/nowhere")).await;
    assert!(taken, "{said}");
    let (taken, said) = read(None).await;
    assert!(!taken && said.contains("WAYBILL_NATS_STORE"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_system_runs_with_the_rights_it_is_given() {
    let server = Deployed::start().await;

    // The provisioner first, so that the operator, as whom the harness comes, finds everything done. The default sizes must fit.
    let provisioner = server.broker("provision").await;
    let settings = TopologySettings::default();
    let changes = topology::ensure(provisioner.jetstream(), &TOPOLOGY, &settings).await.unwrap().made.len();
    assert_eq!(changes, STREAMS.len() + CONSUMERS.len());
    let other = TopologySettings { stream_max_bytes: settings.stream_max_bytes / 2, ..settings.clone() };
    assert_eq!(
        topology::ensure(provisioner.jetstream(), &TOPOLOGY, &other).await.unwrap().made.len(),
        STREAMS.len(),
        "it may update"
    );
    assert_eq!(topology::ensure(provisioner.jetstream(), &TOPOLOGY, &settings).await.unwrap().made.len(), STREAMS.len());

    let system = System::builder().deployed(&server).settings(|settings| settings.gateway.discovery = Discovery::Nats);
    let system = system.start().await;
    let (user, product) = (system.create_user(true).await, system.create_product(3, 1999).await);
    let confirmed = system.submit(user, &[(product, 2)]).await;
    assert_eq!(system.wait_final(confirmed).await["status"], "confirmed");
    let rejected = system.submit(user, &[(product, 2)]).await;
    assert_eq!(system.wait_final(rejected).await["status"], "rejected");

    // Something unreadable, so that each reader has to write to the dead letters.
    for consumer in &CONSUMERS {
        let subject = STREAMS.iter().find(|stream| stream.name == consumer.stream).unwrap().subjects[0].replace('*', "validate");
        system.jetstream().publish(subject, "not a batch".into()).await.unwrap().await.unwrap();
    }
    eventually(Duration::from_secs(20), || async {
        let mut letters = system.jetstream().get_stream("DEAD_LETTERS").await.map_err(|error| error.to_string())?;
        let found = letters.info().await.map_err(|error| error.to_string())?.state.messages;
        if found == CONSUMERS.len() as u64 { Ok(()) } else { Err(format!("{found} dead letters")) }
    })
    .await;
    eventually(Duration::from_secs(20), || async {
        let mut open = Vec::new();
        for consumer in &CONSUMERS {
            let stream = system.jetstream().get_stream_no_info(consumer.stream).await.map_err(|error| error.to_string())?;
            let info = stream.consumer_info(consumer.name).await.map_err(|error| error.to_string())?;
            if info.num_pending > 0 || info.num_ack_pending > 0 {
                open.push(format!("{consumer:?} has not acknowledged everything"));
            }
        }
        if open.is_empty() { Ok(()) } else { Err(open.join(", ")) }
    })
    .await;
    system.audit().await;

    // The gateway has the services from the broker, and the operator finds every one, the gateway too, and each once.
    until_found(&system, &["gateway", "order", "product", "user"].map(|name| (name, true))).await;
    for path in ["/users", "/products", "/orders"] {
        system.client(Service::Gateway).get(path).await.expect(200);
    }
}

/// Whether a service reads or writes the stream, so that it may see how it is made.
fn concerns(service: &str, stream: &str) -> bool {
    let reads = CONSUMERS.iter().any(|consumer| consumer.stream == stream && consumer.name == service);
    reads || stream == DEAD_LETTERS || producers().iter().any(|(name, _, producer)| *name == stream && *producer == service)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_provisioner_puts_back_and_each_service_sees_what_concerns_it() {
    let server = Deployed::start().await;
    let provisioner = server.broker("provision").await;
    let settings = TopologySettings::default();
    topology::ensure(provisioner.jetstream(), &TOPOLOGY, &settings).await.unwrap();
    for user in ["user", "product", "order"] {
        let broker = server.broker(user).await;
        for stream in STREAMS.iter().filter(|stream| concerns(user, stream.name)) {
            broker.jetstream().get_stream(stream.name).await.unwrap_or_else(|error| panic!("{user}, {}: {error}", stream.name));
        }
    }
    // What can be changed only by making it anew.
    let operator = server.broker("operator").await;
    for consumer in &CONSUMERS {
        let stream = operator.jetstream().get_stream(consumer.stream).await.unwrap();
        stream.delete_consumer(consumer.name).await.unwrap();
        let config = pull::Config { durable_name: Some(consumer.name.to_owned()), max_waiting: 5, ..Default::default() };
        stream.create_consumer(config).await.unwrap();
    }
    let changes = topology::ensure(provisioner.jetstream(), &TOPOLOGY, &settings).await.unwrap().made;
    assert!(changes.len() == CONSUMERS.len() && changes.iter().all(|change| change.contains("made anew")), "{changes:?}");
    assert!(topology::ensure(provisioner.jetstream(), &TOPOLOGY, &settings).await.unwrap().made.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_says_what_another_says() {
    let server = Deployed::start().await;
    let operator = server.broker("operator").await;
    topology::ensure(operator.jetstream(), &TOPOLOGY, &TopologySettings::default()).await.unwrap();
    let mut expected = BTreeSet::new();
    for user in MEMBERS {
        let broker = server.broker(user).await;
        for (_, subject, producer) in producers() {
            let text = format!("{user} says {subject}");
            if user == producer {
                let acknowledged = broker.jetstream().publish(subject.clone(), text.clone().into()).await.unwrap();
                acknowledged.await.unwrap_or_else(|error| panic!("{user} may not publish to {subject}: {error}"));
                expected.insert(text);
            } else {
                broker.client().publish(subject, text.into()).await.unwrap();
            }
        }
        settled(user, &broker).await;
    }

    let mut stored = BTreeSet::new();
    for stream in &STREAMS {
        let stream = operator.jetstream().get_stream(stream.name).await.unwrap();
        for sequence in 1..=stream.cached_info().state.last_sequence {
            let message = stream.get_raw_message(sequence).await.unwrap();
            stored.insert(String::from_utf8(message.payload.to_vec()).unwrap());
        }
    }
    assert_eq!(stored, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_hears_or_takes_what_is_for_another() {
    let server = Deployed::start().await;
    let operator = server.broker("operator").await;
    topology::ensure(operator.jetstream(), &TOPOLOGY, &TopologySettings::default()).await.unwrap();
    for consumer in &CONSUMERS {
        let stream = STREAMS.iter().find(|stream| stream.name == consumer.stream).unwrap();
        let subject = stream.subjects[0].replace('*', "validate");
        operator.jetstream().publish(subject, "for one reader".into()).await.unwrap().await.unwrap();
    }
    operator.jetstream().publish("events.order.placed.1", "for the order service".into()).await.unwrap().await.unwrap();

    let mut inboxes = Vec::new();
    let mut brokers = Vec::new();
    for user in MEMBERS {
        let broker = server.broker(user).await;
        let client = broker.client();
        // The answers would come to an inbox of its own.
        let inbox = client.new_inbox();
        inboxes.push((user, "its inbox", client.subscribe(inbox.clone()).await.unwrap()));
        for (subject, body) in not_its_own(user) {
            client.publish_with_reply(subject, inbox.clone(), body.into()).await.unwrap();
        }
        settled(user, &broker).await;
        brokers.push((user, broker));
    }

    // The streams and consumers are as they were, and nothing was delivered: the next look of the owners finds it all.
    assert!(topology::ensure(operator.jetstream(), &TOPOLOGY, &TopologySettings::default()).await.unwrap().made.is_empty());
    for consumer in &CONSUMERS {
        let stream = operator.jetstream().get_stream(consumer.stream).await.unwrap();
        assert_eq!(stream.cached_info().state.consumer_count, 1);
        let info = stream.consumer_info(consumer.name).await.unwrap();
        assert_eq!((info.num_pending, info.num_ack_pending), (1, 0), "{consumer:?}");
    }

    // Whoever listens to everything hears what is said in his own account, so what is said now is told by its text.
    const SAID: &str = "for whom it concerns";
    let mut ears = Vec::new();
    for (user, broker) in &brokers {
        for subject in [">", "*.>", "events.>", "commands.*.*", "replies.*", "dead.>", "_INBOX.>", "_INBOX.waybill-nobody.>"] {
            ears.push((*user, subject, broker.client().subscribe(subject).await.unwrap()));
        }
        settled(user, broker).await;
    }
    for subject in producers().into_iter().map(|(_, subject, _)| subject).chain(["_INBOX.waybill-nobody.1".to_owned()]) {
        operator.client().publish(subject, SAID.into()).await.unwrap();
    }
    settled("operator", &operator).await;
    for (user, broker) in &brokers {
        settled(user, broker).await;
    }
    for (user, subject, mut ear) in ears {
        while let Some(Some(message)) = ear.next().now_or_never() {
            assert!(message.payload != SAID, "{user} hears {message:?} on {subject}");
        }
    }
    for (user, subject, mut inbox) in inboxes {
        while let Some(Some(message)) = inbox.next().now_or_never() {
            assert_eq!(message.status, Some(async_nats::StatusCode::NO_RESPONDERS), "{user} hears {message:?} on {subject}");
        }
    }
}

/// Requests that would answer, show, take or change what is another's.
fn not_its_own(user: &str) -> Vec<(String, &'static str)> {
    let mut requests: Vec<(String, &str)> = vec![
        ("$JS.API.INFO".into(), ""),
        ("$JS.API.STREAM.NAMES".into(), ""),
        ("$JS.API.STREAM.LIST".into(), ""),
        ("$JS.API.STREAM.PURGE.ORDER_EVENTS".into(), ""),
        ("$JS.API.STREAM.DELETE.ORDER_EVENTS".into(), ""),
        ("$JS.API.STREAM.CREATE.ANOTHER".into(), r#"{"name":"ANOTHER","subjects":["another"]}"#),
        ("$JS.API.STREAM.MSG.DELETE.ORDER_EVENTS".into(), r#"{"seq":1}"#),
        ("$JS.API.STREAM.MSG.GET.USER_COMMANDS".into(), r#"{"seq":1}"#),
        ("$JS.API.DIRECT.GET.USER_COMMANDS".into(), r#"{"seq":1}"#),
        ("$JS.API.STREAM.MSG.GET.ORDER_EVENTS".into(), r#"{"seq":1}"#),
        ("$JS.API.CONSUMER.DELETE.USER_COMMANDS.spy".into(), ""),
    ];
    // Only the order service looks for the events that it said.
    if user != "order" {
        requests.push(("$JS.API.DIRECT.GET.ORDER_EVENTS".into(), r#"{"seq":1}"#));
        requests.push(("$JS.API.DIRECT.GET.ORDER_EVENTS.events.order.placed.1".into(), ""));
    }
    if user != "provision" {
        requests.push(("$JS.API.CONSUMER.DELETE.USER_COMMANDS.user".into(), ""));
        requests.push(("$JS.API.STREAM.UPDATE.ORDER_EVENTS".into(), r#"{"name":"ORDER_EVENTS","max_msgs":1}"#));
        let foreign = STREAMS.iter().filter(|stream| !concerns(user, stream.name));
        requests.extend(foreign.map(|stream| (format!("$JS.API.STREAM.INFO.{}", stream.name), "")));
    }
    let spy = r#"{"stream_name":"USER_COMMANDS","config":{"name":"spy","ack_policy":"none"}}"#;
    requests.push(("$JS.API.CONSUMER.CREATE.USER_COMMANDS.spy".into(), spy));
    for consumer in CONSUMERS.iter().filter(|consumer| consumer.name != user) {
        requests.push((format!("$JS.API.CONSUMER.MSG.NEXT.{}.{}", consumer.stream, consumer.name), "1"));
    }
    requests
}
