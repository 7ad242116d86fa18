//! Orders and their sagas are found by what they have, and only their own by customers.

use std::collections::BTreeSet;

use events::{OrderId, ProductId, UserId};
use reqwest::Method;
use serde_json::{Value, json};
use testkit::{Client, Issuer, Service, System, answer, eventually, id, order_body};
use uuid::Uuid;

use crate::cli_saga::waybill;

/// An order with a reference and tags, once it is final.
async fn placed(system: &System, user: UserId, items: &[(ProductId, i64)], more: &Value) -> Uuid {
    let mut body = order_body(user, items);
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let order = system.client(Service::Order).post("/orders", &body).await.expect(202);
    system.wait_final(OrderId(id(&order))).await;
    id(&order)
}

/// The ids of a whole list, by pages of two, and how many pages there were.
async fn walked(client: &Client, path: &str, query: &str, field: &str) -> (Vec<Uuid>, usize) {
    let (mut next, mut ids, mut pages) = (Some(format!("{path}?{query}&limit=2")), Vec::new(), 0);
    while let Some(here) = next.take() {
        let page = client.get(&here).await.expect(200);
        ids.extend(page["items"].as_array().unwrap().iter().map(|item| item[field].as_str().unwrap().parse::<Uuid>().unwrap()));
        next = page["next_cursor"].as_str().map(|cursor| format!("{path}?{query}&limit=2&cursor={cursor}"));
        pages += 1;
        assert!(pages < 100, "the pages do not end");
    }
    (ids, pages)
}

