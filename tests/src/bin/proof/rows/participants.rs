//! What a participant must survive: any order of commands, failures without end, and being slower than the broker's patience.

use std::time::{Duration, Instant};

use events::OrderId;
use events::streams::{PRODUCT_REPLIES, RELEASE, RESERVE};
use reqwest::Method;
use serde_json::{Value, json};
use testkit::messages::{command, kind, release, reserve, reserved};
use testkit::{Answer, Lane, Line, Service, eventually};
use uuid::Uuid;

use super::processes::{ack_wait, unacknowledged};
use crate::run::Run;
use crate::scene::{Others, SOON, Scene, patient};

pub async fn out_of_order(run: Run) {
    let builder = patient().order(|order| order.sagas.timing.step_deadline = Some(Duration::from_secs(2)));
    let mut scene = Scene::begin(&run, builder).await;
    let product = scene.system.create_product(5, 100).await;
    let mut given_up = 0;
    for lap in 0..run.times {
        let since = Instant::now();
        let order = OrderId(Uuid::now_v7());
        let take = || vec![reserve(order, &[(product, 2)])];
        let give = || vec![release(order)];
        let (batches, answers) = match lap % 4 {
            0 => (vec![(RELEASE, give()), (RESERVE, take())], vec!["released", "released"]),
            1 => (vec![(RESERVE, take()), (RELEASE, give()), (RELEASE, give())], vec!["reserved", "released", "released"]),
            2 => (vec![(RELEASE, [give(), take()].concat()), (RESERVE, take())], vec!["released"; 3]),
            _ => {
                // An order that gave up while nobody answered; then somebody did.
                given_up += 1;
                let gone = scene.rejected(product).await;
                let before = releases(&scene, gone).await;
                scene.system.say(PRODUCT_REPLIES, &[reserved(gone, product, 100)]).await;
                eventually(SOON, || async {
                    let now = releases(&scene, gone).await;
                    if now > before { Ok(()) } else { Err("not released again") }
                })
                .await;
                (vec![], vec![])
            }
        };
        if !batches.is_empty() {
            assert_eq!(command(&scene.system, order, &batches).await, answers, "lap {lap}");
        }
        assert_eq!(scene.system.stock(product).await, (5, 0), "nothing is held");
        run.fired();
        scene.well(since).await;
    }
    scene.end_among(Others { rejected: given_up, ..Others::default() }).await;
}

impl Scene {
    /// An order that asked for more than there is, and was rejected.
    async fn rejected(&self, product: events::ProductId) -> OrderId {
        let order = self.system.submit(self.user, &[(product, 9)]).await;
        assert_eq!(self.system.wait_final(order).await["reason"]["code"], "insufficient_stock");
        order
    }
}

async fn releases(scene: &Scene, order: OrderId) -> usize {
    let commands = scene.system.events_of("PRODUCT_COMMANDS", order).await;
    commands.iter().filter(|command| kind(command) == "release").count()
}

/// What failed comes back after up to half a minute, and as many messages as may be unacknowledged do so before anything new.
const BACK_WITHIN: Duration = Duration::from_secs(180);

/// As long as that may take.
const FAILED_WITHIN: Duration = Duration::from_secs(600);

/// So often a release fails before it succeeds.
const FAILURES: i64 = 50;

