//! Processes that end in the middle, that are away for a while, and that start before what they need.

use std::collections::BTreeSet;
use std::time::Duration;

use reqwest::Method;
use testkit::{Answer, Service, System, eventually};

use testkit::Trickle;

const SOON: Duration = Duration::from_secs(20);

/// How a process ends.
#[derive(Clone, Copy)]
enum End {
    Sigterm,
    Sigkill,
}

/// Ends every process in turn while orders trickle in through the gateway, and at last all at once.
async fn end_every_process(how: End) {
    let system = System::builder().impatient().order(|order| order.sagas.timing.step_deadline = Some(SOON)).start().await;
    let (user, product) = (system.create_user(true).await, system.create_product(100_000, 100).await);
    for service in Service::ALL {
        system.spawn_binary(service).await;
    }
    let end = async |service| match how {
        End::Sigterm => system.stop(service).await,
        End::Sigkill => system.kill(service).await,
    };
    let mut pids: BTreeSet<u32> = Service::ALL.iter().filter_map(|service| system.instance(*service).pid()).collect();
    assert_eq!(pids.len(), 4, "four processes");

    let trickle = Trickle::begin(system.client(Service::Gateway), user, product);
    trickle.more(20).await;
    for service in Service::ALL {
        end(service).await;
        match service {
            // Those who are asked may be away: orders are taken all the same.
            Service::User | Service::Product => trickle.more(10).await,
            Service::Order | Service::Gateway => trickle.a_failure().await,
        }
        system.spawn_binary(service).await;
        pids.extend(system.instance(service).pid());
        trickle.more(10).await;
    }
    for service in [Service::Product, Service::Order, Service::User] {
        end(service).await;
    }
    trickle.a_failure().await;
    for service in [Service::Order, Service::User, Service::Product] {
        system.spawn_binary(service).await;
        pids.extend(system.instance(service).pid());
    }
    trickle.more(10).await;
    assert_eq!(pids.len(), 11, "each came back as another process");

    let tally = trickle.end().await;
    assert!(tally.failed > 0);
    tally.all_confirmed(system.audit().await);
    assert_eq!(system.stock(product).await.1, tally.orders.len() as i64);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_process_may_be_stopped_and_started_under_way() {
    end_every_process(End::Sigterm).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_process_may_be_killed_and_started_under_way() {
    end_every_process(End::Sigkill).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_are_taken_while_those_who_are_asked_are_away() {
    let system = System::builder().impatient().order(|order| order.sagas.timing.step_deadline = Some(SOON)).start().await;
    let (user, product) = (system.create_user(true).await, system.create_product(5, 100).await);
    system.stop(Service::User).await;
    system.stop(Service::Product).await;
    let gateway = system.client(Service::Gateway);
    for path in [format!("/users/{user}"), format!("/products/{product}")] {
        let answer = gateway.get(&path).await;
        assert_eq!(answer.status, 503, "{answer:#?}");
        assert!(!answer.header("retry-after").is_empty(), "{answer:#?}");
    }
    let body = testkit::order_body(user, &[(product, 1)]);
    let mut orders = Vec::new();
    for _ in 0..7 {
        orders.push(events::OrderId(testkit::id(&gateway.post("/orders", &body).await.expect(202))));
    }
    for order in &orders {
        assert_eq!(system.order(*order).await["status"], "pending");
    }
    system.start(Service::User).await;
    // Five go on to ask for stock, and all wait for it.
    eventually(SOON, || async {
        let asked = system.events("PRODUCT_COMMANDS").await;
        let orders: BTreeSet<String> = asked.iter().map(|command| command["subject"].to_string()).collect();
        if orders.len() == 7 { Ok(()) } else { Err(orders) }
    })
    .await;
    system.start(Service::Product).await;
    let audit = system.audit().await;
    assert_eq!((audit.orders, audit.confirmed, audit.rejected), (7, 5, 2), "five pieces, five orders");
}

#[tokio::test(flavor = "multi_thread")]
async fn services_start_in_any_order_before_there_is_a_broker_or_a_database() {
    let mut builder = System::builder().impatient();
    for service in Service::ALL {
        builder = builder.without(service);
    }
    let system = builder.start().await;
    system.stack.postgres.kill().expect("killed");
    system.stack.nats.kill().expect("killed");
    for service in [Service::Gateway, Service::Order, Service::Product, Service::User] {
        system.instance(service).launch();
    }
    let status = async |service: Service, path: &str| {
        Answer::try_of(system.client(service).request(Method::GET, path)).await.map_or(0, |answer| answer.status)
    };
    for service in Service::ALL {
        eventually(SOON, || async { if status(service, "/livez").await == 200 { Ok(()) } else { Err(service) } }).await;
        if service != Service::Gateway {
            assert_eq!(status(service, "/readyz").await, 503, "alive, and not ready: {service:?}");
        }
    }
    // A broker that holds nothing, and no database yet.
    system.stack.nats.wipe().await.expect("a broker");
    assert_eq!(status(Service::Order, "/readyz").await, 503);
    system.stack.postgres.restart().await.expect("a database");
    for service in Service::ALL {
        system.instance(service).ready().await;
    }
    let (user, product) = (system.create_user(true).await, system.create_product(5, 100).await);
    let order = system.submit(user, &[(product, 1)]).await;
    assert_eq!(system.wait_final(order).await["status"], "confirmed");
    assert_eq!(system.audit().await.confirmed, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_process_left_unsaid_is_said_after_it() {
    // No command is repeated: only what was written beside the orders can be said.
    let patience = Duration::from_secs(300);
    let settings = |settings: &mut testkit::Settings| {
        settings.order.sagas.timing.retry_first = Some(patience);
        settings.order.sagas.timing.retry_max = Some(patience);
        settings.order.sagas.timing.step_deadline = Some(patience);
        settings.order.sagas.timing.saga_deadline = patience;
    };
    let system = System::builder().impatient().settings(settings).start().await;
    let (user, product) = (system.create_user(true).await, system.create_product(100, 100).await);
    let unsaid = async || {
        let count: i64 = sqlx::query_scalar("select count(*) from outbox").fetch_one(&system.order_db).await.unwrap();
        count
    };
    system.spawn_binary(Service::Order).await;
    let said = system.submit(user, &[(product, 1)]).await;
    assert_eq!(system.wait_final(said).await["status"], "confirmed");
    eventually(SOON, || async { if unsaid().await == 0 { Ok(()) } else { Err("unsaid") } }).await;

    system.stack.nats.kill().expect("killed");
    let orders = system.submit_many(20, user, &[(product, 1)]).await;
    system.kill(Service::Order).await;
    assert!(unsaid().await > 0, "committed, and not said");
    system.stack.nats.restart().await.expect("a broker");
    assert_eq!(system.events("USER_COMMANDS").await.len(), 1, "the broker never heard of them");

    system.spawn_binary(Service::Order).await;
    for order in orders {
        assert_eq!(system.wait_final(order).await["status"], "confirmed");
    }
    let commands = system.events("USER_COMMANDS").await;
    assert_eq!(commands.len(), 21, "each asked once");
    assert!(commands.iter().all(|command| command["attempt"] == 1), "at the first attempt");
    assert_eq!(system.audit().await.confirmed, 21);
}
