//! Rows that no build can read: they are shown as such, by their ids, and everybody else's are served.

use serde_json::{Value, json};
use sqlx::PgPool;
use testkit::{Service, System};
use uuid::Uuid;

use crate::cli_saga::waybill;

async fn garble(db: &PgPool, statement: &'static str, id: Uuid) {
    assert_eq!(sqlx::query(statement).bind(id).execute(db).await.unwrap().rows_affected(), 1, "{statement}");
}

fn item(page: &Value, id: impl ToString) -> &Value {
    let items = page["items"].as_array().unwrap();
    items.iter().find(|item| item["id"] == json!(id.to_string())).unwrap_or_else(|| panic!("{page:#}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn one_row_that_cannot_be_read_spoils_no_list_no_export_and_no_audit() {
    let system = System::new().await;
    let (user, product, priceless) =
        (system.create_user(true).await, system.create_product(50, 100).await, system.create_product(5, 100).await);
    let orders = system.submit_many(6, user, &[(product, 1)]).await;
    for order in &orders {
        assert_eq!(system.wait_final(*order).await["status"], "confirmed");
    }
    system.audit().await;
    let [lines, entry, held, ..] = orders[..] else { panic!("six orders") };
    garble(&system.order_db, "update orders set items = '[{\"product_id\":\"nope\"}]' where id = $1", lines.0).await;
    garble(&system.order_db, "update order_history set entry = 'garbage' where order_id = $1 and sequence = 2", entry.0).await;
    garble(&system.product_db, "update reservations set items = '[{\"quantity\":1}]' where id = $1", held.0).await;
    garble(&system.product_db, "update products set currency = 'ZZZ' where id = $1", priceless.0).await;

    for client in [system.client(Service::Gateway), system.client(Service::Order)] {
        let page = client.get(&format!("/orders?user_id={user}")).await.expect(200);
        assert_eq!(page["items"].as_array().unwrap().len(), 6);
        let unreadable = item(&page, lines);
        assert!(unreadable["unreadable"].as_str().unwrap().contains("items"), "{unreadable:#}");
        assert_eq!((&unreadable["user_id"], &unreadable["status"]), (&json!(user), &json!("confirmed")), "what can be read");
        assert_eq!((&item(&page, entry)["unreadable"], &item(&page, entry)["status"]), (&Value::Null, &json!("confirmed")));
        let history = client.get(&format!("/orders/{entry}/history")).await.expect(200);
        let entries = history["items"].as_array().unwrap();
        assert_eq!(entries.len(), 3);
        assert_eq!(entries[1]["sequence"], 2);
        assert!(entries[1]["unreadable"].is_string() && entries[2]["decision"] == "moved", "{history:#}");
    }
    let products = system.client(Service::Gateway).get("/products").await.expect(200);
    let unreadable = item(&products, priceless);
    assert!(unreadable["unreadable"].as_str().unwrap().contains("ZZZ") && unreadable["stock"] == 5, "{unreadable:#}");
    assert_eq!(item(&products, product)["price"]["amount"], 100);
    let list = waybill(&system, &["order", "list"]).await.expect(0);
    assert!(list.lines().any(|line| line.starts_with(&lines.to_string()) && line.contains("UNREADABLE: ")), "{list}");
    assert_eq!(list.lines().count(), 7);

    let export = waybill(&system, &["saga", "export", "--all"]).await.expect(0);
    assert_eq!(export.lines().count(), 6);
    let line: Value = serde_json::from_str(export.lines().find(|line| line.contains(&lines.to_string())).unwrap()).unwrap();
    assert_eq!(line["order"], json!({ "id": lines }));
    assert!(line["unreadable"].as_str().unwrap().contains("items"), "{line:#}");
    let replay = waybill(&system, &["saga", "replay", "--all", "-o", "json"]).await.json(1);
    assert_eq!(
        (&replay["histories"], &replay["unreadable"]["count"], &replay["divergences"]["count"]),
        (&json!(4), &json!(2), &json!(0))
    );
    let named = replay["unreadable"]["first"].to_string();
    assert!(named.contains(&format!("{lines}: ")) && named.contains(&format!("{entry}: entry 2 ")), "{named}");

    let audit = waybill(&system, &["audit", "-o", "json"]).await.json(1);
    let checks = audit["checks"].as_array().unwrap();
    assert_eq!(checks.len(), 5);
    let found: Vec<(String, String)> = checks
        .iter()
        .flat_map(|check| check["findings"].as_array().unwrap())
        .map(|found| (found["id"].as_str().unwrap().to_owned(), found["what"].as_str().unwrap().to_owned()))
        .collect();
    for (id, word) in [(lines.to_string(), "the order cannot be read"), (held.to_string(), "the reservation cannot be read")] {
        assert!(found.iter().any(|(named, what)| *named == id && what.contains(word)), "{found:#?}");
    }
    assert_eq!(checks[1]["findings"], json!([]), "the other checks are made");
    assert!(found.iter().all(|(id, _)| [lines.to_string(), held.to_string(), product.to_string()].contains(id)), "{found:#?}");

    // An entry that somebody took out.
    garble(&system.order_db, "delete from order_history where order_id = $1 and sequence = 2", entry.0).await;
    let shown = waybill(&system, &["saga", "show", &entry.to_string()]).await.expect(0);
    assert!(shown.contains("entry 2 is missing from the history"), "{shown}");
    let audit = waybill(&system, &["audit", "-o", "json"]).await.json(1);
    let what = "its history has 2 entries, the last is 3, and the order stands at 3";
    assert_eq!(audit["checks"][4]["findings"], json!([{ "id": entry, "what": what }]));
}
