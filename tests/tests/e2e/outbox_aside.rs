//! Rows of an outbox that are set aside, or that a relay was at when it died, hide and hold up no other, however many they are.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use testkit::{System, eventually};
use uuid::Uuid;

const SOON: Duration = Duration::from_secs(30);

/// More than the relay looks at in one statement.
const MANY: usize = 300;

/// Puts rows with one message each into the outbox, as if a task that died had committed them an hour ago: about a user, with headers.
async fn put(system: &System, subject: &str, rows: &[(Uuid, Value)], n: u32) {
    sqlx::query(
        "insert into outbox (id, created_at, subjects, headers, payloads) \
         select id, now() - interval '1 hour', array[$5 || who], jsonb_build_array(headers), array[convert_to($4, 'utf8')] \
         from unnest($1::uuid[], $2::uuid[], $3::jsonb[]) with ordinality as new (id, who, headers, number) order by number",
    )
    .bind(rows.iter().map(|_| Uuid::now_v7()).collect::<Vec<_>>())
    .bind(rows.iter().map(|(who, _)| *who).collect::<Vec<_>>())
    .bind(rows.iter().map(|(_, headers)| headers.clone()).collect::<Vec<_>>())
    .bind(json!({ "n": n }).to_string())
    .bind(subject)
    .execute(&system.user_db)
    .await
    .unwrap();
}

/// What the stream has been told of each user, in its order.
async fn told(system: &System) -> BTreeMap<Uuid, Vec<u64>> {
    let mut told: BTreeMap<Uuid, Vec<u64>> = BTreeMap::new();
    for said in system.said("USER_EVENTS").await {
        let who = said.subject.rsplit('.').next().unwrap().parse().unwrap();
        told.entry(who).or_default().push(said.json()["n"].as_u64().unwrap());
    }
    told
}

#[tokio::test(flavor = "multi_thread")]
async fn hundreds_of_poisoned_rows_and_those_that_wait_behind_them_hide_no_other() {
    let patient = |settings: &mut testkit::Settings| settings.user.parts.outbox.outbox_attempts = 100;
    let system = System::builder().impatient().settings(patient).start().await;
    // This stream takes no messages with a time to live.
    let poisoned: Vec<_> = (0..MANY).map(|_| (Uuid::now_v7(), json!({ "Nats-TTL": "60s" }))).collect();
    let behind: Vec<_> = poisoned.iter().map(|(who, _)| (*who, json!({}))).collect();
    let good = Uuid::now_v7();
    // And no stream at all takes these.
    let unheard: Vec<_> = (0..MANY).map(|_| (Uuid::now_v7(), json!({}))).collect();
    put(&system, "events.nobody.updated.", &unheard, 0).await;
    put(&system, "events.user.updated.", &poisoned, 1).await;
    // Every one of them was refused before another tells of the same: of two that go out together the broker may take the second alone.
    eventually(SOON, || async {
        let refused: i64 =
            sqlx::query_scalar("select count(*) from outbox where attempts > 0").fetch_one(&system.user_db).await.unwrap();
        if refused == MANY as i64 { Ok(()) } else { Err(refused) }
    })
    .await;
    put(&system, "events.user.updated.", &behind, 2).await;
    put(&system, "events.user.updated.", &[(good, json!({}))], 3).await;
    eventually(SOON, || async {
        let told = told(&system).await;
        if told.contains_key(&good) { Ok(()) } else { Err(told.len()) }
    })
    .await;
    assert_eq!(
        told(&system).await,
        BTreeMap::from([(good, vec![3])]),
        "what waits behind a refused message is not published before it"
    );
    eventually(SOON, || async {
        let counts = "select count(*) filter (where attempts = 0), count(*) filter (where attempts > 0) from outbox";
        let left: (i64, i64) = sqlx::query_as(counts).fetch_one(&system.user_db).await.unwrap();
        if left == (2 * MANY as i64, MANY as i64) { Ok(()) } else { Err(left) }
    })
    .await;

    // What stood in the way is gone.
    sqlx::query("delete from outbox where subjects[1] like 'events.nobody.%'").execute(&system.user_db).await.unwrap();
    sqlx::query("update outbox set headers = '[{}]'").execute(&system.user_db).await.unwrap();
    let told = eventually(SOON, || async {
        let left: i64 = sqlx::query_scalar("select count(*) from outbox").fetch_one(&system.user_db).await.unwrap();
        if left == 0 { Ok(told(&system).await) } else { Err(left) }
    })
    .await;
    assert_eq!(told.len(), MANY + 1);
    assert!(poisoned.iter().all(|(who, _)| told[who] == [1, 2]), "in their order, once: {told:?}");
    assert!(system.said("DEAD_LETTERS").await.is_empty());
}

/// One message about each of these users, in one row, as a task that died committed it an hour ago.
async fn put_together(system: &System, about: &[Uuid], n: u32, claimed: Option<f64>) {
    sqlx::query(
        "insert into outbox (id, created_at, subjects, headers, payloads, claimed_until) \
         values ($1, now() - interval '1 hour', $2, $3, $4, now() + make_interval(secs => $5))",
    )
    .bind(Uuid::now_v7())
    .bind(about.iter().map(|who| format!("events.user.updated.{who}")).collect::<Vec<_>>())
    .bind(Value::from(vec![json!({}); about.len()]))
    .bind(about.iter().map(|_| json!({ "n": n }).to_string().into_bytes()).collect::<Vec<_>>())
    .bind(claimed)
    .execute(&system.user_db)
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_relay_that_died_was_at_holds_up_only_what_tells_of_the_same() {
    let system = System::builder().impatient().start().await;
    let [held, other, third] = [(); 3].map(|()| Uuid::now_v7());
    // Taken two seconds ago, for fifteen.
    put_together(&system, &[held], 1, Some(13.0)).await;
    put_together(&system, &[held, other], 2, None).await;
    put_together(&system, &[other, third], 3, None).await;
    let at_once = eventually(Duration::from_secs(8), || async {
        let told = told(&system).await;
        if told.contains_key(&third) { Ok(told) } else { Err(told) }
    })
    .await;
    assert_eq!(at_once, BTreeMap::from([(other, vec![2, 3]), (third, vec![3])]), "what tells of the same keeps its order");
    let still = "select exists (select from outbox where claimed_until > now())";
    assert!(sqlx::query_scalar::<_, bool>(still).fetch_one(&system.user_db).await.unwrap(), "it was not waited for");
    eventually(SOON, || async {
        let told = told(&system).await;
        if told.get(&held).is_some_and(|told| *told == [1, 2]) { Ok(()) } else { Err(told) }
    })
    .await;
}
