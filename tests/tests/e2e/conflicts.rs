//! Work that others are always first with: it has words of its own, and nobody else waits for it.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;
use testkit::{Service, System, eventually, order_body};

const SOON: Duration = Duration::from_secs(20);

/// Lets the database refuse every new order of this user, as if its row were there already.
async fn refuse(system: &System, user: impl std::fmt::Display, constraint: &str) {
    let trigger = format!(
        "create or replace function taken() returns trigger language plpgsql as $$ begin \
             raise exception 'taken' using errcode = 'unique_violation', constraint = '{constraint}'; end $$; \
         create or replace trigger taken before insert on orders for each row when (new.user_id = '{user}') execute function taken()"
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(trigger)).execute(&system.order_db).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conflict_that_stays_is_told_apart_from_an_outage_and_fails_nobody_else() {
    let system = System::new().await;
    let (good, bad) = (system.create_user(true).await, system.create_user(true).await);
    let product = system.create_product(1_000, 100).await;
    refuse(&system, bad, "orders_idempotency_key").await;
    let client = system.client(Service::Order);
    let place = |user| {
        let (client, body) = (client.clone(), order_body(user, &[(product, 1)]));
        async move { client.post("/orders", &body).await }
    };
    let (refused, placed) = tokio::join!(join_all((0..4).map(|_| place(bad))), async {
        let mut placed = Vec::new();
        for _ in 0..5 {
            placed.extend(join_all((0..20).map(|_| place(good))).await);
        }
        placed
    });
    for answer in &refused {
        let problem = answer.problem(503, "unavailable");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains("others change the same") || detail.contains("somebody else is at work"), "{detail}");
        assert_eq!(answer.header("retry-after"), "1");
    }
    assert_eq!(placed.len(), 100);
    placed.iter().for_each(|answer| drop(answer.expect(202)));
    let alone = place(bad).await.problem(503, "unavailable");
    assert!(alone["detail"].as_str().unwrap().contains("others change the same at the same moment"), "{alone:#}");
    let ready = client.get("/readyz").await.expect(200);
    assert_eq!(ready["checks"]["database"], json!("ok"));

    // A row that nobody else can have been about to make is no race: it is this order's own failure.
    refuse(&system, bad, "orders_pkey").await;
    place(bad).await.problem(500, "internal");
    eventually(SOON, || async {
        let open: i64 =
            sqlx::query_scalar("select count(*) from orders where not settled").fetch_one(&system.order_db).await.unwrap();
        if open == 0 { Ok(()) } else { Err(open) }
    })
    .await;
    assert_eq!(system.audit().await.confirmed, 100);
}
