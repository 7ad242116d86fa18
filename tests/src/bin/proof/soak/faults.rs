//! Faults at random, several at once, each in its own log line.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::Utc;
use events::streams::{CONSUMERS, ORDER_EVENTS, PRODUCT_REPLIES, RESERVE, STREAMS, USER_REPLIES, VALIDATE};
use rustix::process::Signal;
use testkit::{Lane, Line, Service};
use tokio::io::AsyncWriteExt as _;
use tokio::task::JoinSet;

use crate::rows::broker::copy;
use crate::soak::fleet::Fleet;
use crate::soak::log::Log;

/// Part of every bad message that is sent on purpose: what is found among the dead letters must bear it.
pub const ON_PURPOSE: &str = "bad on purpose";

/// How long a process may take to stop by itself. Longer is noted; it breaks no invariant.
const STOPS_WITHIN: Duration = Duration::from_secs(15);

/// The kinds, each with its weight.
const KINDS: [(&str, u32); 27] = [
    ("kill", 8),
    ("stop", 3),
    ("freeze", 10),
    ("black hole", 6),
    ("one way", 6),
    ("late", 5),
    ("narrow", 3),
    ("cut", 12),
    ("cut at reply", 12),
    ("broker killed", 2),
    ("broker frozen", 3),
    ("broker wiped", 1),
    ("broker restored", 1),
    ("stream purged", 2),
    ("stream deleted", 2),
    ("database killed", 1),
    ("database frozen", 3),
    ("database clock", 2),
    ("backends ended", 12),
    ("row locked", 8),
    ("consumer deleted", 2),
    ("consumer held", 5),
    ("messages lost", 8),
    ("messages again", 10),
    ("garbage", 4),
    ("hang up", 20),
    ("clock", 6),
];

