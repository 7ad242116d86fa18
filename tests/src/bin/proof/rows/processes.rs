//! Processes that end at the worst moments, and one whose clock jumps.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::jetstream::consumer::pull;
use events::OrderId;
use reqwest::Method;
use testkit::{Answer, Lane, Line, Service, Surroundings, System, eventually, id, order_body};
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::broker::{Removed, folder};
use crate::run::Run;
use crate::scene::{SOON, Scene, patient};

/// The services that publish.
const PUBLISHERS: [Service; 3] = [Service::Order, Service::User, Service::Product];

/// By so many seconds a clock jumps.
const HOUR: i64 = 3_600;

/// A line on which everything takes so long that a process can be killed between two of its steps.
const SLOW: Lane = Lane::late(Duration::from_millis(1_500), Duration::ZERO);

/// Places an order under a key, without waiting.
fn post(scene: &Scene, key: &str) -> JoinHandle<reqwest::Result<Answer>> {
    let request = scene.system.client(Service::Order).request(Method::POST, "/orders").header("idempotency-key", key);
    let request = request.json(&order_body(scene.user, &[(scene.product, 1)]));
    tokio::spawn(Answer::try_of(request))
}

/// The orders under a key.
async fn under(system: &System, key: &str) -> Vec<Uuid> {
    sqlx::query_scalar("select id from orders where idempotency_key = $1")
        .bind(key)
        .fetch_all(&system.order_db)
        .await
        .expect("the orders")
}

/// Kills a process whose lines are not whole, heals them, and starts it again. What was on its way is lost.
async fn kill_and_heal(scene: &mut Scene, service: Service) -> Instant {
    scene.system.kill(service).await;
    let links = scene.system.links(service);
    links.both().into_iter().for_each(testkit::Proxy::cut);
    scene.system.heal_links();
    let since = Instant::now();
    scene.system.spawn_binary(service).await;
    since
}

/// Asks again under a key.
async fn ask_again(scene: &mut Scene, key: &str) -> (OrderId, bool) {
    let answer = post(scene, key).await.expect("no panic").expect("an answer");
    let order = OrderId(id(&answer.expect(202)));
    scene.adopt(order);
    (order, answer.header("idempotency-replayed") == "true")
}

async fn linked(run: &Run, binaries: &[Service]) -> Scene {
    let system = patient().linked().start().await;
    for service in binaries {
        system.spawn_binary(*service).await;
    }
    Scene::on(run, system, Service::Order).await
}

pub async fn before_the_commit(run: Run) {
    let mut scene = linked(&run, &[Service::Order]).await;
    for lap in 0..run.times {
        let key = format!("before-the-commit-{lap}");
        let proxy = &scene.system.links(Service::Order).database;
        proxy.set(Line { up: Lane::HOLD, down: Lane::default() });
        let sent = proxy.bytes_up();
        let asked = post(&scene, &key);
        eventually(SOON, || async { if proxy.bytes_up() > sent { Ok(()) } else { Err("nothing was sent to the database") } })
            .await;
        let since = kill_and_heal(&mut scene, Service::Order).await;
        assert!(asked.await.expect("no panic").is_err(), "it was answered before it was committed");
        assert!(under(&scene.system, &key).await.is_empty(), "it is there: it was committed");
        run.fired();
        let (order, replayed) = ask_again(&mut scene, &key).await;
        assert!(!replayed, "there was nothing to answer again");
        assert_eq!(under(&scene.system, &key).await, [order.0], "one order for the key");
        scene.well(since).await;
    }
    scene.end().await;
}

pub async fn before_the_answer(run: Run) {
    let mut scene = linked(&run, &[Service::Order]).await;
    for lap in 0..run.times {
        let key = format!("before-the-answer-{lap}");
        let proxy = &scene.system.links(Service::Order).database;
        proxy.set(Line { up: Lane::default(), down: SLOW });
        let asked = post(&scene, &key);
        let kept = eventually(SOON, || async { under(&scene.system, &key).await.first().copied().ok_or("not committed") }).await;
        let since = kill_and_heal(&mut scene, Service::Order).await;
        assert!(asked.await.expect("no panic").is_err(), "it was answered before its process was killed");
        run.fired();
        let (order, replayed) = ask_again(&mut scene, &key).await;
        assert!(replayed && order.0 == kept, "the same order again");
        scene.well(since).await;
    }
    scene.end().await;
}

