//! Messages that are lost, come three times, in another order, long after, or cannot be handled.

use std::time::{Duration, Instant};

use async_nats::header::NATS_MESSAGE_ID;
use chrono::Utc;
use events::Consumer;
use events::streams::{CONSUMERS, PRODUCT_REPLIES, RESERVE, USER_REPLIES, VALIDATE};
use testkit::{Said, System, eventually};
use uuid::Uuid;

use crate::run::Run;
use crate::scene::{Others, SOON, Scene, patient};

/// Messages that gather before a consumer that is held back.
const GATHERED: u64 = 6;

/// Of ten messages so many are lost.
const LOST_OF_TEN: u32 = 3;

/// What was done to messages on their way.
#[derive(Default)]
struct Harm {
    lost: usize,
    tripled: usize,
}

/// Holds a consumer back until messages have gathered before it; loses some, and puts each of the others there three times, in any order.
async fn harm(system: &System, consumer: &Consumer, rng: &mut fastrand::Rng) -> Harm {
    let stream = system.jetstream().get_stream(consumer.stream).await.expect("the stream");
    stream.pause_consumer(consumer.name, Utc::now() + SOON).await.expect("paused");
    let delivered = eventually(SOON, || async {
        let info = stream.consumer_info(consumer.name).await.expect("the consumer");
        if info.num_pending >= GATHERED { Ok(info.delivered.stream_sequence) } else { Err(info.num_pending) }
    })
    .await;
    let waiting: Vec<Said> = system.said(consumer.stream).await.into_iter().filter(|said| said.sequence > delivered).collect();
    let mut harm = Harm::default();
    let mut again = Vec::new();
    for said in &waiting {
        stream.delete_message(said.sequence).await.expect("deleted");
        if rng.u32(..10) < LOST_OF_TEN {
            harm.lost += 1;
        } else {
            harm.tripled += 1;
            again.extend([said; 3]);
        }
    }
    rng.shuffle(&mut again);
    for said in again {
        system.say_again(said).await;
    }
    stream.resume_consumer(consumer.name).await.expect("resumed");
    harm
}

pub async fn dropped_reordered_tripled(run: Run) {
    let mut rng = run.rng();
    let mut scene = Scene::begin(&run, patient()).await;
    let (mut lost, mut tripled) = (0, 0);
    for lap in 0..run.times {
        let harm = harm(&scene.system, &CONSUMERS[lap % CONSUMERS.len()], &mut rng).await;
        (lost, tripled) = (lost + harm.lost, tripled + harm.tripled);
        if harm.lost + harm.tripled > 0 {
            run.fired();
        }
        scene.well(Instant::now()).await;
    }
    assert!(lost >= run.times && tripled >= run.times, "{lost} messages lost, {tripled} tripled");
    run.note(format!("{lost} messages lost, {tripled} tripled and shuffled"));
    scene.end().await;
}

fn subject(consumer: &Consumer) -> &'static str {
    match consumer.stream {
        "USER_COMMANDS" => VALIDATE,
        "PRODUCT_COMMANDS" => RESERVE,
        "USER_REPLIES" => USER_REPLIES,
        "PRODUCT_REPLIES" => PRODUCT_REPLIES,
        other => panic!("a stream without a subject here: {other}"),
    }
}

/// An order of so many pieces makes the product service's handler fail, and its alone.
const UNLUCKY: i64 = 13;