/// Orders, and their sagas, that a query finds: each once.
async fn found(system: &System, query: &str) -> BTreeSet<Uuid> {
    let mut all = Vec::new();
    for client in system.clients(Service::Order) {
        all.push(walked(&client, "/orders", query, "id").await.0);
    }
    all.push(walked(&system.client(Service::Order), "/sagas", query, "order_id").await.0);
    let first = all[0].clone();
    assert!(all.iter().all(|ids| *ids == first), "{query}: {all:?}");
    let each: BTreeSet<Uuid> = first.iter().copied().collect();
    assert_eq!(each.len(), first.len(), "{query}: none comes twice");
    each
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_and_their_sagas_are_found_by_everything_that_they_have() {
    let system = System::new().await;
    let (ada, eve, idle) = (system.create_user(true).await, system.create_user(true).await, system.create_user(false).await);
    let (bell, cup) = (system.create_product(100, 100).await, system.create_product(2, 100).await);
    let plain = placed(&system, ada, &[(bell, 1)], &json!({})).await;
    let named = placed(&system, ada, &[(bell, 1), (cup, 1)], &json!({ "reference": " PO-17 " })).await;
    let web = json!({ "reference": "PO-17", "tags": { "channel": "web", "note": "a \"b\\c\" {d}" } });
    let tagged = placed(&system, eve, &[(bell, 1)], &web).await;
    let short = placed(&system, eve, &[(cup, 9)], &json!({ "tags": { "channel": "web" } })).await;
    let refused = placed(&system, idle, &[(cup, 1)], &json!({})).await;
    system.cancel(OrderId(plain)).await.expect(202);
    system.wait_status(OrderId(plain), "cancelled").await;

    let shown = system.order(OrderId(tagged)).await;
    assert_eq!((&shown["reference"], &shown["tags"]), (&web["reference"], &web["tags"]));
    let shown = system.order(OrderId(named)).await;
    assert_eq!((&shown["reference"], &shown["tags"]), (&json!("PO-17"), &json!(null)));
    let of = |which: &[Uuid]| which.iter().copied().collect::<BTreeSet<_>>();
    let from = |time: &Value| format!("created_from={}", time.as_str().unwrap());
    let to = |time: &Value| format!("created_to={}", time.as_str().unwrap());
    let (second, fourth) = (system.order(OrderId(named)).await, system.order(OrderId(short)).await);
    let (second, fourth) = (&second["created_at"], &fourth["created_at"]);
    let all = [plain, named, tagged, short, refused];
    for (query, wanted) in [
        ("reference=PO-17".to_owned(), of(&[named, tagged])),
        ("reference=po-17".to_owned(), of(&[])),
        (format!("reference=PO-17&user_id={ada}"), of(&[named])),
        ("reference=PO-17&status=rejected".to_owned(), of(&[])),
        ("tag=channel=web".to_owned(), of(&[tagged, short])),
        ("tag=channel%3Dweb,note%3Da%20%22b%5Cc%22%20%7Bd%7D".to_owned(), of(&[tagged])),
        ("tag=channel=web&status=rejected".to_owned(), of(&[short])),
        ("tag=channel=app".to_owned(), of(&[])),
        ("reason=insufficient_stock".to_owned(), of(&[short])),
        ("reason=user_inactive".to_owned(), of(&[refused])),
        ("reason=cancelled_by_customer&tag=channel=web".to_owned(), of(&[])),
        ("reason=cancelled_by_customer".to_owned(), of(&[plain])),
        (format!("product_id={cup}&user_id={eve}"), of(&[short])),
        (format!("product_id={cup}&{}", from(second)), of(&[named, short, refused])),
        (format!("product_id={cup}&reference=PO-17"), of(&[named])),
        (format!("product_id={bell}&tag=channel=web"), of(&[tagged])),
        (format!("product_id={cup}&reason=user_inactive"), of(&[refused])),
        (format!("product_id={cup}&status=rejected"), of(&[short, refused])),
        (from(second), of(&all[1..])),
        (to(second), of(&all[..1])),
        (format!("{}&{}", from(second), to(fourth)), of(&all[1..3])),
        (format!("{}&{}&user_id={ada}", from(second), to(fourth)), of(&[named])),
        (format!("{}&status=rejected", from(second)), of(&[short, refused])),
        (format!("{}&status=confirmed", to(fourth)), of(&[named, tagged])),
    ] {
        assert_eq!(found(&system, &query).await, wanted, "{query}");
    }
    // Where nothing particular is asked for, sagas are those in flight, and none is.
    let sagas = system.client(Service::Order).get("/sagas").await.expect(200);
    assert_eq!(sagas["items"], json!([]));

    // The same from the command line, by the same names.
    let (bell, cup, second) = (bell.to_string(), cup.to_string(), second.as_str().unwrap());
    for (args, wanted) in [
        (vec!["--reference", "PO-17"], of(&[named, tagged])),
        (vec!["--tag", "channel=web", "--tag", "note=a \"b\\c\" {d}"], of(&[tagged])),
        (vec!["--reason", "user_inactive"], of(&[refused])),
        (vec!["--product", &cup, "--created-from", second], of(&[named, short, refused])),
        (vec!["--product", &bell, "--created-to", second, "--reference", "x"], of(&[])),
    ] {
        for (noun, field) in [("order", "id"), ("saga", "order_id")] {
            let args = [&[noun, "list", "-o", "json"], args.as_slice()].concat();
            let page = waybill(&system, &args).await.json(0);
            let ids: BTreeSet<Uuid> =
                page["items"].as_array().unwrap().iter().map(|item| item[field].as_str().unwrap().parse().unwrap()).collect();
            assert_eq!(ids, wanted, "{args:?}");
        }
    }
    let (user, item) = (ada.to_string(), format!("{bell}=1"));
    let submitted = ["order", "submit", "--user", &user, "--item", &item, "--reference", "PO-18", "--tag", "a=b", "-o", "json"];
    let order = waybill(&system, &submitted).await.json(0);
    assert_eq!((&order["reference"], &order["tags"]), (&json!("PO-18"), &json!({ "a": "b" })));
    let alone = waybill(&system, &["order", "list", "--product", &bell]).await;
    assert!(alone.0 == 1 && alone.2.contains("`created_from`"), "{}", alone.2);

    // Told to everyone, and enough to replay from.
    let told = system.said("ORDER_EVENTS").await;
    let event = told.iter().find(|said| said.subject == format!("events.order.confirmed.{tagged}")).expect("it was told").json();
    assert_eq!((&event["reference"], &event["tags"]), (&web["reference"], &web["tags"]));
    waybill(&system, &["saga", "replay", "--all"]).await.expect(0);
    waybill(&system, &["saga", "replay", &tagged.to_string(), "--from", "nats"]).await.expect(0);
    system.audit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_index_finds_is_refused_with_what_to_combine_it_with() {
    let system = System::new().await;
    let product = Uuid::now_v7();
    for client in system.clients(Service::Order) {
        for path in ["/orders", "/sagas"] {
            if path == "/sagas" && !client.base.contains(&system.client(Service::Order).base) {
                continue;
            }
            for more in ["", "&status=confirmed", "&created_to=2026-01-01T00:00:00Z"] {
                let problem = client.get(&format!("{path}?product_id={product}{more}")).await.problem(422, "invalid");
                let detail = problem["detail"].as_str().unwrap();
                for name in ["product_id", "user_id", "reference", "tag", "reason", "created_from"] {
                    assert!(detail.contains(&format!("`{name}`")), "{path}{more}: {detail}");
                }
            }
            for (wrong, name) in [
                ("created_from=yesterday", "created_from"),
                ("created_to=2026-13-01T00:00:00Z", "created_to"),
                ("created_from=2026-01-02T00:00:00Z&created_to=2026-01-01T00:00:00Z", "created_from"),
                ("reference=", "reference"),
                ("reference=%00", "reference"),
                ("tag=web", "tag"),
                ("tag=", "tag"),
                ("tag=a=1,", "tag"),
                ("tag=Channel=web", "tag"),
                ("reason=because", "reason"),
                ("product_id=7", "product_id"),
            ] {
                let problem = client.get(&format!("{path}?{wrong}")).await.problem(400, "malformed");
                assert!(problem["detail"].as_str().unwrap().contains(name), "{wrong}: {problem:#}");
            }
        }
    }
    // What is in flight is few, so it needs nothing else.
    let sagas = system.client(Service::Order).get(&format!("/sagas?stuck=true&product_id={product}")).await.expect(200);
    assert_eq!(sagas["items"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reference_and_tags_have_limits_and_belong_to_what_a_key_was_used_for() {
    let system = System::new().await;
    let (user, product) = (system.create_user(true).await, system.create_product(100, 100).await);
    let body = |more: Value| {
        let mut body = order_body(user, &[(product, 1)]);
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let client = system.client(Service::Order);
    let many = |count: usize| (0..count).map(|n| (format!("k{n}"), json!("v"))).collect::<serde_json::Map<_, _>>();
    for (more, pointer) in [
        (json!({ "reference": "" }), "/reference"),
        (json!({ "reference": "x".repeat(201) }), "/reference"),
        (json!({ "reference": "a\nb" }), "/reference"),
        (json!({ "reference": 7 }), "/reference"),
        (json!({ "tags": many(9) }), "/tags"),
        (json!({ "tags": { "Channel": "web" } }), "/tags/Channel"),
        (json!({ "tags": { "a/b": "web" } }), "/tags/a~1b"),
        (json!({ "tags": { "a": "" } }), "/tags/a"),
        (json!({ "tags": { "a": "x".repeat(101) } }), "/tags/a"),
        (json!({ "tags": { "a": "x,y" } }), "/tags/a"),
        (json!({ "tags": { "a": 1 } }), "/tags/a"),
        (json!({ "tags": ["a=1"] }), "/tags"),
    ] {
        assert_eq!(client.post("/orders", &body(more.clone())).await.invalid(), [pointer], "{more}");
    }
    let longest = json!({ "reference": "é".repeat(200), "tags": many(8) });
    let order = client.post("/orders", &body(longest.clone())).await.expect(202);
    assert_eq!((&order["reference"], &order["tags"]), (&longest["reference"], &longest["tags"]));
    client.post("/orders", &body(json!({ "reference": null, "tags": null }))).await.expect(202);
    client.post("/orders", &body(json!({ "tags": {} }))).await.expect(202);

    let keyed = async |more: Value| {
        answer(client.request(Method::POST, "/orders").header("idempotency-key", "k").json(&body(more))).await
    };
    let first = keyed(json!({ "reference": "A", "tags": { "a": "1" } })).await.expect(202);
    let again = keyed(json!({ "tags": { "a": "1" }, "reference": "A" })).await;
    assert_eq!((id(&again.json()), again.header("idempotency-replayed")), (id(&first), "true"));
    for other in [json!({}), json!({ "reference": "B", "tags": { "a": "1" } }), json!({ "reference": "A" })] {
        keyed(other).await.problem(422, "idempotency-key-reused");
    }
    system.audit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_customer_finds_only_its_own_by_whatever_it_asks() {
    let issuer = Issuer::new();
    let system = System::builder().believing(&issuer).start().await;
    let (ada, eve, idle) = (system.create_user(true).await, system.create_user(true).await, system.create_user(false).await);
    let product = system.create_product(100, 100).await;
    let more = json!({ "reference": "PO-1", "tags": { "channel": "web" } });
    let hers = placed(&system, ada, &[(product, 1)], &more).await;
    placed(&system, eve, &[(product, 1)], &more).await;
    let given_up = placed(&system, idle, &[(product, 1)], &more).await;
    for (user, own) in [(ada, vec![hers]), (idle, vec![given_up]), (UserId(Uuid::now_v7()), vec![])] {
        for client in system.clients(Service::Order) {
            let client = client.bearing(issuer.token(user, &["customer"]));
            for query in
                ["reference=PO-1", "tag=channel=web", "created_from=2020-01-01T00:00:00Z", "created_to=2099-01-01T00:00:00Z"]
            {
                for query in [query.to_owned(), format!("{query}&product_id={product}")] {
                    assert_eq!(walked(&client, "/orders", &query, "id").await, (own.clone(), 1), "{query}");
                }
            }
            // What is its own is few, so it needs nothing else.
            assert_eq!(walked(&client, "/orders", &format!("product_id={product}"), "id").await.0, own);
            let rejected = if user == idle { own.clone() } else { vec![] };
            assert_eq!(walked(&client, "/orders", "reason=user_inactive", "id").await.0, rejected);
            assert_eq!(walked(&client, "/orders", &format!("reference=PO-1&user_id={eve}"), "id").await.0, Vec::<Uuid>::new());
        }
    }
}

/// Orders that lie in the table by thousands: one a minute until now, the copies of one that was confirmed.
pub struct Many {
    /// Whose every second one is.
    pub house: UserId,
    /// A product that two of them have.
    pub rare: ProductId,
    /// Those two, the newer one first.
    pub with_rare: Vec<Uuid>,
}

const MANY: i64 = 45_000;

/// Makes them.
pub async fn many(system: &System) -> Many {
    let (house, product) = (system.create_user(true).await, system.create_product(100, 100).await);
    let model = placed(system, house, &[(product, 1)], &json!({})).await;
    let rare = ProductId(Uuid::now_v7());
    let inserted = sqlx::query(
        "insert into orders (id, user_id, items, unit_prices, currency, total, status, reason, state, sequence, settled, traceparent, \
                             reference, tags, created_at, updated_at) \
         select (lpad(to_hex((extract(epoch from at) * 1000)::bigint), 12, '0') || '70008000' || lpad(to_hex(n), 12, '0'))::uuid, \
                case when n % 2 = 0 then user_id else gen_random_uuid() end, \
                case when n % 22000 = 0 then replace(items::text, $2, $3)::json else items end, unit_prices, currency, total, \
                case when n % 50 = 0 then 'rejected' else status end, \
                case when n % 50 = 0 then '{\"code\": \"timed_out\", \"detail\": \"?\"}'::jsonb end, state, sequence, \
                n % 1000 > 0, traceparent, 'R-' || n / 2, array['channel=web'], at, at \
         from (select n, date_trunc('milliseconds', now()) - make_interval(mins => n::int) as at from generate_series(1, $4) as n) as times, orders \
         where id = $1",
    )
    .bind(model)
    .bind(product.to_string())
    .bind(rare.to_string())
    .bind(MANY)
    .execute(&system.order_db)
    .await
    .expect("orders");
    assert_eq!(inserted.rows_affected(), MANY as u64);
    for table in ["orders", "order_tags"] {
        sqlx::query(sqlx::AssertSqlSafe(format!("vacuum analyze {table}"))).execute(&system.order_db).await.expect("analyzed");
    }
    let with_rare = sqlx::query_scalar("select id from orders where strpos(items::text, $1) > 0 order by id desc")
        .bind(rare.to_string())
        .fetch_all(&system.order_db)
        .await
        .expect("ids");
    assert_eq!(with_rare.len(), 2);
    Many { house, rare, with_rare }
}

/// Waits until the indexes that the service makes beside its work are there.
pub async fn indexed(system: &System) {
    eventually(std::time::Duration::from_secs(60), || async {
        let made: i64 = sqlx::query_scalar(
            "select count(*) from pg_index where indisvalid and indexrelid::regclass::text = any('{orders_created_at, orders_reference, orders_reason}')",
        )
        .fetch_one(&system.order_db)
        .await
        .map_err(|error| error.to_string())?;
        if made == 3 { Ok(()) } else { Err(format!("{made} of 3 indexes")) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_goes_past_so_many_orders_and_its_cursor_leads_on() {
    let system = System::new().await;
    let Many { house, rare, with_rare } = many(&system).await;
    indexed(&system).await;
    let from = "created_from=2020-01-01T00:00:00Z";
    let client = system.client(Service::Order);
    for (path, field) in [("/orders", "id"), ("/sagas", "order_id")] {
        // Past 45,000 orders: a page that finds nothing, and two that find one each.
        for query in [format!("product_id={rare}&{from}"), format!("product_id={rare}&tag=channel=web")] {
            let (ids, pages) = walked(&client, path, &query, field).await;
            assert_eq!((ids, pages), (with_rare.clone(), 3), "{path}?{query}");
        }
        // Past the half of them.
        let (ids, pages) = walked(&client, path, &format!("product_id={rare}&user_id={house}"), field).await;
        assert_eq!((ids, pages), (with_rare.clone(), 2), "{path}");
        let (ids, _) = walked(&client, path, &format!("tag=channel=web,channel=app&{from}"), field).await;
        assert!(ids.is_empty());
    }
    // The command line goes on by itself until it has found something.
    let product = rare.to_string();
    let page = waybill(&system, &["order", "list", "--product", &product, "--tag", "channel=web", "-o", "json"]).await.json(0);
    assert_eq!((id(&page["items"][0]), page["items"].as_array().unwrap().len()), (with_rare[0], 1));
}
