//! The intake of a handler: what clients request and what consumers bring.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use chassis::broker::Broker;
use chassis::database::Reader;
use chassis::topology::{self, TopologySettings};
use chassis::{
    Client, Failure, GroupCommit, Handled, Handler, OneStatement, Outgoing, Parts, ReadConnection, Service, Source, Start,
};
use clap::Parser;
use envelope::{Consumer, DecodeError, Stream, Topology};
use futures_util::poll;
use serde_json::value::RawValue;
use sqlx::migrate::Migrator;
use stack::Stack;
use testkit::eventually;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

const SOON: Duration = Duration::from_secs(10);

const CONSUMER: Consumer = Consumer { stream: "NUMBERS", name: "intake" };
static TOPOLOGY: Topology = Topology {
    streams: &[Stream { name: "NUMBERS", subjects: &["commands.numbers"], description: "Numbers", producer: "test" }],
    consumers: &[CONSUMER],
};
static MIGRATIONS: Migrator = Migrator::DEFAULT;

/// A number, and how it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Item {
    Requested(u32),
    Sent(u32),
}

impl Item {
    fn sent(json: &RawValue) -> Result<Self, DecodeError> {
        Ok(Self::Sent(serde_json::from_str(json.get())?))
    }
}

/// Takes numbers, and writes nothing. Each batch it begins waits for the gate to let it pass.
struct Numbers {
    gate: Semaphore,
    batches: Mutex<Vec<Vec<Item>>>,
}

impl Handler for Numbers {
    type Item = Item;
    type Output = ();
    type Shape = OneStatement;
    const NAME: &'static str = "numbers";

    async fn handle(&self, _: &mut ReadConnection, batch: &[&Item]) -> anyhow::Result<Handled<()>> {
        self.batches.lock().unwrap().push(batch.iter().copied().copied().collect());
        self.gate.acquire().await?.forget();
        Ok(Handled::new(vec![(); batch.len()], Outgoing::new("/test", chrono::Utc::now())))
    }
}

#[derive(Parser)]
struct Settings {
    #[command(flatten)]
    parts: Parts,
}

/// A service with that handler.
struct Fixture {
    stack: Stack,
    service: Service,
    handler: Arc<Numbers>,
    queue: GroupCommit<Numbers>,
    shutdown: CancellationToken,
}

impl Fixture {
    async fn start(flags: &[&str]) -> Self {
        let stack = Stack::start(stack::Options::for_tests()).await.expect("a stack");
        stack.postgres.create_database("numbers").await.expect("a database");
        let mut settings = Settings::parse_from([&["test"], flags].concat()).parts;
        settings.broker.nats_url = stack.nats.url().to_owned().into();
        let shutdown = CancellationToken::new();
        let service = Service::start(Start {
            name: "numbers",
            listener: TcpListener::bind("127.0.0.1:0").await.unwrap(),
            database_url: &stack.postgres.tcp_url("numbers").into(),
            migrator: &MIGRATIONS,
            topology: &TOPOLOGY,
            settings: &settings,
            rebuild: None,
            shutdown: shutdown.clone(),
        })
        .await
        .expect("a service");
        let broker = service.broker();
        broker.connected().await.expect("a broker");
        topology::ensure(broker.jetstream(), &TOPOLOGY, &TopologySettings::default()).await.expect("a stream");
        let handler = Arc::new(Numbers { gate: Semaphore::new(0), batches: Mutex::default() });
        let queue = service.intake(vec![Source::new(CONSUMER, Item::sent)], handler.clone());
        let health = service.health();
        eventually(SOON, || async {
            let bound = health.readiness().checks.get(CONSUMER.stream).cloned();
            if bound.as_deref() == Some("ok") { Ok(()) } else { Err(bound) }
        })
        .await;
        Self { stack, service, handler, queue, shutdown }
    }

    fn broker(&self) -> Broker {
        self.service.broker()
    }