pub async fn poison(run: Run) {
    let mut rng = run.rng();
    let mut scene = Scene::begin(&run, patient()).await;
    for statement in [
        "create function unlucky() returns trigger language plpgsql as $$ begin \
         if new.items::text like '%\"quantity\":13,%' or new.items::text like '%\"quantity\": 13,%' then \
           raise exception 'unlucky' using errcode = 'P0001'; end if; return new; end $$",
        "create trigger unlucky before insert on reservations for each row execute function unlucky()",
    ] {
        sqlx::raw_sql(statement).execute(&scene.system.product_db).await.expect("a trigger");
    }
    let mut unlucky = Vec::new();
    for lap in 0..run.times {
        let letters = letters(&scene.system).await;
        let consumer = &CONSUMERS[lap % CONSUMERS.len()];
        let garbage: Vec<u8> = match lap % 3 {
            0 => (0..rng.usize(..2_000)).map(|_| rng.u8(..)).collect(),
            1 => b"[{\"no\":\"event\"},7,null]".to_vec(),
            _ => b"{}".to_vec(),
        };
        let fault = Instant::now();
        let sent = scene.system.jetstream().publish(subject(consumer), garbage.into()).await.expect("sent");
        sent.await.expect("stored");
        if lap % 5 == 0 {
            unlucky.push(scene.system.submit(scene.user, &[(scene.product, UNLUCKY)]).await);
        }
        eventually(SOON, || async { if self::letters(&scene.system).await > letters { Ok(()) } else { Err("no dead letter") } })
            .await;
        run.detected(fault.elapsed());
        run.fired();
        scene.well(fault).await;
    }
    eventually(SOON, || async {
        let said = scene.system.said("DEAD_LETTERS").await;
        let failed = said.iter().filter(|letter| letter.header("Waybill-Reason").contains("unlucky")).count();
        if failed >= unlucky.len() { Ok(()) } else { Err(format!("{failed} of {} failing commands", unlucky.len())) }
    })
    .await;
    for order in &unlucky {
        assert_eq!(scene.system.order(*order).await["status"], "pending", "asked again, not given up");
    }
    sqlx::raw_sql("drop trigger unlucky on reservations").execute(&scene.system.product_db).await.expect("dropped");
    for order in &unlucky {
        assert_eq!(scene.system.wait_final(*order).await["status"], "confirmed");
    }
    run.note(format!("{} orders failed alone until their cause was gone", unlucky.len()));
    let pieces = unlucky.len() as i64 * UNLUCKY;
    scene.end_among(Others { confirmed: unlucky.len(), pieces, ..Others::default() }).await;
}

async fn letters(system: &System) -> u64 {
    system.jetstream().get_stream("DEAD_LETTERS").await.expect("the stream").cached_info().state.messages
}

/// The windows of this row: a redelivery after half a minute would be one after half an hour.
const WINDOW: Duration = Duration::from_millis(200);

pub async fn long_after(run: Run) {
    let mut rng = run.rng();
    let mut scene = Scene::begin(&run, patient()).await;
    scene.system.stop_keeping_topology().await;
    for consumer in &CONSUMERS {
        let stream = scene.system.jetstream().get_stream(consumer.stream).await.expect("the stream");
        let mut config = stream.cached_info().config.clone();
        config.duplicate_window = WINDOW;
        scene.system.jetstream().update_stream(config).await.expect("changed");
    }
    let mut again = 0;
    for _ in 0..run.times {
        let consumer = &CONSUMERS[rng.usize(..CONSUMERS.len())];
        let stored = eventually(SOON, || async {
            let said = scene.system.said(consumer.stream).await;
            let old: Vec<&Said> = said.iter().filter(|said| old_enough(said)).take(10).collect();
            let mut stored = 0;
            for said in old {
                // With the very id it had.
                let (subject, headers, payload) = (said.subject.clone(), said.headers.clone(), said.payload.clone());
                let sent = scene.system.jetstream().publish_with_headers(subject, headers, payload).await.expect("sent");
                stored += usize::from(!sent.await.expect("stored").duplicate);
            }
            if stored > 0 { Ok(stored) } else { Err("nothing is old enough") }
        })
        .await;
        again += stored;
        run.fired();
        scene.well(Instant::now()).await;
    }
    run.note(format!("{again} messages stored again under their ids"));
    scene.end().await;
}

/// Whether a message was stored before the window began.
fn old_enough(said: &Said) -> bool {
    let id = said.header(NATS_MESSAGE_ID.as_ref()).split('/').next().unwrap_or_default();
    let made = id.parse::<Uuid>().ok().and_then(|id| id.get_timestamp()).map(|time| time.to_unix().0);
    made.is_none_or(|seconds| (Utc::now().timestamp() - seconds as i64) > 1)
}
