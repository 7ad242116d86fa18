//! Pages: newest first, every item once, to the end.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use testkit::{Client, Service, System};

use crate::shape::{fields, v7};

/// Follows a list to its end, by the cursor and by the `Link` in turn; returns the ids in the order they came.
async fn walk(client: &Client, prefix: &str, path: &str, limit: usize) -> Vec<String> {
    let mut next = Some(format!("{path}{}limit={limit}", if path.contains('?') { "&" } else { "?" }));
    let mut ids = Vec::new();
    let mut pages = 0;
    while let Some(here) = next.take() {
        let answer = client.get(&here).await;
        let page = answer.expect(200);
        fields(&page, &["items", "next_cursor"]);
        let items = page["items"].as_array().unwrap();
        assert!(items.len() <= limit, "{} items", items.len());
        ids.extend(items.iter().map(|item| v7(&item["id"]).to_string()));
        let cursor = page["next_cursor"].as_str();
        assert_eq!(cursor.is_some(), !answer.header("link").is_empty(), "{answer:#?}");
        if let Some(cursor) = cursor {
            assert_eq!(items.len(), limit, "a page that is not the last is full");
            let link = answer.header("link").strip_prefix('<').and_then(|link| link.strip_suffix(">; rel=\"next\""));
            let link = link.unwrap_or_else(|| panic!("no link to the next page: {answer:#?}"));
            let link = link.strip_prefix(prefix).unwrap_or_else(|| panic!("{link} does not lead below {prefix}"));
            assert!(link.contains(cursor) && link.contains(&format!("limit={limit}")), "{link}");
            let separator = if path.contains('?') { "&" } else { "?" };
            next = Some(if pages % 2 == 0 { link.to_owned() } else { format!("{path}{separator}limit={limit}&cursor={cursor}") });
        }
        pages += 1;
        assert!(pages < 100, "the pages do not end");
    }
    ids
}

fn sorted(mut ids: Vec<String>) -> Vec<String> {
    ids.sort_unstable();
    ids.reverse();
    ids
}