    /// A request in the queue.
    fn request(&self, number: u32) -> impl Future<Output = ()> + Send + 'static {
        let queue = self.queue.clone();
        let client = Client::direct([192, 0, 2, 1].into());
        async move { queue.submit(client, Item::Requested(number)).await.expect("room").expect("no failure") }
    }

    /// Sends a message with these numbers, and returns once the service has it.
    async fn send(&self, numbers: &[u32]) {
        let jetstream = self.broker().jetstream().clone();
        let before = self.delivered().await;
        let payload = serde_json::to_vec(numbers).unwrap();
        jetstream.publish("commands.numbers", payload.into()).await.unwrap().await.unwrap();
        eventually(SOON, || async {
            let now = self.delivered().await;
            if now > before { Ok(()) } else { Err(now) }
        })
        .await;
        // Whatever was on its way to this connection before the answer has come before it.
        self.broker().client().flush().await.unwrap();
        self.delivered().await;
    }

    async fn delivered(&self) -> u64 {
        let stream = self.broker().jetstream().get_stream("NUMBERS").await.unwrap();
        stream.consumer_info(CONSUMER.name).await.unwrap().delivered.consumer_sequence
    }

    /// The batches, once there are so many.
    async fn batches(&self, count: usize) -> Vec<Vec<Item>> {
        eventually(SOON, || async {
            let batches = self.handler.batches.lock().unwrap().clone();
            if batches.len() >= count { Ok(batches) } else { Err(batches) }
        })
        .await
    }

    fn open_the_gate(&self) {
        self.handler.gate.add_permits(1_000);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_and_messages_that_arrive_together_share_a_batch_in_which_each_side_has_its_own_limit() {
    let fixture = Fixture::start(&["--batch-max=4"]).await;
    let mut requests = vec![tokio::spawn(fixture.request(0))];
    fixture.batches(1).await;
    for number in 1..=6 {
        let mut request = Box::pin(fixture.request(number));
        assert!(poll!(&mut request).is_pending(), "it is in the queue");
        requests.push(tokio::spawn(request));
    }
    for numbers in [[10, 11, 12], [13, 14, 15], [16, 17, 18]] {
        fixture.send(&numbers).await;
    }
    fixture.open_the_gate();
    for request in requests {
        request.await.unwrap();
    }
    let batch = |requested: &[u32], sent: &[u32]| -> Vec<Item> {
        requested.iter().copied().map(Item::Requested).chain(sent.iter().copied().map(Item::Sent)).collect()
    };
    let wanted = [batch(&[0], &[]), batch(&[1, 2, 3, 4], &[10, 11, 12, 13, 14, 15]), batch(&[5, 6], &[16, 17, 18])];
    assert_eq!(fixture.batches(3).await, wanted);
    fixture.shutdown.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_answered_while_the_broker_is_away_and_messages_come_when_it_is_back() {
    let fixture = Fixture::start(&[]).await;
    fixture.send(&[1]).await;
    fixture.batches(1).await;
    // With a batch under way whose messages nobody can acknowledge.
    fixture.stack.nats.kill().expect("it is there");
    fixture.open_the_gate();
    for number in 2..=50 {
        tokio::time::timeout(SOON, fixture.request(number)).await.expect("no request waits for the broker");
    }
    fixture.stack.nats.restart().await.expect("it starts");
    fixture.broker().connected().await.expect("a broker");
    let jetstream = fixture.broker().jetstream().clone();
    eventually(SOON, || async { jetstream.publish("commands.numbers", "[51]".into()).await?.await }).await;
    eventually(SOON, || async {
        let came = fixture.handler.batches.lock().unwrap().concat().contains(&Item::Sent(51));
        if came { Ok(()) } else { Err("51 has not come") }
    })
    .await;
    fixture.shutdown.cancel();
}

/// Says that it only reads, and writes.
struct Liar;

impl Handler for Liar {
    type Item = ();
    type Output = ();
    type Shape = OneStatement;
    const NAME: &'static str = "liar";

    async fn handle(&self, db: &mut ReadConnection, batch: &[&()]) -> anyhow::Result<Handled<()>> {
        sqlx::query("create table written (id int)").execute(&mut *db).await?;
        Ok(Handled::new(vec![(); batch.len()], Outgoing::new("/test", chrono::Utc::now())))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_of_one_statement_cannot_write_beside_it() {
    let fixture = Fixture::start(&[]).await;
    let refused = fixture.service.unit_of_work().run_detached(&Arc::new(Liar), ()).await;
    assert!(matches!(&refused, Err(Failure::Item(error)) if error.to_string().contains("create table written")), "{refused:?}");
    let written = |mut db: Reader| async move {
        sqlx::query_scalar::<_, bool>("select to_regclass('written') is not null").fetch_one(&mut **db).await
    };
    assert!(!fixture.service.database().read(written).await.unwrap());
    fixture.shutdown.cancel();
}
