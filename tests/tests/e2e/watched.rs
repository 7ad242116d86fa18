//! What `deploy/` watches with, against a running system and a real Prometheus: the rules are well formed and come when they should, every
//! expression finds something, and what documents name exists.

mod prometheus;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use testkit::{Answer, Service, System, eventually, order_body};

use self::prometheus::{Prometheus, promtool};

/// For what is scraped every second, and counted every five.
const SOON: Duration = Duration::from_secs(60);

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The alerts of `deploy/alerts.yml`.
fn alerts() -> Vec<Value> {
    let rules: Value = serde_saphyr::from_str(&read("deploy/alerts.yml")).expect("YAML");
    let groups = rules["groups"].as_array().expect("groups").clone();
    groups.iter().flat_map(|group| group["rules"].as_array().expect("rules").clone()).collect()
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_else(|| panic!("no {field} in {value:#}"))
}

/// The dashboards, by file.
fn dashboards() -> BTreeMap<&'static str, Value> {
    ["overview", "internals"]
        .map(|name| (name, serde_json::from_str(&read(&format!("deploy/grafana/dashboards/{name}.json"))).expect("JSON")))
        .into()
}

/// The panels that show something.
fn panels(dashboard: &Value) -> Vec<&Value> {
    dashboard["panels"].as_array().expect("panels").iter().filter(|panel| panel["type"] != "row").collect()
}

/// An alert's expression without what it is compared with.
fn without_thresholds(expression: &str) -> String {
    let mut words = expression.split_whitespace();
    let mut kept = Vec::new();
    while let Some(word) = words.next() {
        if [">", "<", ">=", "<=", "==", "!="].contains(&word) {
            words.next();
        } else {
            kept.push(word);
        }
    }
    kept.join(" ")
}

/// Every expression, with where it stands: that of an alert without its threshold.
fn expressions() -> Vec<(String, String)> {
    let alerts = alerts();
    let of_alerts = alerts.iter().map(|alert| (text(alert, "alert").to_owned(), without_thresholds(text(alert, "expr"))));
    let mut expressions: Vec<(String, String)> = of_alerts.collect();
    for (name, dashboard) in &dashboards() {
        for panel in panels(dashboard) {
            for target in panel["targets"].as_array().expect("targets") {
                let expression = text(target, "expr").replace("$__rate_interval", "1m");
                expressions.push((format!("{name}: {}", text(panel, "title")), expression));
            }
        }
        for annotation in dashboard["annotations"]["list"].as_array().expect("annotations") {
            expressions.push((format!("{name}: the marks"), without_thresholds(text(annotation, "expr"))));
        }
    }
    expressions
}

#[tokio::test]
async fn the_rules_are_well_formed_and_come_when_they_should_and_not_before() {
    let Some(promtool) = promtool().await else { return };
    for arguments in
        [["check", "rules", "alerts.yml"], ["check", "config", "prometheus.yml"], ["test", "rules", "alerts_test.yml"]]
    {
        let mut command = tokio::process::Command::new(&promtool);
        let output = command.args(arguments).current_dir(root().join("deploy")).output().await.expect("promtool runs");
        let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(output.status.success(), "{arguments:?}: {}{}", said(&output.stdout), said(&output.stderr));
    }
    let tests = read("deploy/alerts_test.yml");
    for alert in alerts() {
        assert!(tests.contains(&format!("alertname: {}\n", text(&alert, "alert"))), "{} is not tested", text(&alert, "alert"));
    }
}

#[test]
fn every_alert_says_what_it_is_and_has_a_section_in_the_runbook_and_every_section_has_its_alert() {
    let runbook = read("docs/operations.md");
    let (_, sections) = runbook.split_once("\n## Alerts\n").expect("the alerts' chapter");
    let sections: BTreeSet<&str> = sections.lines().filter_map(|line| line.strip_prefix("### ")).collect();
    let alerts = alerts();
    assert_eq!(alerts.iter().map(|alert| text(alert, "alert")).collect::<BTreeSet<_>>(), sections);
    for alert in &alerts {
        let name = text(alert, "alert");
        assert!(["critical", "warning"].contains(&text(&alert["labels"], "severity")), "{name}");
        let told = &alert["annotations"];
        assert!(!text(told, "summary").contains('{') && text(told, "description").contains("{{ $"), "{name}");
        assert_eq!(text(told, "runbook_url"), format!("docs/operations.md#{}", name.to_lowercase()));
        // Without a span to last only where the expression has one.
        assert!(alert["for"].is_string() || text(alert, "expr").contains("[1"), "{name}");
        let section = runbook.split(&format!("\n### {name}\n")).nth(1).and_then(|rest| rest.split("\n### ").next());
        let section = section.expect("a section");
        assert!(section.contains("**Customers**") && section.contains("ook**") && section.contains("o**"), "{name}");
    }
    for (file, dashboard) in &dashboards() {
        for panel in panels(dashboard) {
            let described = text(panel, "description");
            for named in described.split(|c: char| !c.is_alphanumeric()).filter(|word| word.starts_with("Waybill")) {
                assert!(sections.contains(named), "{file}: {} names {named}", text(panel, "title"));
            }
        }
    }
}

