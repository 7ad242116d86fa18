//! What services measure.

use std::time::{Duration, Instant};

use testkit::{Service, System, eventually};

/// What is counted beside the work is there within some seconds.
const SOON: Duration = Duration::from_secs(15);

/// The value of a series, as `/metrics` writes it.
async fn value(system: &System, service: Service, series: &str) -> f64 {
    let metrics = system.client(service).get("/metrics").await.text;
    let found = metrics.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok());
    found.unwrap_or_else(|| panic!("no {series} in {metrics}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_cancelled_long_after_it_was_confirmed_counts_from_its_cancellation() {
    let system = System::new().await;
    let (user, product) = (system.create_user(true).await, system.create_product(10, 1999).await);
    let order = system.submit(user, &[(product, 1)]).await;
    assert_eq!(system.wait_final(order).await["status"], "confirmed");
    sqlx::query("update orders set created_at = created_at - interval '1 hour'").execute(&system.order_db).await.expect("aged");
    system.cancel(order).await.expect(202);
    system.wait_status(order, "cancelled").await;
    let seconds = |status: &str, part: &str| format!("waybill_saga_seconds_{part}{{saga=\"order\",status=\"{status}\"}}");
    for status in ["confirmed", "cancelled"] {
        let count = || async {
            let count = value(&system, Service::Order, &seconds(status, "count")).await;
            if count == 1.0 { Ok(()) } else { Err(count) }
        };
        eventually(SOON, count).await;
        let sum = value(&system, Service::Order, &seconds(status, "sum")).await;
        assert!(sum > 0.0 && sum < 60.0, "{status}: {sum}");
        assert_eq!(value(&system, Service::Order, &format!("waybill_orders_ended_total{{status=\"{status}\"}}")).await, 1.0);
    }
    let step = |outcome: &str, direction: &str, part: &str| {
        let labels = format!("saga=\"order\",step=\"reserve_stock\",direction=\"{direction}\",outcome=\"{outcome}\"");
        format!("waybill_step_seconds_{part}{{{labels}}}")
    };
    for (outcome, direction, count) in [("done", "execute", 1.0), ("undone", "compensate", 1.0), ("abandoned", "execute", 0.0)] {
        assert_eq!(value(&system, Service::Order, &step(outcome, direction, "count")).await, count, "{outcome}");
    }
    let undone = value(&system, Service::Order, &step("undone", "compensate", "sum")).await;
    assert!(undone > 0.0 && undone < 60.0, "{undone}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_scrapes_waits_for_no_database_and_takes_none_of_its_connections() {
    let system = System::new().await;
    system.create_user(true).await;
    let waits = async || value(&system, Service::User, "waybill_pool_wait_seconds_count{pool=\"reading\"}").await;
    let before = waits().await;
    for _ in 0..50 {
        waits().await;
    }
    // The service's own looks at its outbox and its database, every few seconds.
    let looks = waits().await - before;
    assert!(before > 0.0 && looks < 25.0, "{looks}");

    system.stack.postgres.pause().expect("paused");
    let begun = Instant::now();
    for service in Service::ALL.repeat(5) {
        assert_eq!(system.client(service).get("/metrics").await.status, 200, "{service:?}");
    }
    let took = begun.elapsed();
    system.stack.postgres.resume().expect("resumed");
    // Whoever asks the database waits for five seconds, each time.
    assert!(took < Duration::from_secs(25), "{took:?}");
    eventually(SOON, || async {
        let ready = system.client(Service::User).get("/readyz").await;
        if ready.status == 200 { Ok(()) } else { Err(ready.text) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn services_side_by_side_in_one_process_each_measure_for_themselves() {
    let system = System::new().await;
    let user = system.create_user(true).await;
    system.client(Service::Gateway).get(&format!("/users/{user}")).await.expect(200);
    for service in Service::ALL {
        let metrics = system.client(service).get("/metrics").await.text;
        let mine = format!("service=\"{}\"", service.name());
        let others: Vec<&str> = metrics.lines().filter(|line| line.contains("service=\"") && !line.contains(&mine)).collect();
        assert!(others.is_empty(), "{service:?}: {others:#?}");
        assert!(metrics.contains(&format!("\nwaybill_build_info{{{mine},version=\"")), "{metrics}");
        assert!(metrics.contains("\nwaybill_ready 1\n") && metrics.contains("\nprocess_resident_memory_bytes "), "{metrics}");
        assert_eq!(metrics.contains("waybill_orders_ended_total"), service == Service::Order);
    }
    let second = system.start_second(Service::Order).await;
    system.create_product(10, 1999).await;
    let requests = "waybill_http_requests_total{service=\"order\",method=\"POST\"";
    assert!(!second.client().get("/metrics").await.text.contains(requests), "the other instance's requests are its own");
}
