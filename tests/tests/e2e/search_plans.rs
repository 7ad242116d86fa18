//! Every question that lists orders or sagas is served by an index: what Postgres did is read from its own log (`auto_explain`).

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::time::Duration;

use serde_json::Value;
use sqlx::AssertSqlSafe;
use testkit::{Issuer, Service, System, eventually};

use crate::search::{Many, indexed, many};

/// The most sagas that a page goes past, as the service has it; and one that is asked for beyond.
const WALKED: f64 = 20_001.0;

/// The plans that were logged from a place on, of lists: each with what it did.
fn logged(log: &mut File, from: u64) -> Vec<Value> {
    let mut text = String::new();
    log.seek(SeekFrom::Start(from)).expect("a place");
    log.read_to_string(&mut text).expect("the log");
    let plans = text
        .split("plan:\n")
        .skip(1)
        .filter_map(|rest| serde_json::Deserializer::from_str(rest).into_iter::<Value>().next()?.ok());
    // Walks of lists, and where they ended.
    plans.filter(|plan| plan["Query Text"].as_str().is_some_and(|sql| sql.contains("(select $3::bigint)"))).collect()
}

/// The nodes of a plan.
fn nodes<'a>(plan: &'a Value, seen: &mut Vec<&'a Value>) {
    seen.push(plan);
    plan["Plans"].as_array().into_iter().flatten().for_each(|below| nodes(below, seen));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_list_is_served_by_its_index() {
    let issuer = Issuer::new();
    let system = System::builder().believing(&issuer).without(Service::Order).start().await;
    system.start(Service::Order).await;
    let Many { house, rare, .. } = many(&system).await;
    indexed(&system).await;
    system.stop(Service::Order).await;
    let database: String = sqlx::query_scalar("select current_database()").fetch_one(&system.order_db).await.unwrap();
    let superuser = system.superuser(&database);
    for setting in [
        "session_preload_libraries = 'auto_explain'",
        "auto_explain.log_min_duration = 0",
        "auto_explain.log_analyze = on",
        "auto_explain.log_format = 'json'",
    ] {
        sqlx::query(AssertSqlSafe(format!("alter database {database} set {setting}")))
            .execute(&superuser)
            .await
            .expect("Postgres has auto_explain");
    }
    system.start(Service::Order).await;
    let operator = system.client(Service::Order).bearing(issuer.token("ann", &["operator"]));
    let customer = system.client(Service::Order).bearing(issuer.token(house, &["customer"]));
    let mut log = File::open(system.stack.postgres.log().expect("a Postgres of this test's own")).expect("its log");

    let span = "created_from=2020-01-01T00:00:00Z";
    let day = |ago: i64| {
        let at =
            |days: i64| (chrono::Utc::now() - chrono::TimeDelta::days(days)).to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
        format!("created_from={}&created_to={}", at(ago), at(ago - 1))
    };
    let (user, product) = (format!("user_id={house}"), format!("product_id={rare}"));
    let mut questions: Vec<(String, &str)> = vec![
        (user.clone(), "orders_user"),
        ("reference=R-7000".to_owned(), "orders_reference"),
        ("tag=channel=web".to_owned(), "order_tags_pkey"),
        ("tag=channel=app".to_owned(), "order_tags_pkey"),
        ("reason=timed_out".to_owned(), "orders_reason"),
        ("reason=user_not_found".to_owned(), "orders_reason"),
        ("status=rejected".to_owned(), "orders_given_up"),
        ("status=cancelled".to_owned(), "orders_given_up"),
        ("status=pending".to_owned(), "orders_unsettled"),
        ("status=confirmed".to_owned(), "orders_pkey"),
        (span.to_owned(), "orders_created_at"),
        ("created_to=2020-01-01T00:00:00Z".to_owned(), "orders_created_at"),
        (day(20), "orders_created_at"),
        (format!("status=rejected&{}", day(20)), "orders_created_at"),
        (format!("tag=channel=web&{}", day(20)), "orders_created_at"),
        (format!("tag=channel=web&{span}"), "order_tags_pkey"),
        (format!("reason=timed_out&{span}"), "orders_reason"),
        (format!("status=confirmed&{span}"), "orders_created_at"),
    ];
    // Two of them together: whatever finds the fewest.
    for (one, other, index) in [
        (user.as_str(), "reference=R-7000", "orders_reference"),
        (&user, "tag=channel=web", "orders_user"),
        (&user, "reason=timed_out", "orders_user"),
        (&user, "status=rejected", "orders_user"),
        (&user, "status=pending", "orders_user"),
        (&user, span, "orders_user"),
        (&user, &product, "orders_user"),
        ("reference=R-7000", &product, "orders_reference"),
        ("reference=R-7000", "tag=channel=web", "orders_reference"),
        ("tag=channel=web", "reason=timed_out", "order_tags_pkey"),
        ("tag=channel=web", "status=rejected", "order_tags_pkey"),
        ("tag=channel=web", "status=pending", "orders_unsettled"),
        ("tag=channel=web", &product, "order_tags_pkey"),
        ("reason=timed_out", "status=rejected", "orders_reason"),
        ("reason=timed_out", &product, "orders_reason"),
        ("status=rejected", &product, "orders_given_up"),
        (span, &product, "orders_created_at"),
    ] {
        questions.push((format!("{one}&{other}"), index));
    }
    let mut asked = Vec::new();
    for (question, index) in &questions {
        asked.extend([(&operator, format!("/orders?{question}"), *index), (&operator, format!("/sagas?{question}"), *index)]);
    }
    for (path, index) in [
        ("/orders?", "orders_pkey"),
        ("/sagas?", "orders_unsettled"),
        ("/sagas?stuck=true", "orders_unsettled"),
        ("/sagas?older_than=60", "orders_unsettled"),
        ("/sagas?older_than=60&status=confirmed", "orders_created_at"),
        ("/sagas?step=reserve_stock", "orders_unsettled"),
    ] {
        asked.push((&operator, path.to_owned(), index));
    }
    for question in ["", "reference=R-7000", "tag=channel=web", "reason=timed_out", "status=confirmed", span, &product] {
        asked.push((&customer, format!("/orders?{question}"), "orders_user"));
    }
    let mut used = BTreeSet::new();
    for (client, path, index) in asked {
        let from = log.metadata().expect("its length").len();
        let page = client.get(&path).await.expect(200);
        let plans = eventually(Duration::from_secs(10), || async {
            let plans = logged(&mut File::open(system.stack.postgres.log().unwrap()).unwrap(), from);
            if plans.is_empty() { Err("nothing is logged".to_owned()) } else { Ok(plans) }
        })
        .await;
        for plan in &plans {
            let mut all = Vec::new();
            nodes(&plan["Plan"], &mut all);
            let indexes: BTreeSet<&str> = all.iter().filter_map(|node| node["Index Name"].as_str()).collect();
            assert!(indexes.contains(index), "{path} by {indexes:?} instead of {index}: {plan:#}");
            for node in all {
                let kind = node["Node Type"].as_str().unwrap_or_default();
                let relation = node["Relation Name"].as_str().unwrap_or_default();
                assert!(!(kind == "Seq Scan" && matches!(relation, "orders" | "order_tags")), "{path} scans: {plan:#}");
                assert!(kind != "Sort", "{path} sorts: {plan:#}");
                let rows = node["Actual Rows"].as_f64().unwrap_or_default()
                    + node["Rows Removed by Index Recheck"].as_f64().unwrap_or_default();
                assert!(rows <= WALKED, "{path} meets {rows} rows: {plan:#}");
            }
        }
        // The next page too.
        if let Some(cursor) = page["next_cursor"].as_str() {
            let from = log.metadata().expect("its length").len();
            let separator = if path.ends_with('?') { "" } else { "&" };
            client.get(&format!("{path}{separator}cursor={cursor}")).await.expect(200);
            let plans = logged(&mut log, from);
            for plan in &plans {
                let mut all = Vec::new();
                nodes(&plan["Plan"], &mut all);
                assert!(all.iter().any(|node| node["Index Name"] == index), "{path}, the next page: {plan:#}");
                assert!(all.iter().all(|node| node["Node Type"] != "Sort"), "{path}, the next page: {plan:#}");
            }
        }
        used.insert(index);
    }
    assert_eq!(used.len(), 8, "{used:?}");
}