pub async fn release_fails(run: Run) {
    const AT_ONCE: usize = 5;
    let builder = patient().order(|order| order.sagas.timing.stuck_after = Duration::from_secs(1));
    let mut scene = Scene::begin(&run, builder).await.slow_down(Duration::from_millis(100)).await;
    let db = scene.system.product_db.clone();
    // A sequence counts on when its transaction is undone.
    for statement in ["create sequence failures", "create table failing (code text not null)"] {
        sqlx::raw_sql(statement).execute(&db).await.expect("done");
    }
    sqlx::raw_sql(
        "create function fail() returns trigger language plpgsql as $$ begin \
         if old.status = 'reserved' and new.status = 'released' and nextval('failures') <= 50 then \
           raise exception 'not yet' using errcode = (select code from failing); end if; return new; end $$; \
         create trigger fail before update on reservations for each row execute function fail()",
    )
    .execute(&db)
    .await
    .expect("a trigger");
    let mut cancelled = 0;
    let mut lap = 0;
    while cancelled < run.times {
        // By turns the database as a whole has no room, and this one statement cannot succeed.
        let code = ["53100", "P0001"][lap % 2];
        lap += 1;
        let orders: Vec<OrderId> = scene.system.submit_many(AT_ONCE, scene.user, &[(scene.product, 1)]).await;
        for order in &orders {
            scene.system.wait_status(*order, "confirmed").await;
        }
        sqlx::raw_sql("alter sequence failures restart; truncate failing").execute(&db).await.expect("done");
        sqlx::query("insert into failing values ($1)").bind(code).execute(&db).await.expect("done");
        let fault = Instant::now();
        for order in &orders {
            scene.system.cancel(*order).await.expect(202);
        }
        let sagas = scene.system.client(Service::Order);
        let visible = eventually(SOON, || async {
            let answer = Answer::try_of(sagas.request(Method::GET, "/sagas?stuck=true&limit=100")).await;
            let page: Value = answer.map(|answer| answer.json()).unwrap_or_default();
            let stuck = page["items"].as_array().cloned().unwrap_or_default();
            let ours = |item: &Value| orders.iter().any(|order| item["order_id"] == json!(order));
            if stuck.iter().any(ours) { Ok(fault.elapsed()) } else { Err(page) }
        })
        .await;
        run.detected(visible);
        let failed = eventually(FAILED_WITHIN, || async {
            let failed: i64 = sqlx::query_scalar("select last_value from failures").fetch_one(&db).await.expect("the count");
            if failed > FAILURES { Ok(failed) } else { Err(failed) }
        })
        .await;
        assert!(failed > FAILURES);
        let since = Instant::now();
        for order in &orders {
            eventually(BACK_WITHIN, || async {
                let status: String = sqlx::query_scalar("select status from orders where id = $1")
                    .bind(order.0)
                    .fetch_one(&scene.system.order_db)
                    .await
                    .expect("the order");
                if status == "cancelled" { Ok(()) } else { Err(status) }
            })
            .await;
            run.fired();
        }
        cancelled += orders.len();
        scene.well_within(since, BACK_WITHIN).await;
    }
    run.note(format!("{AT_ONCE} orders at a time"));
    scene.end_among(Others { cancelled, ..Others::default() }).await;
}

pub async fn slower_than_ack_wait(run: Run) {
    const WAIT: Duration = Duration::from_secs(1);
    // A batch asks five times: some seconds. Were it later, the service would give up its connections, which is another row.
    let late = Lane::late(Duration::from_millis(200), Duration::from_millis(100));
    let mut scene = Scene::begin(&run, patient().linked()).await.slow_down(Duration::from_millis(100)).await;
    ack_wait(&scene.system, WAIT).await;
    for _ in 0..run.times {
        // What came again in the lap before is acknowledged.
        eventually(SOON, || async {
            let (pending, again) = unacknowledged(&scene.system, "PRODUCT_COMMANDS", "product").await;
            if again == 0 { Ok(()) } else { Err(format!("{again} of {pending} that are pending came again")) }
        })
        .await;
        let fault = Instant::now();
        let line = &scene.system.links(Service::Product).database;
        line.set(Line { up: late, down: late });
        eventually(SOON, || async {
            let (pending, again) = unacknowledged(&scene.system, "PRODUCT_COMMANDS", "product").await;
            if again > 0 { Ok(()) } else { Err(format!("{pending} are pending, none came again")) }
        })
        .await;
        run.detected(fault.elapsed());
        run.fired();
        let since = Instant::now();
        line.heal();
        scene.well(since).await;
    }
    run.note("ack_wait 1 s, 2 to 3 s a batch");
    scene.end().await;
}