pub async fn before_publishing(run: Run) {
    let mut scene = linked(&run, &PUBLISHERS).await;
    for lap in 0..run.times {
        let service = PUBLISHERS[lap % PUBLISHERS.len()];
        scene.all_said(service).await;
        scene.system.links(service).broker.set(Line { up: Lane::HOLD, down: Lane::default() });
        scene.unsaid(service).await;
        run.fired();
        let since = kill_and_heal(&mut scene, service).await;
        scene.well(since).await;
    }
    scene.end().await;
}

/// The stream that a service writes to first.
fn said_to(service: Service) -> &'static str {
    match service {
        Service::User => "USER_REPLIES",
        Service::Product => "PRODUCT_REPLIES",
        _ => "USER_COMMANDS",
    }
}

async fn last_sequence(system: &System, stream: &str) -> u64 {
    system.jetstream().get_stream(stream).await.expect("the stream").cached_info().state.last_sequence
}

pub async fn before_the_pub_ack(run: Run) {
    let mut scene = linked(&run, &PUBLISHERS).await;
    for lap in 0..run.times {
        let service = PUBLISHERS[lap % PUBLISHERS.len()];
        scene.system.links(service).broker.set(Line { up: Lane::default(), down: SLOW });
        tokio::time::sleep(SLOW.delay).await; // what was acknowledged before has been heard
        let stored = last_sequence(&scene.system, said_to(service)).await;
        eventually(SOON, || async {
            let now = last_sequence(&scene.system, said_to(service)).await;
            if now > stored && scene.rows_unsaid(service).await > 0 { Ok(()) } else { Err(format!("{stored} and {now} stored")) }
        })
        .await;
        run.fired();
        let since = kill_and_heal(&mut scene, service).await;
        scene.well(since).await;
    }
    scene.end().await;
}

/// Messages come again after so long: the consumers as in production but for that. Nobody may put them back meanwhile.
pub async fn ack_wait(system: &System, wait: Duration) {
    system.stop_keeping_topology().await;
    for consumer in &events::streams::CONSUMERS {
        let stream = system.jetstream().get_stream(consumer.stream).await.expect("the stream");
        let found = stream.get_consumer::<pull::Config>(consumer.name).await.expect("the consumer");
        let mut config: pull::Config = (&found.cached_info().config).into_pull();
        config.ack_wait = wait;
        stream.create_consumer(config).await.expect("changed");
    }
}

/// The pull configuration of a consumer that is one.
trait IntoPull {
    fn into_pull(self) -> pull::Config;
}

impl IntoPull for &async_nats::jetstream::consumer::Config {
    fn into_pull(self) -> pull::Config {
        use async_nats::jetstream::consumer::FromConsumer;
        pull::Config::try_from_consumer_config(self.clone()).expect("a pull consumer")
    }
}

/// Messages given to a consumer and not acknowledged, and messages given to it again and not acknowledged yet.
pub async fn unacknowledged(system: &System, stream: &str, consumer: &str) -> (usize, usize) {
    let found = system.jetstream().get_stream(stream).await.expect("the stream");
    let info = found.consumer_info(consumer).await.expect("the consumer");
    (info.num_ack_pending, info.num_redelivered)
}

pub async fn before_the_ack(run: Run) {
    const READERS: [(Service, &str, &str); 3] = [
        (Service::User, "USER_COMMANDS", "user"),
        (Service::Product, "PRODUCT_COMMANDS", "product"),
        (Service::Order, "PRODUCT_REPLIES", "order"),
    ];
    let mut scene = linked(&run, &PUBLISHERS).await;
    ack_wait(&scene.system, Duration::from_secs(1)).await;
    for lap in 0..run.times {
        let (service, stream, consumer) = READERS[lap % READERS.len()];
        scene.system.links(service).broker.set(Line { up: SLOW, down: Lane::default() });
        // Committed, as there is something to be said; given, and not acknowledged.
        eventually(SOON, || async {
            let (pending, _) = unacknowledged(&scene.system, stream, consumer).await;
            if pending > 0 && scene.rows_unsaid(service).await > 0 { Ok(()) } else { Err(format!("{pending} are pending")) }
        })
        .await;
        run.fired();
        let since = kill_and_heal(&mut scene, service).await;
        scene.well(since).await;
    }
    scene.end().await;
}

