//! The harness itself.

use std::time::Instant;

use testkit::{Service, System};

#[tokio::test(flavor = "multi_thread")]
async fn an_order_is_carried_through_stops_kills_and_second_instances() {
    let began = Instant::now();
    let system = System::builder().impatient().never_giving_up().start().await;
    eprintln!("start: {:?}", began.elapsed());
    let (user, product) = (system.create_user(true).await, system.create_product(10, 1999).await);

    system.stop(Service::Product).await;
    let waiting = system.submit(user, &[(product, 1)]).await;
    assert_eq!(system.order(waiting).await["status"], "pending");
    system.start(Service::Product).await;
    assert_eq!(system.wait_final(waiting).await["status"], "confirmed");

    system.spawn_binary(Service::Order).await;
    let survivor = system.submit(user, &[(product, 2)]).await;
    system.kill(Service::Order).await;
    system.start(Service::Order).await;
    assert_eq!(system.wait_final(survivor).await["status"], "confirmed");

    let second = system.start_second(Service::Product).await;
    system.stop(Service::Product).await;
    let elsewhere = system.submit(user, &[(product, 3)]).await;
    assert_eq!(system.wait_final(elsewhere).await["status"], "confirmed");
    assert_eq!(second.client().get(&format!("/products/{product}")).await.expect(200)["stock"], 4);

    let audit = system.audit().await;
    assert_eq!((audit.orders, audit.confirmed), (3, 3));
}
