//! A bad network of our own: a TCP proxy whose lines can be slow, deaf, narrow or cut.
//!
//! What is held is not lost: as with TCP over a network that drops packets, the bytes come late or the connection ends.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

/// Read at once.
const CHUNK: usize = 16 * 1024;

/// Chunks on their way in one direction of a connection: a slow line holds no more than this.
const ON_THE_WAY: usize = 64;

/// What happens to bytes in one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Lane {
    /// They come so much later.
    pub delay: Duration,
    /// And later again by up to this, at random, in their order.
    pub jitter: Duration,
    /// They wait until the line is whole again: a network that drops everything.
    pub hold: bool,
    /// So many a second come through.
    pub bytes_per_second: Option<u64>,
}

impl Lane {
    /// Nothing comes through.
    pub const HOLD: Self = Self { delay: Duration::ZERO, jitter: Duration::ZERO, hold: true, bytes_per_second: None };

    /// Everything comes late.
    pub const fn late(delay: Duration, jitter: Duration) -> Self {
        Self { delay, jitter, hold: false, bytes_per_second: None }
    }

    /// Little comes through at a time.
    pub const fn narrow(bytes_per_second: u64) -> Self {
        Self { delay: Duration::ZERO, jitter: Duration::ZERO, hold: false, bytes_per_second: Some(bytes_per_second) }
    }
}

/// Both directions of every connection.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Line {
    /// From the client to the server.
    pub up: Lane,
    /// From the server to the client.
    pub down: Lane,
}

impl Line {
    /// Nothing comes through in either direction, and nobody is told.
    pub const BLACK_HOLE: Self = Self { up: Lane::HOLD, down: Lane::HOLD };
}

/// A proxy before one server.
#[derive(Debug)]
pub struct Proxy {
    /// Where it listens on 127.0.0.1.
    pub port: u16,
    shared: Arc<Shared>,
    _accepting: AbortOnDropHandle<()>,
}

#[derive(Debug)]
struct Shared {
    target: SocketAddr,
    line: watch::Sender<Line>,
    /// Connections of an older generation are cut.
    generation: watch::Sender<u64>,
    cut_at_next_reply: AtomicBool,
    up: AtomicU64,
    down: AtomicU64,
    cuts: AtomicU64,
}

impl Proxy {
    /// Listens on a free port, for a server on this port of 127.0.0.1.
    pub async fn before(port: u16) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let shared = Arc::new(Shared {
            target: (Ipv4Addr::LOCALHOST, port).into(),
            line: watch::Sender::default(),
            generation: watch::Sender::default(),
            cut_at_next_reply: AtomicBool::default(),
            up: AtomicU64::default(),
            down: AtomicU64::default(),
            cuts: AtomicU64::default(),
        });
        let port = listener.local_addr()?.port();
        let accepting = AbortOnDropHandle::new(tokio::spawn(accept(listener, shared.clone())));
        Ok(Self { port, shared, _accepting: accepting })
    }

    /// From now on the line is like this.
    pub fn set(&self, line: Line) {
        self.shared.line.send_replace(line);
    }

    /// The line is whole: what was held comes through.
    pub fn heal(&self) {
        self.set(Line::default());
    }

    /// Cuts every connection, both ends at once (RST). New ones are let in.
    pub fn cut(&self) {
        self.shared.generation.send_modify(|generation| *generation += 1);
    }

    /// Cuts the connection on which the server says something next, before that arrives: what was asked for is done, and nobody hears so.
    pub fn cut_at_next_reply(&self) {
        self.shared.cut_at_next_reply.store(true, Ordering::SeqCst);
    }

    /// Connections cut so far.
    pub fn cuts(&self) -> u64 {
        self.shared.cuts.load(Ordering::SeqCst)
    }

    /// Bytes read so far from clients, whether or not they were passed on.
    pub fn bytes_up(&self) -> u64 {
        self.shared.up.load(Ordering::SeqCst)
    }

    /// Bytes read so far from the server, whether or not they were passed on.
    pub fn bytes_down(&self) -> u64 {
        self.shared.down.load(Ordering::SeqCst)
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        if let Ok((client, _)) = listener.accept().await {
            let shared = shared.clone();
            tokio::spawn(async move { serve(client, shared).await });
        }
    }
}

/// Carries one connection to its end.
async fn serve(client: TcpStream, shared: Arc<Shared>) {
    let mut generation = shared.generation.subscribe();
    let born = *generation.borrow_and_update();
    // A black hole answers no connection either.
    let mut line = shared.line.subscribe();
    tokio::select! {
        _ = line.wait_for(|line| !line.up.hold) => {}
        _ = generation.wait_for(|generation| *generation > born) => return reset(&client),
    }
    let Ok(server) = TcpStream::connect(shared.target).await else { return reset(&client) };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (client_reads, client_writes) = client.into_split();
    let (server_reads, server_writes) = server.into_split();
    let carried = tokio::select! {
        () = async {
            tokio::join!(carry(client_reads, server_writes, &shared, Way::Up), carry(server_reads, client_writes, &shared, Way::Down));
        } => false,
        _ = generation.wait_for(|generation| *generation > born) => true,
    };
    if carried {
        shared.cuts.fetch_add(1, Ordering::SeqCst);
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Way {
    Up,
    Down,
}

fn reset(stream: &TcpStream) {
    let _ = stream.set_zero_linger();
}

/// Carries bytes one way until their end, as the line lets them.
async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, shared: &Shared, way: Way) {
    // Closed by a cut, the sockets say RST and not FIN: nothing that was written is taken for the whole.
    let _ = (from.as_ref().set_zero_linger(), to.as_ref().set_zero_linger());
    let (queue, mut chunks) = mpsc::channel::<(Instant, Bytes)>(ON_THE_WAY);
    let line = shared.line.subscribe();
    let lane = |line: &watch::Receiver<Line>| match way {
        Way::Up => line.borrow().up,
        Way::Down => line.borrow().down,
    };
    let reading = async {
        let mut buffer = vec![0; CHUNK];
        while let Ok(read @ 1..) = from.read(&mut buffer).await {
            let count = if way == Way::Up { &shared.up } else { &shared.down };
            count.fetch_add(read as u64, Ordering::SeqCst);
            if way == Way::Down && shared.cut_at_next_reply.swap(false, Ordering::SeqCst) {
                shared.cuts.fetch_add(1, Ordering::SeqCst);
                return false;
            }
            let lane = lane(&line);
            let due = Instant::now() + lane.delay + lane.jitter.mul_f64(fastrand::f64());
            if queue.send((due, Bytes::copy_from_slice(&buffer[..read]))).await.is_err() {
                break;
            }
        }
        drop(queue);
        true
    };
    let writing = async {
        let mut whole = shared.line.subscribe();
        while let Some((due, chunk)) = chunks.recv().await {
            tokio::time::sleep_until(due).await;
            let held = |line: &Line| if way == Way::Up { line.up.hold } else { line.down.hold };
            let _ = whole.wait_for(|line| !held(line)).await;
            if let Some(rate) = lane(&whole).bytes_per_second {
                tokio::time::sleep(Duration::from_secs_f64(chunk.len() as f64 / rate.max(1) as f64)).await;
            }
            if to.write_all(&chunk).await.is_err() {
                return;
            }
        }
        let _ = to.shutdown().await;
    };
    tokio::pin!(reading, writing);
    tokio::select! {
        whole = &mut reading => if whole { writing.await },
        () = &mut writing => {}
    }
}