#[test]
fn every_panel_says_what_it_shows_in_which_unit_and_asks_the_source_that_was_chosen() {
    for (file, dashboard) in &dashboards() {
        let variable = &dashboard["templating"]["list"][0];
        assert_eq!(
            (text(variable, "name"), text(variable, "type"), text(variable, "query")),
            ("datasource", "datasource", "prometheus")
        );
        assert!(dashboard["schemaVersion"].as_u64() >= Some(41) && text(dashboard, "uid").starts_with("waybill-"), "{file}");
        let mut ids = BTreeSet::new();
        for panel in dashboard["panels"].as_array().expect("panels") {
            assert!(ids.insert(panel["id"].as_u64().expect("an id")), "{file}: two panels with the id {}", panel["id"]);
        }
        for panel in panels(dashboard) {
            let title = text(panel, "title");
            assert!(text(panel, "description").ends_with('.'), "{file}: {title}");
            assert!(!text(&panel["fieldConfig"]["defaults"], "unit").is_empty(), "{file}: {title}");
            let mut parts: Vec<&Value> = panel["targets"].as_array().expect("targets").iter().collect();
            parts.push(panel);
            for part in parts {
                assert_eq!(text(&part["datasource"], "uid"), "${datasource}", "{file}: {title}");
            }
        }
    }
}

/// A system with a second's patience, so that trouble shows.
async fn system() -> System {
    let system = System::builder().order(|order| {
        order.sagas.timing.stuck_after = Duration::from_secs(1);
        order.sagas.timing.retry_first = Some(Duration::from_secs(1));
        order.sagas.timing.retry_max = Some(Duration::from_secs(1));
    });
    system.start().await
}

/// Orders of every kind of outcome, one that is stuck, a dead letter, and a service that is down for a while.
async fn all_kinds_of_trouble(system: &System) {
    let gateway = system.client(Service::Gateway);
    let (user, product) = (system.create_user(true).await, system.create_product(100, 1999).await);
    for _ in 0..5 {
        let request = gateway.request(Method::POST, "/orders").header("prefer", "wait=10");
        let answer = testkit::answer(request.json(&order_body(user, &[(product, 1)]))).await;
        assert_eq!(answer.json()["status"], "confirmed");
    }
    let rejected = system.submit(user, &[(product, 1_000)]).await;
    assert_eq!(system.wait_final(rejected).await["status"], "rejected");
    let cancelled = system.submit(user, &[(product, 1)]).await;
    assert_eq!(system.wait_final(cancelled).await["status"], "confirmed");
    system.cancel(cancelled).await.expect(202);
    system.wait_status(cancelled, "cancelled").await;

    system.stop(Service::Product).await;
    let stuck = system.submit(user, &[(product, 1)]).await;
    let bad = system.jetstream().publish(events::streams::VALIDATE, "no batch".into()).await.expect("sent");
    bad.await.expect("stored");
    eventually(SOON, || async {
        let answer = Answer::try_of(gateway.request(Method::GET, "/products")).await.expect("an answer");
        let metrics = system.client(Service::Order).get("/metrics").await.text;
        if answer.status == 503 && metrics.contains("\nwaybill_sagas_stuck 1\n") { Ok(()) } else { Err(metrics) }
    })
    .await;
    system.wait_status(stuck, "pending").await;
}

/// The system has had all of it by the time the first question is asked, and some of it goes on.
#[tokio::test(flavor = "multi_thread")]
async fn every_expression_of_rules_and_dashboards_finds_something_in_a_system_that_has_trouble() {
    if promtool().await.is_none() {
        return;
    }
    let system = system().await;
    let prometheus = Prometheus::start(&system, Some(&root().join("deploy/alerts.yml"))).await;
    // Before anything happened there are counters already, so that what happens shows as an increase.
    for job in Service::ALL {
        prometheus.finds(&format!("up{{job=\"waybill-{}\"}} == 1", job.name()), SOON).await;
    }
    prometheus.finds("sum(waybill_dead_letters_total{reason=\"no_batch\", stream=\"USER_COMMANDS\"}) == 0", SOON).await;
    all_kinds_of_trouble(&system).await;

    for (place, expression) in expressions() {
        let found = prometheus.finds(&expression, SOON).await;
        assert!(!found.is_empty(), "{place}: {expression}");
    }
    // And it is what happened.
    for expression in [
        "sum(waybill_saga_seconds_count{saga=\"order\", status=\"confirmed\"}) == 6",
        "sum(waybill_saga_seconds_count{saga=\"order\", status=\"rejected\"}) == 1",
        "sum(waybill_orders_ended_total{status=\"cancelled\"}) == 1",
        "sum(waybill_step_seconds_count{step=\"reserve_stock\", outcome=\"refused\"}) == 1",
        "sum(waybill_step_seconds_count{step=\"reserve_stock\", direction=\"compensate\", outcome=\"undone\"}) == 1",
        "sum(waybill_step_seconds_count{step=\"validate_user\", outcome=\"done\"}) == 8",
        "sum(waybill_commands_repeated_total{step=\"reserve_stock\", direction=\"execute\"}) > 0",
        "sum(increase(waybill_dead_letters_total{reason=\"no_batch\", stream=\"USER_COMMANDS\"}[5m])) > 0",
        "max(waybill_sagas_stuck) == 1",
        "up{job=\"waybill-product\"} == 0",
        "sum(rate(waybill_http_requests_total{service=\"gateway\", status=\"503\"}[5m])) > 0",
        "ALERTS{alertname=\"WaybillDeadLetters\", alertstate=\"firing\"}",
        "ALERTS{alertname=\"WaybillOrdersStuck\"}",
        "ALERTS{alertname=\"WaybillInstanceDown\"}",
    ] {
        prometheus.finds(expression, SOON).await;
    }
    assert_eq!(
        prometheus.asks("ALERTS{alertname=~\"WaybillSagasUnreadable|WaybillOutboxOld|WaybillPoolWaits\"}").await,
        json!([])
    );
    system.start(Service::Product).await;
    prometheus.finds("max(waybill_sagas_stuck) == 0 and on () max(waybill_sagas_in_flight) == 0", SOON).await;
}