/// Makes faults happen for a while, so many at once.
pub async fn strike(fleet: &Arc<Fleet>, actors: usize, seed: u64, chaos: Duration, only: &[String], log: &Log) {
    let kinds: Vec<(&'static str, u32)> =
        KINDS.into_iter().filter(|(kind, _)| only.is_empty() || only.iter().any(|wanted| wanted == kind)).collect();
    assert!(!kinds.is_empty(), "the kinds are {:?}", KINDS.map(|(kind, _)| kind));
    let until = Instant::now() + chaos;
    let mut all = JoinSet::new();
    for number in 0..actors {
        let rng = fastrand::Rng::with_seed(seed ^ (number as u64 + 1) << 48);
        let actor = Actor { fleet: fleet.clone(), rng, log: log.clone() };
        all.spawn(actor.act(kinds.clone(), until));
    }
    while let Some(ended) = all.join_next().await {
        if let Err(error) = ended {
            log.violated(format!("a fault could not be made: {}", crate::run::words(error)));
        }
    }
}

struct Actor {
    fleet: Arc<Fleet>,
    rng: fastrand::Rng,
    log: Log,
}

impl Actor {
    async fn act(mut self, kinds: Vec<(&'static str, u32)>, until: Instant) {
        let sum: u32 = kinds.iter().map(|(_, weight)| weight).sum();
        while Instant::now() < until {
            let mut drawn = self.rng.u32(..sum);
            let kind = kinds.iter().find(|(_, weight)| drawn.checked_sub(*weight).map(|left| drawn = left).is_none());
            self.strike(kind.expect("the weights add up").0).await;
            tokio::time::sleep(self.for_up_to(250)).await;
        }
    }

    /// A short time, more often shorter than longer.
    fn for_up_to(&mut self, milliseconds: u64) -> Duration {
        let share = self.rng.f64();
        Duration::from_millis((milliseconds as f64 * share * share) as u64)
    }

    async fn strike(&mut self, kind: &'static str) {
        match kind {
            "kill" | "stop" | "freeze" | "clock" => self.member(kind).await,
            "black hole" | "one way" | "late" | "narrow" | "cut" | "cut at reply" => self.line(kind).await,
            "broker killed" | "broker frozen" | "broker wiped" | "broker restored" => self.broker(kind).await,
            "stream purged" | "stream deleted" => self.stream(kind).await,
            "database killed" | "database frozen" | "database clock" => self.database(kind).await,
            "backends ended" => self.backends(kind).await,
            "row locked" => self.row(kind).await,
            "consumer deleted" | "consumer held" => self.consumer(kind).await,
            "messages lost" | "messages again" => self.messages(kind).await,
            "garbage" => self.garbage(kind).await,
            "hang up" => self.hang_up(kind).await,
            other => unreachable!("{other}"),
        }
    }

    /// A process is killed, stopped or frozen, or its clock jumps.
    async fn member(&mut self, kind: &'static str) {
        let fleet = self.fleet.clone();
        let member = &fleet.members[self.rng.usize(..fleet.members.len())];
        let Ok(_guard) = member.lock.try_lock() else { return };
        if let Some(status) = member.instance.ended() {
            self.log.violated(format!("{} ended by itself: {status}", member.name));
            member.instance.kill().await;
            return member.instance.launch_binary();
        }
        let rest = self.for_up_to(1_500);
        match kind {
            "kill" => {
                member.instance.kill().await;
                self.log.fired(kind, format!("{} for {rest:?}", member.name));
                tokio::time::sleep(rest).await;
                member.instance.launch_binary();
                // One that is killed again and again before it is up does nothing.
                tokio::time::sleep(Duration::from_millis(700)).await;
            }
            "stop" => {
                self.log.fired(kind, &member.name);
                match member.instance.stop_within(STOPS_WITHIN).await {
                    None => self.log.say(format!("{} did not stop within {STOPS_WITHIN:?} and was killed", member.name)),
                    Some(status) if !status.success() => {
                        self.log.violated(format!("{} ended badly when it was told to stop: {status}", member.name));
                    }
                    Some(_) => {}
                }
                member.instance.launch_binary();
                tokio::time::sleep(Duration::from_millis(700)).await;
            }
            "freeze" => {
                self.log.fired(kind, format!("{} for {rest:?}", member.name));
                member.instance.signal(Signal::STOP);
                tokio::time::sleep(rest).await;
                member.instance.signal(Signal::CONT);
            }
            _ => {
                let Some(clock) = &member.clock else { return };
                let offset = self.offset();
                self.log.fired(kind, format!("{} {offset:+} s", member.name));
                clock.step(offset).expect("stepped");
            }
        }
    }

    /// By how many seconds a clock is off.
    fn offset(&mut self) -> i64 {
        [3_600, -3_600, 86_400, -86_400, 0][self.rng.usize(..5)]
    }

    async fn line(&mut self, kind: &'static str) {
        let fleet = self.fleet.clone();
        let number = self.rng.usize(..fleet.lines.len());
        let Ok(_guard) = fleet.lines[number].try_lock() else { return };
        let (service, to, proxy) = fleet.line(number);
        let late = Lane::late(self.for_up_to(2_000), self.for_up_to(1_000));
        let line = match kind {
            "black hole" => Line::BLACK_HOLE,
            "one way" if self.rng.bool() => Line { up: Lane::HOLD, down: Lane::default() },
            "one way" => Line { up: Lane::default(), down: Lane::HOLD },
            "late" => Line { up: late, down: late },
            "narrow" => Line { up: Lane::narrow(20_000), down: Lane::narrow(20_000) },
            _ => Line::default(),
        };
        let rest = self.for_up_to(3_000);
        self.log.fired(kind, format!("{} to {to} for {rest:?}", service.name()));
        match kind {
            "cut" => proxy.cut(),
            "cut at reply" => proxy.cut_at_next_reply(),
            _ => {
                proxy.set(line);
                tokio::time::sleep(rest).await;
                if self.rng.u32(..3) == 0 {
                    proxy.cut(); // what was on its way never arrives
                }
                proxy.heal();
            }
        }
    }

    async fn broker(&mut self, kind: &'static str) {
        let fleet = self.fleet.clone();
        let Ok(_guard) = fleet.broker.try_lock() else { return };
        let rest = self.for_up_to(3_000);
        self.log.fired(kind, format!("for {rest:?}"));
        let nats = &fleet.system.stack.nats;
        let (store, old) = (nats.store().expect("it was started here"), &fleet.old_store);
        let since = Utc::now();
        match kind {
            "broker killed" => {
                nats.kill().expect("it ran");
                tokio::time::sleep(rest).await;
                // What may be restored one day.
                if self.rng.bool() {
                    copy(store, old);
                    self.log.say("the broker's store was copied");
                }
                nats.restart().await.expect("a broker");
            }
            "broker wiped" => {
                nats.wipe().await.expect("an empty broker");
                self.log.lost_since(since);
            }
            "broker restored" => {
                nats.kill().expect("it ran");
                tokio::time::sleep(rest).await;
                copy(old, store);
                nats.restart().await.expect("a broker");
                self.log.lost_since(since);
            }
            _ => {
                nats.pause().expect("it ran");
                tokio::time::sleep(rest).await;
                nats.resume().expect("it is there");
            }
        }
    }

    /// Somebody deletes a stream, or empties it, or all but the newest of it; half of the time that of the order events.
    async fn stream(&mut self, kind: &'static str) {
        let name = if self.rng.bool() { ORDER_EVENTS } else { STREAMS[self.rng.usize(..STREAMS.len())].name };
        let keep = self.rng.bool().then(|| self.rng.u64(1..20));
        let (since, jetstream) = (Utc::now(), self.fleet.system.jetstream());
        let done = if kind == "stream deleted" {
            jetstream.delete_stream(name).await.is_ok()
        } else {
            let Ok(stream) = jetstream.get_stream(name).await else { return };
            match keep {
                None => stream.purge().await.is_ok(),
                Some(keep) => stream.purge().keep(keep).await.is_ok(),
            }
        };
        // An answer that was lost says nothing.
        if name == ORDER_EVENTS {
            self.log.lost_since(since);
        }
        if done {
            self.log.fired(kind, format!("{name}{}", keep.map(|keep| format!(", {keep} kept")).unwrap_or_default()));
        }
    }

    async fn database(&mut self, kind: &'static str) {
        let fleet = self.fleet.clone();
        let Ok(_guard) = fleet.database.try_lock() else { return };
        let (rest, offset) = (self.for_up_to(2_000), self.offset());
        self.log.fired(kind, if kind == "database clock" { format!("{offset:+} s") } else { format!("for {rest:?}") });
        let postgres = &fleet.system.stack.postgres;
        if kind == "database clock" {
            return postgres.step_clock(offset).expect("stepped");
        }
        if kind == "database killed" {
            postgres.kill().expect("it ran");
            tokio::time::sleep(rest).await;
            postgres.restart().await.expect("a database");
        } else {
            postgres.pause().expect("it ran");
            tokio::time::sleep(rest).await;
            postgres.resume().expect("it is there");
        }
    }

    /// A service's database, for faults inside it.
    fn pool(&mut self) -> (&'static str, sqlx::PgPool) {
        let system = &self.fleet.system;
        match self.rng.usize(..3) {
            0 => ("user", system.user_db.clone()),
            1 => ("product", system.product_db.clone()),
            _ => ("order", system.order_db.clone()),
        }
    }

    /// An administrator ends some sessions.
    async fn backends(&mut self, kind: &'static str) {
        let (name, pool) = self.pool();
        let share = self.rng.f64();
        let ended: Result<i64, _> = sqlx::query_scalar(
            "select count(pg_terminate_backend(pid)) from pg_stat_activity \
             where datname = current_database() and application_name like 'waybill-%' and random() < $1",
        )
        .bind(share)
        .fetch_one(&pool)
        .await;
        if let Ok(ended @ 1..) = ended {
            self.log.fired(kind, format!("{ended} of {name}"));
        }
    }

    /// Somebody holds rows that a service wants.
    async fn row(&mut self, kind: &'static str) {
        let (name, pool) = self.pool();
        let rest = self.for_up_to(3_000);
        let statement = match name {
            "user" => "select id from users order by random() limit 1 for update",
            "product" => "select id from products order by random() limit 1 for update",
            _ => "select id from orders where not settled order by random() limit 3 for update",
        };
        let Ok(mut transaction) = pool.begin().await else { return };
        if sqlx::query(statement).execute(&mut *transaction).await.is_ok_and(|locked| locked.rows_affected() > 0) {
            self.log.fired(kind, format!("of {name} for {rest:?}"));
            tokio::time::sleep(rest).await;
        }
        let _ = transaction.rollback().await;
    }

    async fn consumer(&mut self, kind: &'static str) {
        let consumer = &CONSUMERS[self.rng.usize(..CONSUMERS.len())];
        let Ok(stream) = self.fleet.system.jetstream().get_stream(consumer.stream).await else { return };
        if kind == "consumer deleted" {
            if stream.delete_consumer(consumer.name).await.is_ok() {
                self.log.fired(kind, format!("{} of {}", consumer.name, consumer.stream));
            }
            return;
        }
        let rest = self.for_up_to(3_000);
        if stream.pause_consumer(consumer.name, Utc::now() + rest).await.is_ok() {
            self.log.fired(kind, format!("{} of {} for {rest:?}", consumer.name, consumer.stream));
        }
    }

    /// Some of the last messages of a stream are lost, or old ones come again under new ids.
    async fn messages(&mut self, kind: &'static str) {
        let name = match CONSUMERS.get(self.rng.usize(..=CONSUMERS.len())) {
            Some(consumer) => consumer.stream,
            None => ORDER_EVENTS,
        };
        let (since, jetstream) = (Utc::now(), self.fleet.system.jetstream());
        let Ok(stream) = jetstream.get_stream(name).await else { return };
        let state = &stream.cached_info().state;
        let (first, last) = (state.first_sequence.max(1), state.last_sequence);
        if last <= first {
            return;
        }
        let mut done = 0;
        for _ in 0..self.rng.usize(1..8) {
            if kind == "messages lost" {
                let sequence = self.rng.u64(last.saturating_sub(5).max(first)..=last);
                done += usize::from(stream.delete_message(sequence).await.is_ok());
            } else if let Ok(message) = stream.direct_get(self.rng.u64(first..=last)).await {
                let mut headers = message.headers;
                headers.insert(async_nats::header::NATS_MESSAGE_ID, uuid::Uuid::now_v7().to_string());
                done += usize::from(jetstream.publish_with_headers(message.subject, headers, message.payload).await.is_ok());
            }
        }
        if kind == "messages lost" && name == ORDER_EVENTS {
            self.log.lost_since(since);
        }
        if done > 0 {
            self.log.fired(kind, format!("{done} of {name}"));
        }
    }

    async fn garbage(&mut self, kind: &'static str) {
        let consumer = &CONSUMERS[self.rng.usize(..CONSUMERS.len())];
        let subject = match consumer.stream {
            "USER_COMMANDS" => VALIDATE,
            "PRODUCT_COMMANDS" => RESERVE,
            "USER_REPLIES" => USER_REPLIES,
            _ => PRODUCT_REPLIES,
        };
        let payload = match self.rng.usize(..3) {
            0 => ON_PURPOSE.to_owned(),
            1 => format!("[{{\"no\":\"{ON_PURPOSE}\"}},\"{ON_PURPOSE}\"]"),
            _ => format!("{{\"{ON_PURPOSE}\":[]}}"),
        };
        if self.fleet.system.jetstream().publish(subject, payload.into()).await.is_ok() {
            self.log.fired(kind, format!("on {subject}"));
        }
    }

    /// A client says that it will send a request, sends a part of it, and goes.
    async fn hang_up(&mut self, kind: &'static str) {
        let service = [Service::Order, Service::Gateway][self.rng.usize(..2)];
        let port = self.fleet.members[service as usize * 2 + self.rng.usize(..2)].instance.port;
        let body = r#"{"user_id":"0190a5c8-7e5c-7cc0-8000-000000000002","items":[]}"#;
        let head = "POST /orders HTTP/1.1\r\nHost: waybill\r\nContent-Type: application/json\r\nContent-Length:";
        let request = format!("{head} {}\r\n\r\n{body}", body.len());
        let length = self.rng.usize(1..=request.len());
        let Ok(mut socket) = tokio::net::TcpStream::connect(("127.0.0.1", port)).await else { return };
        if socket.write_all(&request.as_bytes()[..length]).await.is_ok() {
            self.log.fired(kind, format!("{} after {length} bytes", service.name()));
        }
        tokio::time::sleep(self.for_up_to(200)).await;
    }
}
