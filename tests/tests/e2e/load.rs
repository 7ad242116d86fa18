//! Many at once: batches form, stock is never oversold, and two of everything do the work of one.

use std::collections::BTreeMap;

use events::{OrderId, ProductId, UserId};
use futures_util::StreamExt;
use futures_util::future::join_all;
use serde_json::{Value, json};
use stack::Port;
use testkit::{Client, Service, System, id, order_body};

/// Requests under way at once.
const AT_ONCE: usize = 500;

/// Places orders side by side, all of which must be taken.
async fn place(clients: &[Client], bodies: Vec<Value>) -> Vec<OrderId> {
    let requests = bodies.into_iter().enumerate().map(|(index, body)| {
        let client = clients[index % clients.len()].clone();
        async move { OrderId(id(&client.post("/orders", &body).await.expect(202))) }
    });
    futures_util::stream::iter(requests).buffered(AT_ONCE).collect().await
}

/// How orders ended: by status and reason.
async fn ends(system: &System) -> BTreeMap<String, i64> {
    let rows: Vec<(String, i64)> =
        sqlx::query_as("select concat_ws(' ', status, reason->>'code'), count(*) from orders group by 1")
            .fetch_all(&system.order_db)
            .await
            .unwrap();
    rows.into_iter().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn of_500_buyers_of_the_last_unit_exactly_one_gets_it() {
    let system = System::new().await;
    let users: Vec<UserId> = join_all((0..AT_ONCE).map(|_| system.create_user(true))).await;
    let product = system.create_product(1, 1999).await;
    place(&[system.client(Service::Order)], users.iter().map(|user| order_body(*user, &[(product, 1)])).collect()).await;

    let audit = system.audit().await;
    assert_eq!((audit.orders, audit.confirmed, audit.rejected), (500, 1, 499));
    assert_eq!(ends(&system).await, [("confirmed".into(), 1), ("rejected insufficient_stock".into(), 499)].into());
    assert_eq!(system.stock(product).await, (0, 1));
    // The load decided the batches: far fewer messages than orders, on every leg.
    for stream in ["USER_COMMANDS", "USER_REPLIES", "PRODUCT_COMMANDS", "PRODUCT_REPLIES"] {
        let sizes: Vec<usize> = system.said(stream).await.iter().map(|said| said.json().as_array().unwrap().len()).collect();
        assert!(sizes.iter().sum::<usize>() >= AT_ONCE, "{stream}: {sizes:?}");
        assert!(sizes.iter().max() > Some(&8) && sizes.len() < AT_ONCE / 4, "{stream} has hardly any batches: {sizes:?}");
        assert!(sizes.iter().all(|size| *size <= events::BATCH_MAX_EVENTS), "{stream}: {sizes:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_over_hot_products_add_up() {
    let system = System::new().await;
    let user = system.create_user(true).await;
    let mut products: Vec<ProductId> = Vec::new();
    for price in [100, 250, 999] {
        products.push(system.create_product(220, price).await);
    }
    // Two lines each, in either order, one and two pieces: 300 pieces of each are wanted, 220 are there.
    let body = |n: usize| order_body(user, &[(products[n % 3], 1), (products[(n + 1 + n / 3 % 2) % 3], 2)]);
    place(&[system.client(Service::Order)], (0..300).map(body).collect()).await;

    let audit = system.audit().await;
    assert_eq!(audit.orders, 300);
    assert!(audit.confirmed >= 200 && audit.rejected >= 1, "{audit:?}");
    let mut left = 0;
    for product in &products {
        let (stock, reserved) = system.stock(*product).await;
        assert_eq!(stock + reserved, 220);
        left += stock;
    }
    assert_eq!(audit.confirmed as i64 * 3 + left, 660, "every piece is sold or there");
    let totals: i64 = sqlx::query_scalar("select sum(total)::bigint from orders").fetch_one(&system.order_db).await.unwrap();
    let held: i64 =
        sqlx::query_scalar("select sum(reserved * price)::bigint from products").fetch_one(&system.product_db).await.unwrap();
    assert_eq!(totals, held, "what is paid is what is held");
}

/// Messages each connection of a service has sent to the broker, by the connection's id.
async fn sent(system: &System, name: &str) -> BTreeMap<u64, i64> {
    let url = format!("{}/connz?limit=1024", system.stack.nats.monitor_url().expect("monitoring is on"));
    let connections: Value = serde_json::from_str(&reqwest::get(url).await.unwrap().text().await.unwrap()).unwrap();
    let of_service = connections["connections"].as_array().unwrap().iter().filter(|connection| connection["name"] == name);
    of_service.map(|connection| (connection["cid"].as_u64().unwrap(), connection["in_msgs"].as_i64().unwrap())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_instances_of_every_service_share_the_work_and_keep_every_invariant() {
    const WITH_A_DATABASE: [&str; 3] = ["waybill-user", "waybill-product", "waybill-order"];
    let system = System::builder().impatient().stack(|stack| stack.nats.monitor_port = Some(Port::FREE)).start().await;
    let mut orders = vec![system.client(Service::Order)];
    for service in Service::ALL {
        let second = system.start_second(service).await;
        if service == Service::Order {
            orders.push(second.client());
        }
    }
    let (user, stranger) = (system.create_user(true).await, system.create_user(false).await);
    let (plenty, scarce) = (system.create_product(10_000, 100).await, system.create_product(60, 100).await);
    let mut before = BTreeMap::new();
    for name in WITH_A_DATABASE {
        let sent = sent(&system, name).await;
        assert_eq!(sent.len(), 2, "{name}");
        before.extend(sent);
    }

    let body = |n: usize| match n % 10 {
        0 => order_body(stranger, &[(plenty, 1)]),
        1..4 => order_body(user, &[(scarce, 1), (plenty, 1)]),
        _ => order_body(user, &[(plenty, 2)]),
    };
    let mut cancelled = 0;
    // In waves, so that there is more than one batch for each to win.
    for wave in 0..10 {
        let placed = place(&orders, (wave * 50..wave * 50 + 50).map(body).collect()).await;
        let cancels = placed.iter().step_by(5).enumerate().map(|(n, order)| {
            let (client, path) = (orders[n % 2].clone(), format!("/orders/{order}/cancel"));
            async move { client.post(&path, &json!({})).await.status }
        });
        let statuses = join_all(cancels).await;
        assert!(statuses.iter().all(|status| [202, 409].contains(status)), "{statuses:?}");
        cancelled += statuses.iter().filter(|status| **status == 202).count();
    }
    let audit = system.audit().await;
    assert_eq!((audit.orders, audit.cancelled), (500, cancelled));
    assert!(cancelled > 0 && audit.confirmed > 200 && audit.rejected > 40, "{audit:?}");

    for name in WITH_A_DATABASE {
        let now = sent(&system, name).await;
        // A quiet instance says two things in this time; one at work says one or two a batch.
        let worked = now.iter().filter(|(connection, count)| **count > before[connection] + 6).count();
        assert_eq!(worked, 2, "{name}: {before:?} {now:?}");
    }
    for client in &orders {
        let page = client.get("/orders?limit=1").await.expect(200);
        assert_eq!(page["items"].as_array().map(Vec::len), Some(1), "both see the same orders");
    }
}
