//! Services found by asking the broker: by `nats micro`, by `waybill services`, and by a gateway that spreads over their instances.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use chassis::discovery::{self, Instance};
use futures_util::StreamExt as _;
use gateway::Discovery;
use serde_json::{Value, json};
use testkit::deployed::Deployed;
use testkit::{Builder, Service, System, eventually};
use tokio::net::TcpListener;

use crate::cli_saga::waybill;

fn with_discovery() -> Builder {
    System::builder().settings(|settings| settings.gateway.discovery = Discovery::Nats)
}

/// Whoever answers within a moment: a client of NATS' own, as `nats micro ls` is.
async fn found(system: &System) -> Vec<Instance> {
    let inbox = system.nats().new_inbox();
    let answers = system.nats().subscribe(inbox.clone()).await.unwrap();
    system.nats().publish_with_reply(discovery::ping(None), inbox, "".into()).await.unwrap();
    let within = tokio::time::sleep(Duration::from_millis(400));
    answers.take_until(within).filter_map(|answer| std::future::ready(Instance::read(&answer.payload))).collect().await
}

async fn asked(system: &System, subject: String) -> Value {
    let answer = system.nats().request(subject, "".into()).await.expect("an answer");
    serde_json::from_slice(&answer.payload).expect("JSON")
}