pub async fn at_random(run: Run) {
    let mut rng = run.rng();
    let system = patient().start().await;
    for service in Service::ALL {
        system.spawn_binary(service).await;
    }
    let mut scene = Scene::on(&run, system, Service::Gateway).await;
    for _ in 0..run.times {
        let mut killed: Vec<Service> = Service::ALL.into_iter().filter(|_| rng.bool()).collect();
        if killed.is_empty() {
            killed = Service::ALL.to_vec();
        }
        let fault = Instant::now();
        for service in &killed {
            scene.system.kill(*service).await;
        }
        if killed.contains(&Service::Order) || killed.contains(&Service::Gateway) {
            scene.felt(fault).await;
        } else {
            scene.noticed(killed[0], fault).await;
        }
        run.fired();
        let since = Instant::now();
        rng.shuffle(&mut killed);
        for service in killed {
            scene.system.spawn_binary(service).await;
        }
        scene.well(since).await;
    }
    scene.end().await;
}

pub async fn two_of_each(run: Run) {
    let mut rng = run.rng();
    let system = patient().start().await;
    let mut seconds = Vec::new();
    for service in Service::ALL {
        system.spawn_binary(service).await;
        seconds.push(system.spawn_second_binary(service).await);
    }
    let mut scene = Scene::on(&run, system, Service::Gateway).await;
    for _ in 0..run.times {
        let service = Service::ALL[rng.usize(..3)];
        let second = seconds[service as usize].clone();
        second.kill().await;
        run.fired();
        let since = Instant::now();
        scene.trickle.more(4).await;
        second.launch_binary();
        second.ready().await;
        scene.well(since).await;
    }
    scene.end().await;
}

pub async fn clock(run: Run) {
    let tools = stack::Options::for_tests().tools_dir;
    let folder = Removed(folder(run.row));
    std::fs::create_dir_all(&folder.0).expect("a folder");
    let clock = match stack::Clock::new(&tools, folder.0.join("clock")).await {
        Ok(clock) => Arc::new(clock),
        Err(error) => return run.skip(format!("{error:#}")),
    };
    let mut rng = run.rng();
    let builder = patient().stack(|stack| stack.postgres.steppable_clock = true);
    let mut scene = Scene::begin(&run, builder).await;
    for service in PUBLISHERS {
        scene.system.instance(service).surround(Surroundings { clock: Some(clock.clone()), log: None });
        scene.system.spawn_binary(service).await;
    }
    for lap in 0..run.times {
        let offset = if rng.bool() { HOUR } else { -HOUR };
        // An order that waits while the clock jumps: the service that would answer is away.
        scene.system.stop(Service::Product).await;
        let waiting = scene.place().await;
        let services = lap % 2 == 0;
        let set = |offset| match services {
            true => clock.step(offset),
            false => scene.system.stack.postgres.step_clock(offset),
        };
        set(offset).expect("stepped");
        eventually(SOON, || async {
            let skew = if services { skew(&scene.system).await } else { database_skew(&scene.system).await };
            if (skew - offset).abs() < 60 { Ok(()) } else { Err(format!("{skew} s apart")) }
        })
        .await;
        run.fired();
        let since = Instant::now();
        scene.trickle.more(4).await;
        assert_eq!(scene.system.order(waiting).await["status"], "pending", "its deadline is not nearer for a clock that jumped");
        scene.system.spawn_binary(Service::Product).await;
        scene.well(since).await;
        let set = |offset| match services {
            true => clock.step(offset),
            false => scene.system.stack.postgres.step_clock(offset),
        };
        set(0).expect("stepped");
    }
    run.note("by turns the clocks of the services and of Postgres");
    scene.end().await;
}

/// By how many seconds the database's clock is ahead.
async fn database_skew(system: &System) -> i64 {
    let now: chrono::DateTime<chrono::Utc> =
        sqlx::query_scalar("select now()").fetch_one(&system.order_db).await.expect("the time");
    (now - chrono::Utc::now()).num_seconds()
}

/// By how many seconds the clock of the user service is ahead, as its latest reply says.
async fn skew(system: &System) -> i64 {
    let replies = system.jetstream().get_stream("USER_REPLIES").await.expect("the stream");
    let last = replies.direct_get(replies.cached_info().state.last_sequence).await.expect("a message");
    let batch: serde_json::Value = serde_json::from_slice(&last.payload).expect("a batch");
    let said: chrono::DateTime<chrono::Utc> = batch[0]["time"].as_str().and_then(|time| time.parse().ok()).expect("a time");
    (said - chrono::Utc::now()).num_seconds()
}