#[tokio::test(flavor = "multi_thread")]
async fn every_list_is_walked_to_its_end_without_repetition() {
    let system = System::new().await;
    let (ada, idle) = (system.create_user(true).await, system.create_user(false).await);
    let mut users = vec![ada.to_string(), idle.to_string()];
    let mut products = Vec::new();
    for _ in 0..5 {
        users.push(system.create_user(true).await.to_string());
        products.push(system.create_product(100, 100).await);
    }
    let (mut confirmed, mut rejected) = (Vec::new(), Vec::new());
    for product in &products {
        confirmed.push(system.submit(ada, &[(*product, 1)]).await.to_string());
        rejected.push(system.submit(idle, &[(*product, 1)]).await.to_string());
    }
    system.audit().await;
    let orders: Vec<String> = confirmed.iter().chain(&rejected).cloned().collect();
    let products: Vec<String> = products.iter().map(ToString::to_string).collect();

    for (service, path, all) in
        [(Service::User, "/users", users), (Service::Product, "/products", products), (Service::Order, "/orders", orders.clone())]
    {
        for (client, prefix) in system.clients(service).iter().zip(["/v1", "/v1", "", ""]) {
            for limit in [1, 2, 3, all.len(), 200] {
                assert_eq!(walk(client, prefix, path, limit).await, sorted(all.clone()), "{path} by {limit} through {client:?}");
            }
        }
    }
    let client = system.client(Service::Order);
    for (query, wanted) in [
        (format!("user_id={ada}"), confirmed.clone()),
        (format!("user_id={idle}"), rejected.clone()),
        ("status=confirmed".to_owned(), confirmed.clone()),
        ("status=rejected".to_owned(), rejected.clone()),
        (format!("status=rejected&user_id={idle}"), rejected.clone()),
        (format!("status=rejected&user_id={ada}"), vec![]),
        ("status=pending".to_owned(), vec![]),
        ("status=cancelling".to_owned(), vec![]),
        ("status=cancelled".to_owned(), vec![]),
        (format!("user_id={}", uuid::Uuid::now_v7()), vec![]),
    ] {
        assert_eq!(walk(&client, "", &format!("/orders?{query}"), 2).await, sorted(wanted), "{query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pending_orders_are_found_while_they_are_pending() {
    let system = System::new().await;
    let (user, product) = (system.create_user(true).await, system.create_product(100, 100).await);
    system.stop(Service::Product).await;
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(system.submit(user, &[(product, 1)]).await.to_string());
    }
    let last = system.submit(user, &[(product, 1)]).await;
    system.wait_entries(last, 2).await;
    system.cancel(last).await.expect(202);
    let client = system.client(Service::Order);
    assert_eq!(walk(&client, "", "/orders?status=pending", 2).await, sorted(ids));
    assert_eq!(walk(&client, "", "/orders?status=cancelling", 2).await, [last.to_string()]);
    system.start(Service::Product).await;
    let audit = system.audit().await;
    assert_eq!((audit.confirmed, audit.cancelled), (5, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_that_cannot_be_read_is_malformed() {
    let system = System::new().await;
    let wrong =
        ["limit=0", "limit=-1", "limit=201", "limit=1.5", "limit=ten", "limit=", "limit=99999999999999999999", "limit=1&limit=2"];
    let cursors = ["cursor=7", "cursor=%00", "cursor=%FF", "cursor=../../etc", "cursor='%20or%201=1"];
    for (service, path) in [(Service::User, "/users"), (Service::Product, "/products"), (Service::Order, "/orders")] {
        for client in system.clients(service) {
            for query in wrong.iter().chain(&cursors) {
                let problem = client.get(&format!("{path}?{query}")).await.problem(400, "malformed");
                assert!(problem["errors"].is_null(), "{problem:#}");
            }
            let page = client.get(path).await.expect(200);
            assert_eq!(page, json!({ "items": [], "next_cursor": null }));
        }
    }
    for client in system.clients(Service::Order) {
        for query in
            ["status=lost", "status=", "status=%00", "user_id=7", "user_id=%00", "user_id=", "status=pending&status=pending"]
        {
            client.get(&format!("/orders?{query}")).await.problem(400, "malformed");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_items_are_a_page_where_nothing_is_said_and_what_is_new_does_not_disturb_a_walk() {
    let system = System::new().await;
    for _ in 0..60 {
        system.create_product(1, 100).await;
    }
    let client = system.client(Service::Product);
    let first = client.get("/products").await.expect(200);
    let ids = |page: &Value| -> BTreeSet<String> {
        page["items"].as_array().unwrap().iter().map(|item| item["id"].to_string()).collect()
    };
    assert_eq!(ids(&first).len(), 50);
    let newer = system.create_product(1, 100).await;
    let second = client.get(&format!("/products?cursor={}", first["next_cursor"].as_str().unwrap())).await.expect(200);
    assert_eq!((ids(&second).len(), &second["next_cursor"]), (10, &json!(null)));
    assert!(ids(&first).is_disjoint(&ids(&second)));
    assert!(!ids(&second).contains(&json!(newer).to_string()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_is_bounded_in_bytes_and_its_cursor_leads_to_the_rest() {
    const ITEMS: usize = 70;
    let system = System::new().await;
    let client = system.client(Service::Product);
    let long = "\u{1F600}".repeat(2_000);
    for n in 0..ITEMS {
        let price = json!({ "amount": n, "currency": "USD" });
        client.post("/products", &json!({ "name": "x", "description": long, "price": price, "stock": 1 })).await.expect(201);
    }
    for client in system.clients(Service::Product) {
        let mut seen = BTreeSet::new();
        let (mut next, mut pages) = (Some("/products?limit=200".to_owned()), 0);
        while let Some(path) = next.take() {
            let answer = client.get(&path).await;
            let page = answer.expect(200);
            assert!(answer.text.len() <= 256 * 1024, "{} bytes", answer.text.len());
            let items = page["items"].as_array().unwrap();
            assert!(!items.is_empty());
            assert!(items.iter().all(|item| seen.insert(item["id"].to_string())), "nothing comes twice");
            next = page["next_cursor"].as_str().map(|cursor| format!("/products?limit=200&cursor={cursor}"));
            pages += 1;
        }
        assert_eq!((seen.len(), pages), (ITEMS, 3));
    }
}