/// Waits until these services answer and no others, each instance ready or not as it is said, and returns who answered.
pub async fn until_found(system: &System, wanted: &[(&str, bool)]) -> Vec<Instance> {
    eventually(Duration::from_secs(20), || async {
        let instances = found(system).await;
        let mut seen: Vec<(&str, bool)> = instances.iter().map(|found| (found.service.as_str(), found.ready)).collect();
        seen.sort_unstable();
        if seen == wanted { Ok(instances) } else { Err(format!("{instances:?}")) }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_service_is_found_on_the_broker_with_where_it_is_and_what_it_has_answered() {
    let system = with_discovery().start().await;
    let all = [("gateway", true), ("order", true), ("product", true), ("user", true)];
    let instances = until_found(&system, &all).await;
    for instance in &instances {
        let service = Service::ALL.into_iter().find(|service| service.name() == instance.service).unwrap();
        assert_eq!(instance.address, format!("127.0.0.1:{}", system.instance(service).port));
        assert_eq!(instance.version, env!("CARGO_PKG_VERSION"));
        // The three questions of `nats micro`.
        let name = format!("waybill-{}", instance.service);
        let info = asked(&system, format!("$SRV.INFO.{name}")).await;
        assert_eq!((&info["name"], &info["metadata"]["address"]), (&name.clone().into(), &instance.address.clone().into()));
        let stats = asked(&system, discovery::stats(instance)).await;
        let before = stats["endpoints"][0]["data"]["requests"].as_u64().expect("a count");
        system.client(service).get("/readyz").await.expect(200);
        system.client(service).get("/v1/nowhere").await.problem(404, "not-found");
        system.client(service).get("/nowhere").await.problem(404, "not-found");
        let stats = asked(&system, discovery::stats(instance)).await;
        let data = &stats["endpoints"][0]["data"];
        assert!(data["requests"] == before + 2 && data["errors"] == 0, "{stats:#}");
        let ready = asked(&system, format!("$SRV.READY.{name}")).await;
        assert_eq!(ready["ready"], true, "{ready:#}");
    }
    let told = waybill(&system, &["services", "-o", "json"]).await.json(0);
    let told: Vec<(&str, &str)> = told["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| {
            assert!(item["ready"] == true && item["requests"].is_u64() && item["started"].is_string(), "{item:#}");
            (item["service"].as_str().unwrap(), item["address"].as_str().unwrap())
        })
        .collect();
    let mut known: Vec<(&str, &str)> = instances.iter().map(|found| (found.service.as_str(), found.address.as_str())).collect();
    known.sort_unstable();
    assert_eq!(told, known);
    let table = waybill(&system, &["services"]).await.expect(0);
    assert!(table.lines().count() == 5 && table.starts_with("SERVICE"), "{table}");

    // One that stops is gone at once, one that is not ready says so, and a broker that was away changes nothing.
    let begun = Instant::now();
    system.stop(Service::User).await;
    assert!(begun.elapsed() < Duration::from_secs(5), "to be found holds up no end");
    until_found(&system, &[all[0], all[1], all[2]]).await;
    system.stack.nats.kill().unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    system.stack.nats.restart().await.unwrap();
    until_found(&system, &[all[0], all[1], all[2]]).await;
    let told = waybill(&system, &["services", "-o", "jsonl"]).await.expect(0);
    assert_eq!(told.lines().count(), 3, "{told}");
}

/// How many requests an instance has answered.
async fn answered(system: &System, port: u16) -> u64 {
    let address = format!("127.0.0.1:{port}");
    let instances = found(system).await;
    let instance = instances.iter().find(|found| found.address == address).expect("it is there");
    asked(system, discovery::stats(instance)).await["endpoints"][0]["data"]["requests"].as_u64().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_asks_the_broker_spreads_over_the_instances_and_leaves_out_the_dead() {
    // Only the broker can tell it where they are.
    let wrong = |settings: &mut testkit::Settings| settings.gateway.upstream.answer_timeout = Duration::from_secs(20);
    let system = with_discovery().settings(wrong).without(Service::Gateway).start().await;
    system.spawn_binary(Service::Order).await;
    let (first, second) = (system.instance(Service::Order).clone(), system.spawn_second_binary(Service::Order).await);
    system.start(Service::Gateway).await;
    let client = system.client(Service::Gateway);
    eventually(Duration::from_secs(20), || async {
        let answer = client.get("/orders").await;
        if answer.status == 200 { Ok(()) } else { Err(answer) }
    })
    .await;
    eventually(Duration::from_secs(20), || async {
        let before = (answered(&system, first.port).await, answered(&system, second.port).await);
        for _ in 0..40 {
            client.get("/orders").await.expect(200);
        }
        let after = (answered(&system, first.port).await, answered(&system, second.port).await);
        // The looks of the gateway itself are a few.
        let spread = after.0 - before.0 >= 15 && after.1 - before.1 >= 15;
        if spread { Ok(()) } else { Err(format!("{before:?} {after:?}")) }
    })
    .await;
    // One that is killed costs nobody anything: who cannot be connected to has heard nothing.
    second.kill().await;
    for _ in 0..40 {
        client.get("/orders").await.expect(200);
    }
    // One that hangs is left out within five seconds.
    let second = system.spawn_second_binary(Service::Order).await;
    let both = BTreeSet::from([first.port, second.port].map(|port| format!("127.0.0.1:{port}")));
    let orders = |instances: &[Instance]| -> BTreeSet<String> {
        instances.iter().filter(|found| found.service == "order" && found.ready).map(|found| found.address.clone()).collect()
    };
    eventually(Duration::from_secs(20), || async {
        let there = orders(&found(&system).await);
        if there == both { Ok(()) } else { Err(there) }
    })
    .await;
    first.signal(rustix::process::Signal::STOP);
    tokio::time::sleep(Duration::from_secs(5)).await;
    for _ in 0..20 {
        let begun = Instant::now();
        client.get("/orders").await.expect(200);
        assert!(begun.elapsed() < Duration::from_secs(5), "it was not asked any more");
    }
    first.signal(rustix::process::Signal::CONT);
    // While the broker is away the gateway goes on with whom it knows.
    system.stack.nats.kill().unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    for _ in 0..10 {
        client.get("/orders").await.expect(200);
    }
    system.stack.nats.restart().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_was_taken_over_leads_the_gateway_to_no_other_than_its_own() {
    let server = Deployed::start().await;
    let known = server.settings("gateway");
    let as_gateway = |settings: &mut testkit::Settings| {
        (settings.gateway.broker.nats_nkey_seed, settings.gateway.broker.nats_ca) = (known.nats_nkey_seed, known.nats_ca);
    };
    let system = with_discovery().settings(as_gateway).deployed(&server).start().await;
    let client = system.client(Service::Gateway);
    eventually(Duration::from_secs(20), || async {
        let answer = client.get("/orders").await;
        if answer.status == 200 { Ok(()) } else { Err(answer) }
    })
    .await;

    // With the user service's key: it says of the order service where that is, whoever is asked about.
    let trap = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let metadata = json!({ "address": trap.local_addr().unwrap().to_string(), "instance": "i", "ready": "true" });
    let lie = json!({ "type": "io.nats.micro.v1.ping_response", "name": "waybill-order", "id": "x", "version": "0.1.0", "metadata": metadata });
    let thief = server.broker("user").await;
    let mut asked = thief.client().subscribe("$SRV.PING.>").await.unwrap();
    for _ in 0..4 {
        let request = tokio::time::timeout(Duration::from_secs(20), asked.next()).await.expect("it is asked").unwrap();
        assert_eq!(request.subject.as_str(), "$SRV.PING.waybill-user", "the gateway asks each service about itself alone");
        thief.client().publish(request.reply.unwrap(), lie.to_string().into()).await.unwrap();
        thief.client().flush().await.unwrap();
        for _ in 0..5 {
            client.get("/orders").await.expect(200);
        }
    }
    let led = tokio::time::timeout(Duration::from_millis(100), trap.accept()).await;
    assert!(led.is_err(), "the gateway went where a stranger to this service sent it");
}
