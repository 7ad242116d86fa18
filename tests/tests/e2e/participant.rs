//! A participant with a log of its replies: whatever comes twice, late or in another order, what it did stands once or not at all.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use chassis::{Failure, OUTBOX_SQL, Parts, Service, Start};
use clap::Parser;
use envelope::{CloudEvent, Topology, split_batch, vocabulary};
use futures_util::future::join_all;
use saga::Direction;
use saga_runtime::participant::{Address, REPLIES_EXPIRE_SQL, REPLIES_SQL, ReplyLog, ReplySettings, StepHandler, WithReplyLog};
use serde::{Deserialize, Serialize};
use sqlx::migrate::Migrator;
use sqlx::{PgConnection, PgPool};
use stack::Stack;
use testkit::eventually;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

static MIGRATIONS: Migrator = Migrator::DEFAULT;
static TOPOLOGY: Topology = Topology { streams: &[], consumers: &[] };

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hold {
    trip: Uuid,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Free {
    trip: Uuid,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Held {
    trip: Uuid,
    seat: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Full {
    trip: Uuid,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Freed {
    trip: Uuid,
}

vocabulary! {
    /// What trips ask.
    pub enum Command {
        /// Hold a seat.
        "test.seat.hold.v1" => Hold(Hold),
        /// Give it back.
        "test.seat.free.v1" => Free(Free),
    }
}

vocabulary! {
    /// What they are answered.
    pub enum Reply {
        /// A seat is held.
        "test.seat.held.v1" => Held(Held),
        /// There is none.
        "test.seat.full.v1" => Full(Full),
        /// None is held (any more).
        "test.seat.freed.v1" => Freed(Freed),
    }
}

/// Holds seats. There is none for a trip whose id ends in zero.
struct Seats;

impl StepHandler for Seats {
    type Command = Command;
    type Reply = Reply;
    const NAME: &'static str = "hold_seats";
    const SOURCE: &'static str = "/test/seats";
    const REPLIES: &'static str = "replies.seats";

    fn address(command: &Command) -> Address {
        match command {
            Command::Hold(Hold { trip }) => Address { saga: *trip, step: "hold_seat", direction: Direction::Execute },
            Command::Free(Free { trip }) => Address { saga: *trip, step: "hold_seat", direction: Direction::Compensate },
        }
    }

    async fn execute(&self, tx: &mut PgConnection, commands: &[&Command]) -> anyhow::Result<Vec<Reply>> {
        let trips: Vec<Uuid> = commands.iter().map(|command| Self::address(command).saga).collect();
        let there_is_one: Vec<Uuid> = trips.iter().copied().filter(|trip| trip.as_u128() % 16 != 0).collect();
        let seats: Vec<(Uuid, i64)> = sqlx::query_as("insert into seats (trip) select unnest($1::uuid[]) returning trip, seat")
            .bind(there_is_one)
            .fetch_all(tx)
            .await?;
        let seats: BTreeMap<Uuid, i64> = seats.into_iter().collect();
        let reply = |trip: Uuid| seats.get(&trip).map_or(Full { trip }.into(), |seat| Held { trip, seat: *seat }.into());
        Ok(trips.into_iter().map(reply).collect())
    }

    async fn compensate(&self, tx: &mut PgConnection, executed: &[(&Command, &Reply)]) -> anyhow::Result<()> {
        let held = executed.iter().filter_map(|(_, reply)| if let Reply::Held(held) = reply { Some(held.seat) } else { None });
        let held: Vec<i64> = held.collect();
        let freed = sqlx::query("delete from seats where seat = any($1)").bind(&held).execute(tx).await?;
        anyhow::ensure!(freed.rows_affected() == held.len() as u64, "what was held is freed once");
        Ok(())
    }

    fn compensated(command: &Command) -> Option<Reply> {
        Some(Freed { trip: Self::address(command).saga }.into())
    }
}

#[derive(Parser)]
struct Settings {
    #[command(flatten)]
    parts: Parts,
}

/// Two instances of that participant on one database. They have no broker: what they reply stays in the outbox.
struct Fixture {
    _stack: Stack,
    database: PgPool,
    handler: Arc<WithReplyLog<Seats>>,
    instances: [Service; 2],
}

/// A command as it came, at one of the instances.
fn event(message: impl Into<Command>) -> CloudEvent<Command> {
    CloudEvent {
        id: Uuid::now_v7().to_string(),
        source: "/test/trips".into(),
        time: chrono::Utc::now(),
        subject: "a trip".to_owned(),
        trace: None,
        attempt: Some(1),
        message: message.into(),
    }
}

impl Fixture {
    async fn start() -> Self {
        let stack = Stack::start(stack::Options::for_tests()).await.expect("a stack");
        stack.postgres.create_database("seats").await.expect("a database");
        let url = stack.postgres.tcp_url("seats");
        let database = PgPool::connect(&url).await.expect("a connection");
        for sql in
            [OUTBOX_SQL, REPLIES_SQL, REPLIES_EXPIRE_SQL, "create table seats (seat bigserial primary key, trip uuid not null)"]
        {
            sqlx::raw_sql(sql).execute(&database).await.expect("a table");
        }
        let mut settings = Settings::parse_from(["test"]).parts;
        settings.broker.nats_url = "nats://127.0.0.1:1".to_owned().into();
        let mut instances = Vec::new();
        for _ in 0..2 {
            let start = Start {
                name: "seats",
                listener: TcpListener::bind("127.0.0.1:0").await.expect("a port"),
                database_url: &url.clone().into(),
                migrator: &MIGRATIONS,
                topology: &TOPOLOGY,
                settings: &settings,
                rebuild: None,
                shutdown: CancellationToken::new(),
            };
            instances.push(Service::start(start).await.expect("a service"));
        }
        let handler = Arc::new(WithReplyLog::new(Seats, &ReplyLog::new("replies")));
        let instances = instances.try_into().ok().expect("two");
        Self { _stack: stack, database, handler, instances }
    }

    /// Has an instance handle a batch, and returns what it replied.
    async fn batch(&self, instance: usize, commands: Vec<Command>) -> Vec<Reply> {
        let events: Vec<CloudEvent<Command>> = commands.into_iter().map(event).collect();
        let unit = self.instances[instance].unit_of_work();
        let mut items: Vec<&CloudEvent<Command>> = events.iter().collect();
        while !items.is_empty() {
            let results = unit.run(unit.permit().await, &*self.handler, &items).await.expect("no outage");
            // As the broker does, what the other instance was in the way of comes again.
            let again = items.into_iter().zip(results).filter_map(|(item, result)| match result {
                Ok(()) => None,
                Err(Failure::Busy(_) | Failure::Conflict(_)) => Some(item),
                Err(failure) => panic!("{failure:?}"),
            });
            items = again.collect();
        }
        let replies = self.replies().await;
        events.iter().map(|event| replies[&event.id].clone()).collect()
    }

    /// What was replied, by the ids of the commands.
    async fn replies(&self) -> BTreeMap<String, Reply> {
        let rows: Vec<(Vec<String>, Vec<Vec<u8>>)> =
            sqlx::query_as("select subjects, payloads from outbox").fetch_all(&self.database).await.unwrap();
        assert!(rows.iter().flat_map(|(subjects, _)| subjects).all(|subject| subject == Seats::REPLIES));
        let batches = rows.iter().flat_map(|(_, payloads)| payloads);
        let events =
            batches.flat_map(|batch| split_batch(batch).unwrap().into_iter().map(|json| CloudEvent::decode(json).unwrap()));
        events.map(|event: CloudEvent<Reply>| (event.id, event.message)).collect()
    }

    /// The trips that hold seats, and how many.
    async fn seats(&self) -> BTreeMap<Uuid, i64> {
        let rows: Vec<(Uuid, i64)> =
            sqlx::query_as("select trip, count(*) from seats group by trip").fetch_all(&self.database).await.unwrap();
        rows.into_iter().collect()
    }
}

/// A trip for which there is a seat.
fn trip() -> Uuid {
    Uuid::from_u128(Uuid::now_v7().as_u128() | 1)
}

fn hold(trip: Uuid) -> Command {
    Hold { trip }.into()
}

fn free(trip: Uuid) -> Command {
    Free { trip }.into()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_command_does_nothing_and_is_answered_as_it_was() {
    let fixture = Fixture::start().await;
    let (trip, full) = (trip(), Uuid::from_u128(0x100));
    let first = fixture.batch(0, vec![hold(trip), hold(full), hold(trip)]).await;
    assert!(matches!(first[0], Reply::Held(held) if held.trip == trip) && first[2] == first[0], "{first:?}");
    assert_eq!(first[1], Full { trip: full }.into());
    assert_eq!(fixture.batch(1, vec![hold(full), hold(trip)]).await, [first[1].clone(), first[0].clone()]);
    assert_eq!(fixture.seats().await, [(trip, 1)].into());

    let freed: Reply = Freed { trip }.into();
    assert_eq!(fixture.batch(1, vec![free(trip), free(trip), free(full)]).await[..2], [freed.clone(), freed.clone()]);
    assert_eq!(fixture.batch(0, vec![free(trip)]).await, [freed]);
    assert!(fixture.seats().await.is_empty(), "freed once: the participant would have failed the second time");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compensation_of_what_never_came_does_nothing_and_what_comes_after_it_neither() {
    let fixture = Fixture::start().await;
    let [one, two, three] = [trip(), trip(), trip()];
    let freed = |trip: Uuid| Reply::from(Freed { trip });
    // Before it, in the batch of it, and after what was held.
    assert_eq!(fixture.batch(0, vec![free(one)]).await, [freed(one)]);
    assert_eq!(fixture.batch(1, vec![hold(one), free(two), hold(two)]).await, [freed(one), freed(two), freed(two)]);
    let replies = fixture.batch(0, vec![hold(three), free(three), hold(three)]).await;
    assert!(fixture.seats().await.is_empty());
    assert_eq!(replies[1..], [freed(three), freed(three)]);
    assert_eq!(fixture.batch(1, vec![hold(three)]).await, [freed(three)], "a late command holds nothing again");
    assert!(fixture.seats().await.is_empty());
    let tombstones: i64 = sqlx::query_scalar("select count(*) from replies where direction = 'execute' and reply is null")
        .fetch_one(&fixture.database)
        .await
        .unwrap();
    assert_eq!(tombstones, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_undone_long_ago_is_forgotten_and_what_stands_or_was_undone_of_late_is_not() {
    let fixture = Fixture::start().await;
    let [stands, undone, never, of_late] = [trip(), trip(), trip(), trip()];
    fixture.batch(0, vec![hold(stands), hold(undone), free(undone), free(never), hold(of_late), free(of_late)]).await;
    sqlx::query("update replies set created_at = created_at - interval '2 days' where saga_id <> $1")
        .bind(of_late)
        .execute(&fixture.database)
        .await
        .unwrap();
    let settings = ReplySettings { replies_expire_after: Duration::from_secs(86_400) };
    ReplyLog::new("replies").expire(&fixture.instances[0], settings);
    let left = eventually(Duration::from_secs(20), || async {
        let left: Vec<(Uuid, String)> =
            sqlx::query_as("select saga_id, direction from replies").fetch_all(&fixture.database).await.unwrap();
        if left.len() <= 3 { Ok(left) } else { Err(left) }
    })
    .await;
    let expected = [(stands, "execute"), (of_late, "execute"), (of_late, "compensate")];
    let expected: BTreeSet<_> = expected.map(|(trip, direction)| (trip, direction.to_owned())).into();
    assert_eq!(left.into_iter().collect::<BTreeSet<_>>(), expected);
    assert_eq!(fixture.batch(1, vec![free(stands)]).await, [Freed { trip: stands }.into()], "and can still be undone");
    assert!(fixture.seats().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_instances_that_are_asked_at_once_do_it_once_and_leave_nothing_of_what_is_undone() {
    let fixture = Fixture::start().await;
    let (kept, undone): (Vec<Uuid>, Vec<Uuid>) = ((0..40).map(|_| trip()).collect(), (0..40).map(|_| trip()).collect());
    // Each instance is asked everything, in another order: the one to hold, the other to free what may not be held yet.
    let batches = (0..40).flat_map(|at| {
        let forwards = vec![hold(kept[at]), hold(undone[at]), free(undone[39 - at])];
        let backwards = vec![free(undone[at]), hold(kept[39 - at]), hold(undone[39 - at])];
        [fixture.batch(0, forwards), fixture.batch(1, backwards)]
    });
    join_all(batches).await;
    assert_eq!(fixture.seats().await, kept.iter().map(|trip| (*trip, 1)).collect());
    let replies = fixture.replies().await;
    for trip in &kept {
        let of_it: Vec<&Reply> =
            replies.values().filter(|reply| matches!(reply, Reply::Held(held) if held.trip == *trip)).collect();
        assert!(of_it.len() == 2 && of_it[0] == of_it[1], "{of_it:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tables_text_makes_the_table_that_the_services_have() {
    let fixture = Fixture::start().await;
    fixture._stack.postgres.create_database("migrated").await.expect("a database");
    let migrated = PgPool::connect(&fixture._stack.postgres.tcp_url("migrated")).await.expect("a connection");
    sqlx::migrate!("../migrations/user").run(&migrated).await.expect("the migrations of a service");
    let made = async |database: &PgPool| -> Vec<String> {
        sqlx::query_scalar(
            "select format('%s %s %s %s %s', attname, format_type(atttypid, atttypmod), attnotnull, attstorage, pg_get_expr(adbin, adrelid)) \
             from pg_attribute left join pg_attrdef on adrelid = attrelid and adnum = attnum \
             where attrelid = 'outbox'::regclass and attnum > 0 \
             union all select indexdef from pg_indexes where tablename = 'outbox' \
             union all select array_to_string(reloptions, ', ') from pg_class where oid = 'outbox'::regclass \
             order by 1",
        )
        .fetch_all(database)
        .await
        .unwrap()
    };
    assert_eq!(made(&fixture.database).await, made(&migrated).await);
}
