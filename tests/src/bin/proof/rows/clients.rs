//! Clients that hang up, come all at once, or never come to the point.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::future::join_all;
use testkit::{Answer, Client, Service, System, order_body};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::run::Run;
use crate::scene::{Scene, patient};

/// Connects from this address of the loopback network: a limit for each address is no matter between these clients and the others.
async fn connect(from: Ipv4Addr, port: u16) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from((from, 0)))?;
    socket.connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await
}

/// Clients that hang up at once.
const CLIENTS: usize = 12;

pub async fn hang_up(run: Run) {
    let mut rng = run.rng();
    let mut scene = Scene::begin(&run, patient()).await;
    let port = scene.system.instance(Service::Order).port;
    let body = order_body(scene.user, &[(scene.product, 1)]).to_string();
    for lap in 0..run.times {
        let keys: Vec<String> = (0..CLIENTS).map(|n| format!("hang-up-{lap}-{n}")).collect();
        join_all(keys.iter().map(|key| {
            let request = post(key, &body);
            // A third leave in the middle of their request, the others between its end and its answer.
            let length = if rng.usize(..3) == 0 { rng.usize(1..request.len()) } else { request.len() };
            let stay = Duration::from_micros(rng.u64(..20_000));
            async move {
                let mut socket = connect(Ipv4Addr::new(127, 0, 0, 3), port).await.expect("connected");
                socket.write_all(&request.as_bytes()[..length]).await.expect("sent");
                tokio::time::sleep(stay).await;
            }
        }))
        .await;
        run.fired();
        let since = Instant::now();
        // Whoever asks again with the key gets the order there is, or a new one.
        for key in &keys {
            let answer = scene.system.try_submit(scene.user, &[(scene.product, 1)], key).await.expect("an answer");
            scene.adopt(events::OrderId(testkit::id(&answer.expect(202))));
        }
        scene.well(since).await;
    }
    scene.end().await;
}

fn post(key: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST /orders HTTP/1.1\r\nHost: waybill\r\nContent-Type: application/json\r\nIdempotency-Key: {key}\r\nContent-Length: {length}\r\n\r\n{body}"
    )
}

/// Requests under way at once.
const BUYERS: usize = 500;

pub async fn last_unit(run: Run) {
    let system = System::new().await;
    let users = join_all((0..20).map(|_| system.create_user(true))).await;
    for lap in 1..=run.times {
        let product = system.create_product(1, 1999).await;
        let began = Instant::now();
        let place = |n: usize| {
            let (client, body): (Client, _) =
                (system.client(Service::Order), order_body(users[n % users.len()], &[(product, 1)]));
            async move { client.post("/orders", &body).await.expect(202) }
        };
        let placed: Vec<_> = futures_util::stream::iter((0..BUYERS).map(place)).buffer_unordered(BUYERS).collect().await;
        assert_eq!(placed.len(), BUYERS);
        run.fired();
        let audit = system.audit().await;
        assert_eq!((audit.orders, audit.confirmed, audit.rejected), (BUYERS * lap, lap, (BUYERS - 1) * lap));
        assert_eq!(system.stock(product).await, (0, 1), "exactly one has it");
        run.succeeded(BUYERS);
        run.healed(began.elapsed());
    }
}

/// Within this a slow client is let go.
const LET_GO_WITHIN: Duration = Duration::from_secs(10);

pub async fn slow_sockets(run: Run) {
    let slow = sockets_at_once();
    assert!(slow >= 200, "too few open files for this row: ulimit -n");
    let timeout = Duration::from_secs(2);
    let builder = patient().order(|order| order.parts.http.http_header_timeout = timeout);
    let mut scene = Scene::begin(&run, builder).await;
    let port = scene.system.instance(Service::Order).port;
    for _ in 0..run.times {
        let began = Instant::now();
        let mut sockets = Vec::with_capacity(slow);
        for n in 0..slow {
            let from = Ipv4Addr::new(127, 0, 1, (n % 250) as u8 + 1);
            let mut socket = connect(from, port).await.expect("connected");
            socket.write_all(b"POST /orders HTTP/1.1\r\nHost: waybill\r\n").await.expect("sent");
            sockets.push(socket);
        }
        scene.trickle.more(20).await;
        let open = sockets.iter().filter(|socket| socket.try_read(&mut [0; 1]).is_err()).count();
        let ends = join_all(sockets.into_iter().map(|mut socket| async move {
            let mut rest = Vec::new();
            tokio::time::timeout(LET_GO_WITHIN, socket.read_to_end(&mut rest)).await
        }))
        .await;
        assert!(
            ends.iter().all(Result::is_ok),
            "{} slow clients were not let go",
            ends.iter().filter(|end| end.is_err()).count()
        );
        run.detected(began.elapsed());
        assert!(open > slow / 4, "only {open} of {slow} were open while the others were served");
        run.fired();
        scene.well(Instant::now()).await;
    }
    assert_eq!(
        Answer::try_of(scene.system.client(Service::Order).request(reqwest::Method::GET, "/livez")).await.unwrap().status,
        200
    );
    scene.end().await;
    run.note(format!("{slow} sockets, header timeout 2 s"));
}

/// As many sockets as this machine lets us have, up to two thousand. Each takes two files: both ends are ours.
fn sockets_at_once() -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).expect("as many open files as we may have");
    let files = maximum.map_or(usize::MAX, |files| files as usize);
    (files.saturating_sub(500) / 2).min(2_000)
}
