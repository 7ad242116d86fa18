//! Why sagas do not go on: counted by cause, listed by it, and said of each.

use std::time::Duration;

use serde_json::{Value, json};
use testkit::{Service, System, eventually};
use uuid::Uuid;

use crate::cli_saga::waybill;
use crate::console::{Console, holds};

/// What was due and could not be decided.
const UNDECIDED: &str = "this build cannot decide it and leaves it aside";

fn ids(page: &Value) -> Vec<Uuid> {
    let items = page["items"].as_array().expect("items").iter();
    items.map(|saga| saga["order_id"].as_str().expect("an id").parse().expect("a UUID")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn sagas_are_listed_by_the_cause_that_counts_them_and_one_that_cannot_be_read_does_not_seem_to_wait_for_its_participant() {
    let system = System::builder().impatient().never_giving_up().start().await;
    let console = Console::start(&system, None).await;
    let (user, product) = (system.create_user(true).await, system.create_product(50, 100).await);
    system.stop(Service::Product).await;
    let orders = system.submit_many(3, user, &[(product, 1)]).await;
    for order in &orders {
        system.wait_entries(*order, 2).await;
    }
    let [damaged, ..] = orders[..] else { panic!("three") };
    // Not while it is at work, which remembers what they were.
    system.stop(Service::Order).await;
    let kept: (Value,) = sqlx::query_as("select items from orders where id = $1")
        .bind(damaged.0)
        .fetch_one(&system.order_db)
        .await
        .expect("it is there");
    let put = async |items: Value| {
        let put = "update orders set items = $2, due_at = due_at - interval '1 hour' where id = $1";
        sqlx::query(put).bind(damaged.0).bind(sqlx::types::Json(items)).execute(&system.order_db).await.expect("put");
    };
    put(json!([{ "product_id": "nope" }])).await;
    system.start(Service::Order).await;

    let client = system.client(Service::Order);
    let counted = eventually(Duration::from_secs(25), || async {
        let causes = client.get("/sagas/causes").await.expect(200);
        let first = causes["groups"][0].clone();
        if first["cause"] == UNDECIDED { Ok(causes.clone()) } else { Err(causes.clone()) }
    })
    .await;
    let group = &counted["groups"][0];
    assert_eq!((&group["sagas"], &group["stuck"], &group["readable"]), (&json!(1), &json!(true), &json!(false)), "{counted:#}");
    assert_eq!(ids(&json!({ "items": group["newest"] })), [damaged.0]);
    assert_eq!((&counted["in_flight"], &counted["groups"][1]["sagas"]), (&json!(3), &json!(2)), "{counted:#}");

    // The cause finds exactly those that it counts, whole or in part, in any case of letters.
    let waits = counted["groups"][1]["cause"].as_str().expect("words").to_owned();
    let of = async |cause: &str| ids(&client.get(&format!("/sagas?cause={}", cause.replace(' ', "%20"))).await.expect(200));
    assert_eq!((of(UNDECIDED).await, of("LEAVES IT aside").await), (vec![damaged.0], vec![damaged.0]));
    let mut waiting = of(&waits).await;
    waiting.sort_unstable();
    // Orders that are placed at once have their ids in any order.
    let mut others: Vec<_> = orders[1..].iter().map(|order| order.0).collect();
    others.sort_unstable();
    assert_eq!(waiting, others);
    assert!(of("waiting for the bank").await.is_empty());
    client.get("/sagas?cause=%00").await.problem(400, "malformed");
    let listed = waybill(&system, &["saga", "list", "--cause", "leaves it aside", "-o", "json"]).await.json(0);
    assert_eq!(ids(&listed), [damaged.0]);
    let stuck = ids(&client.get("/sagas?stuck=true").await.expect(200));
    assert!(stuck.contains(&damaged.0), "what cannot be decided is stuck at once: {stuck:?}");

    let saga = client.get(&format!("/sagas/{damaged}")).await.expect(200);
    assert!(saga["aside"].as_str().is_some_and(|why| why.contains("items")) && saga["stuck"] == true, "{saga:#}");
    assert!(saga["cause"].as_str().expect("a cause").starts_with(UNDECIDED), "{saga:#}");

    let attention = console.page("/attention").await;
    holds(&attention, &[UNDECIDED, "Start the build that knows them, or put their rows right"]);
    holds(&console.page(&format!("/sagas/{damaged}")).await, &["This build cannot read its history.", "as it is kept", "retry"]);
    let act = console.page(&format!("/sagas/{damaged}/compensate")).await;
    holds(&act, &["This build cannot read its history.", "WaybillSagasUnreadable"]);
    let list = console.page(&format!("/sagas?cause={}", UNDECIDED.replace(' ', "%20"))).await;
    holds(&list, &[&damaged.to_string(), &format!("value=\"{UNDECIDED}\"")]);
    assert!(!list.contains(&orders[1].to_string()), "{list}");

    // Put right, it goes on at once where somebody asks it to, and waits for its participant like the others.
    put(kept.0).await;
    client
        .post(&format!("/sagas/{damaged}/retry"), &json!({ "by": "ann", "reason": "the row is right again" }))
        .await
        .expect(200);
    let saga = client.get(&format!("/sagas/{damaged}")).await.expect(200);
    assert!(saga["aside"].is_null() && saga["cause"].as_str().expect("a cause").starts_with(&waits), "{saga:#}");
    system.start(Service::Product).await;
    for order in &orders {
        assert_eq!(system.wait_final(*order).await["status"], "confirmed");
    }
    system.audit().await;
}
