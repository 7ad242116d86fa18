//! Lines that swallow or cut, messages that are lost, and messages that come three times.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_nats::header::NATS_MESSAGE_ID;
use async_nats::{Client, HeaderMap};
use chrono::Utc;
use events::Consumer;
use events::OrderId;
use events::streams::CONSUMERS;
use futures_util::StreamExt;
use futures_util::future::join_all;
use testkit::{Answer, Lane, Line, Service, System, eventually};
use uuid::Uuid;

use testkit::Trickle;

const SOON: Duration = Duration::from_secs(20);

/// Waits until a stream holds something about every one of these orders.
async fn said_about(system: &System, stream: &str, orders: &[OrderId]) {
    eventually(SOON, || async {
        let events = system.events(stream).await;
        let missing = orders.iter().filter(|order| !events.iter().any(|event| event["subject"] == order.to_string().as_str()));
        match missing.count() {
            0 => Ok(()),
            missing => Err(format!("{stream} says nothing about {missing} orders")),
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_lost_on_any_leg_is_said_again() {
    let system = System::builder().impatient().order(|order| order.sagas.timing.step_deadline = Some(SOON)).start().await;
    let (user, product) = (system.create_user(true).await, system.create_product(1_000, 100).await);
    let mut lost = 0;
    for (reader, stream) in [(Service::User, "USER_COMMANDS"), (Service::Product, "PRODUCT_COMMANDS")] {
        system.stop(reader).await;
        let orders = system.submit_many(10, user, &[(product, 1)]).await;
        said_about(&system, stream, &orders).await;
        lost += system.lose(stream).await;
        system.start(reader).await;
        assert_eq!(system.audit_databases().await.rejected, 0);
    }
    for (writer, commands, stream) in
        [(Service::User, "USER_COMMANDS", "USER_REPLIES"), (Service::Product, "PRODUCT_COMMANDS", "PRODUCT_REPLIES")]
    {
        // Asked; then the one who asks is away while the answer comes, and goes.
        system.stop(writer).await;
        let orders = system.submit_many(10, user, &[(product, 1)]).await;
        said_about(&system, commands, &orders).await;
        system.stop(Service::Order).await;
        system.start(writer).await;
        said_about(&system, stream, &orders).await;
        lost += system.lose(stream).await;
        system.start(Service::Order).await;
        assert_eq!(system.audit_databases().await.rejected, 0);
    }
    assert!(lost >= 4, "only {lost} messages were lost");
    let audit = system.audit().await;
    assert_eq!((audit.orders, audit.confirmed), (40, 40));
    assert_eq!(system.stock(product).await, (960, 40));
}

/// Holds a consumer back until messages have gathered before it, and loses them. Returns how many those were.
async fn lose_what_gathers(system: &System, consumer: &Consumer) -> u64 {
    let stream = system.jetstream().get_stream(consumer.stream).await.expect("the stream");
    stream.pause_consumer(consumer.name, Utc::now() + SOON).await.expect("paused");
    let gathered = eventually(SOON, || async {
        let gathered = stream.consumer_info(consumer.name).await.expect("the consumer").num_pending;
        if gathered >= 3 { Ok(gathered) } else { Err(gathered) }
    })
    .await;
    system.lose(consumer.stream).await;
    stream.resume_consumer(consumer.name).await.expect("resumed");
    gathered
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_lost_again_and_again_under_way_is_said_until_it_is_heard() {
    let system = System::builder().impatient().order(|order| order.sagas.timing.step_deadline = Some(SOON)).start().await;
    let (user, product) = (system.create_user(true).await, system.create_product(100_000, 100).await);
    let trickle = Trickle::begin(system.client(Service::Order), user, product);
    let mut lost = 0;
    for _ in 0..3 {
        for consumer in &CONSUMERS {
            lost += lose_what_gathers(&system, consumer).await;
            trickle.more(5).await;
        }
    }
    let tally = trickle.end().await;
    assert_eq!(tally.failed, 0, "the customers noticed nothing");
    tally.all_confirmed(system.audit().await);
    assert_eq!(system.stock(product).await.1, tally.orders.len() as i64);
    let again: i64 = sqlx::query_scalar("select count(*) from order_history where entry::json->'message'->>'due' is not null")
        .fetch_one(&system.order_db)
        .await
        .unwrap();
    assert!(lost >= 36 && again >= 36, "{lost} messages lost, {again} commands said again");
}

/// Publishes every batch twice more, under other message ids, until dropped. Counts the copies.
async fn copy_everything(nats: Client) -> (Arc<AtomicUsize>, tokio_util::task::AbortOnDropHandle<()>) {
    const COPY: &str = "Waybill-Test-Copy";
    let commands = nats.subscribe("commands.>").await.expect("subscribed");
    let replies = nats.subscribe("replies.>").await.expect("subscribed");
    nats.flush().await.expect("flushed");
    let count = Arc::new(AtomicUsize::new(0));
    let copies = count.clone();
    let task = tokio::spawn(async move {
        let mut all = futures_util::stream::select(commands, replies);
        while let Some(message) = all.next().await {
            let headers: HeaderMap = message.headers.unwrap_or_default();
            if headers.get(COPY).is_some() {
                continue;
            }
            for _ in 0..2 {
                let mut headers = headers.clone();
                headers.insert(COPY, "yes");
                headers.insert(NATS_MESSAGE_ID, Uuid::now_v7().to_string());
                nats.publish_with_headers(message.subject.clone(), headers, message.payload.clone()).await.expect("published");
                copies.fetch_add(1, Ordering::SeqCst);
            }
        }
    });
    (count, tokio_util::task::AbortOnDropHandle::new(task))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_three_times_happens_once() {
    let system = System::builder().impatient().order(|order| order.sagas.timing.step_deadline = Some(SOON)).start().await;
    let (copies, _copying) = copy_everything(system.nats().clone()).await;
    let (user, stranger) = (system.create_user(true).await, system.create_user(false).await);
    let (plenty, scarce) = (system.create_product(1_000, 100).await, system.create_product(20, 100).await);
    let mut cancelled = 0;
    for _ in 0..6 {
        let mut orders = system.submit_many(4, stranger, &[(plenty, 1)]).await;
        orders.extend(system.submit_many(8, user, &[(scarce, 1)]).await);
        orders.extend(system.submit_many(8, user, &[(plenty, 2)]).await);
        let statuses = join_all(orders.iter().step_by(4).map(|order| system.cancel(*order))).await;
        cancelled += statuses.iter().filter(|answer| answer.status == 202).count();
    }
    let audit = system.audit().await;
    assert_eq!((audit.orders, audit.cancelled), (120, cancelled), "{audit:?}");
    assert!(audit.confirmed > 30 && audit.rejected > 10 && cancelled > 0, "{audit:?}");

    let copies = copies.load(Ordering::SeqCst);
    assert!(copies >= 40, "only {copies} copies");
    let mut ignored = 0;
    for reason in ["repeated", "late", "unexpected", "final"] {
        ignored += system.ignored(reason).await;
    }
    assert!(ignored >= 200, "only {ignored} answers came again");
}

/// Waits until so many further orders are confirmed: more than were on their way.
async fn carried(system: &System, orders: i64) {
    let confirmed = async || {
        let count: i64 = sqlx::query_scalar("select count(*) from orders where status = 'confirmed'")
            .fetch_one(&system.order_db)
            .await
            .unwrap();
        count
    };
    let before = confirmed().await;
    eventually(SOON, || async {
        let now = confirmed().await;
        if now >= before + orders { Ok(()) } else { Err(format!("{} of {orders}", now - before)) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_that_are_cut_before_a_reply_or_swallow_it_leave_one_order_a_key() {
    let system = System::builder().impatient().never_giving_up().linked().start().await;
    let (user, product) = (system.create_user(true).await, system.create_product(100_000, 100).await);
    let trickle = Trickle::begin(system.client(Service::Order), user, product);
    trickle.more(10).await;
    for service in [Service::User, Service::Product, Service::Order] {
        for (what, line) in ["database", "broker"].into_iter().zip(system.links(service).both()) {
            let at = format!("the {} service's line to its {what}", service.name());
            let cuts = line.cuts();
            line.cut_at_next_reply();
            eventually(SOON, || async { if line.cuts() > cuts { Ok(()) } else { Err(format!("nothing comes on {at}")) } }).await;
            // Made anew: orders that had passed this service already may be carried without it.
            let down = line.bytes_down();
            eventually(SOON, || async { if line.bytes_down() > down { Ok(()) } else { Err(format!("nothing comes on {at}")) } })
                .await;
            carried(&system, 20).await;
            // Asked, and never answered; then what was on its way is lost.
            line.set(Line { up: Lane::default(), down: Lane::HOLD });
            let asked = line.bytes_up();
            eventually(SOON, || async {
                if line.bytes_up() > asked { Ok(()) } else { Err(format!("nothing goes out on {at}")) }
            })
            .await;
            line.cut();
            line.heal();
            carried(&system, 20).await;
        }
    }
    let tally = trickle.end().await;
    tally.all_confirmed(system.audit().await);
    assert_eq!(system.stock(product).await.1, tally.orders.len() as i64);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_that_swallows_everything_is_noticed_in_time_and_used_again_when_it_heals() {
    const DETECTED_WITHIN: Duration = Duration::from_secs(15);
    let system = System::builder().impatient().never_giving_up().linked().start().await;
    let (user, product) = (system.create_user(true).await, system.create_product(100_000, 100).await);
    let trickle = Trickle::begin(system.client(Service::Order), user, product);
    trickle.more(10).await;
    // Both at once: each is another service's, and neither keeps orders from being taken.
    let lines =
        [(Service::Product, &system.links(Service::Product).database), (Service::User, &system.links(Service::User).broker)];
    for (_, line) in &lines {
        line.set(Line::BLACK_HOLE);
    }
    for (service, _) in &lines {
        let request = || system.client(*service).request(reqwest::Method::GET, "/readyz");
        eventually(DETECTED_WITHIN, || async {
            match Answer::try_of(request()).await {
                Ok(answer) if answer.status == 200 => Err(format!("the {} service is ready", service.name())),
                _ => Ok(()),
            }
        })
        .await;
    }
    trickle.more(10).await;
    system.heal_links();
    for (service, _) in &lines {
        system.instance(*service).ready().await;
    }
    trickle.more(10).await;
    let tally = trickle.end().await;
    assert_eq!(tally.failed, 0, "the customers noticed nothing");
    tally.all_confirmed(system.audit().await);
}