/// By which names a family of metrics is asked for.
fn names(exposition: &str) -> BTreeSet<String> {
    let families = exposition.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    families
        .flat_map(|(name, kind)| {
            let parts: &[&str] = if kind == "histogram" { &["", "_bucket", "_sum", "_count"] } else { &[""] };
            parts.iter().map(move |part| format!("{name}{part}"))
        })
        .collect()
}

/// The words of a text that begin like our metrics.
fn named(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words
        .filter(|word| word.starts_with("waybill_") || word.starts_with("process_"))
        .filter(|word| !word.ends_with('_'))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_metric_that_a_document_names_exists_and_says_what_it_is() {
    let system = system().await;
    all_kinds_of_trouble(&system).await;
    system.start(Service::Product).await;
    let mut known = BTreeSet::new();
    for service in Service::ALL {
        let metrics = system.client(service).get("/metrics").await;
        assert!(metrics.header("content-type").starts_with("text/plain; version=0.0.4"), "{metrics:#?}");
        let families: Vec<&str> =
            metrics.text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
        for family in families {
            assert!(metrics.text.contains(&format!("# HELP {family} ")), "{family} of {service:?} does not say what it is");
        }
        known.extend(names(&metrics.text));
    }
    // Counted only where a receiver of traces is named.
    known.extend(["waybill_spans_told_total", "waybill_spans_dropped_total"].map(str::to_owned));
    // Databases, fields and packages that are called alike.
    let others = ["waybill_user", "waybill_product", "waybill_order", "waybill_trip", "waybill_ref", "waybill_client"];
    let files =
        ["ARCHITECTURE.md", "README.md", "CHANGELOG.md", "deploy/alerts.yml", "deploy/alerts_test.yml"].map(str::to_owned);
    let folders = ["docs", "deploy/grafana/dashboards"].into_iter().flat_map(|folder| {
        let entries = std::fs::read_dir(root().join(folder)).expect("a folder");
        let names = entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("a name"));
        names.filter(|name| name.ends_with(".md") || name.ends_with(".json")).map(move |name| format!("{folder}/{name}"))
    });
    let mut found = 0;
    for file in files.into_iter().chain(folders) {
        let text = read(&file);
        for name in named(&text) {
            found += usize::from(known.contains(name));
            assert!(known.contains(name) || others.contains(&name), "{file} names {name}, which no service has");
        }
    }
    assert!(found > 50, "only {found} names were found");
}

/// The statements that a document has for `psql`, each with the variable that says which database.
fn statements(document: &str) -> Vec<(&str, &str)> {
    let lines = document.lines().filter_map(|line| line.strip_prefix("psql \"$")?.split_once("\" -c \""));
    lines.map(|(database, rest)| (database, rest.split_once('"').expect("it ends").0)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_runbook_asks_the_databases_can_be_asked() {
    let system = System::builder().start().await;
    let document = read("docs/operations.md");
    let statements = statements(&document);
    assert!(statements.len() > 2, "{statements:?}");
    let mending = read("docs/debugging.md");
    let blocks =
        mending.split("```sql\n").skip(1).map(|block| ("ORDER_DATABASE_URL", block.split("```").next().expect("it ends")));
    let id = uuid::Uuid::nil().to_string();
    let mending: Vec<(&str, String)> = blocks.map(|(database, sql)| (database, sql.replace("<order>", &id))).collect();
    assert!(!mending.is_empty());
    for (database, statement) in statements.into_iter().chain(mending.iter().map(|(database, sql)| (*database, sql.as_str()))) {
        let pool = match database {
            "USER_DATABASE_URL" => &system.user_db,
            "PRODUCT_DATABASE_URL" => &system.product_db,
            "ORDER_DATABASE_URL" => &system.order_db,
            other => panic!("{other} is no database of ours"),
        };
        let asked = sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).fetch_all(pool).await;
        asked.unwrap_or_else(|error| panic!("{statement}: {error}"));
    }
}
