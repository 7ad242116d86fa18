//! The operators' pages, as a process, on the running system: read as a browser without JavaScript reads them.

use std::process::Stdio;
use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HOST, LOCATION, ORIGIN};
use reqwest::redirect::Policy;
use reqwest::{RequestBuilder, Response, StatusCode, Url};
use rustix::process::Signal;
use serde_json::json;
use stack::Port;
use testkit::{Issuer, Service, System, eventually};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::Child;
use uuid::Uuid;

use crate::cli_saga::{command, two, waybill};
use crate::up::{Place, said, signal};

/// A console that runs.
pub struct Console {
    /// The address it printed.
    pub link: String,
    base: String,
    http: reqwest::Client,
    _child: Child,
}

impl Console {
    /// Starts one for this system.
    pub async fn start(system: &System, token: Option<&str>) -> Self {
        let port = Port::FREE.pick().expect("a free port");
        let mut command = command(system, &["console", "--port", &port.to_string()]);
        if let Some(token) = token {
            command.env("WAYBILL_TOKEN", token);
        }
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("it starts");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let line = tokio::time::timeout(Duration::from_secs(30), lines.next_line()).await.expect("in time").expect("text");
        let link = line.as_deref().and_then(|line| line.split_whitespace().nth(1)).expect("an address").to_owned();
        let http = reqwest::Client::builder().redirect(Policy::none()).no_proxy().build().expect("a client");
        Self { link, base: format!("http://127.0.0.1:{port}"), http, _child: child }
    }

    /// A request to it by a raw target, as no library sends it; returns the head of its answer.
    pub async fn target(&self, target: &str) -> String {
        let host = self.base.trim_start_matches("http://");
        let mut stream = tokio::net::TcpStream::connect(host).await.expect("it listens");
        let request = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("an answer");
        answer.split("\r\n\r\n").next().expect("a head").to_owned()
    }

    pub async fn ask(&self, path: &str) -> Response {
        self.http.get(format!("{}{path}", self.base)).send().await.expect("an answer")
    }

    /// A page that is there.
    pub async fn page(&self, path: &str) -> String {
        let response = self.ask(path).await;
        let (status, text) = (response.status(), response.text().await.expect("text"));
        assert_eq!(status, StatusCode::OK, "{path}: {text}");
        text
    }

    async fn sent(&self, path: &str, page: &str, fields: &[(&str, &str)]) -> Response {
        let token = hidden(page, "token");
        let fields: Vec<(&str, &str)> = fields.iter().copied().chain([("token", token.as_str())]).collect();
        form(self.http.post(format!("{}{path}", self.base)), &fields).send().await.expect("an answer")
    }

    /// Sends a form as the page has it; returns the page that comes of it.
    pub async fn send_and_read(&self, path: &str, page: &str, fields: &[(&str, &str)]) -> String {
        self.sent(path, page, fields).await.text().await.expect("text")
    }

    /// Sends a form as the page has it; returns where it leads.
    pub async fn send(&self, path: &str, page: &str, fields: &[(&str, &str)]) -> String {
        let response = self.sent(path, page, fields).await;
        let location = response.headers().get(LOCATION).map(|location| location.to_str().expect("text").to_owned());
        let (status, text) = (response.status(), response.text().await.expect("text"));
        location.unwrap_or_else(|| panic!("{path} leads nowhere: {status} {text}"))
    }
}

/// A form, as a browser sends it.
fn form(request: RequestBuilder, fields: &[(&str, &str)]) -> RequestBuilder {
    let url = Url::parse_with_params("http://form", fields).expect("fields");
    request.header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(url.query().unwrap_or_default().to_owned())
}

/// The value of a hidden field.
pub fn hidden(page: &str, name: &str) -> String {
    let (_, rest) = page.split_once(&format!("name=\"{name}\" value=\"")).unwrap_or_else(|| panic!("no {name} in {page}"));
    rest.split('"').next().expect("a value").to_owned()
}

#[track_caller]
pub fn holds(page: &str, parts: &[&str]) {
    for part in parts {
        assert!(page.contains(part), "`{part}` is not in {page}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_saga_is_read_entry_by_entry_and_through_time_as_this_build_decides_it() {
    let system = System::new().await;
    let console = Console::start(&system, None).await;
    let [confirmed, rejected] = two(&system).await;
    holds(&console.page("/sagas").await, &["No saga is in flight"]);
    let list = console.page("/sagas?status=rejected").await;
    holds(&list, &[&rejected.to_string(), "<option selected>rejected</option>"]);
    assert!(!list.contains(&confirmed.to_string()));
    holds(&console.page("/sagas?older_than=ten").await, &["is not a length of time"]);

    let page = console.page(&format!("/sagas/{rejected}")).await;
    let parts = ["the order was placed", "product service: refused, insufficient_stock", "REJECTED", "1 available", "<svg"];
    holds(&page, &parts);
    assert!(!page.contains("data-live") && !page.contains("This build decides otherwise"), "{page}");
    let at = console.page(&format!("/sagas/{rejected}?at=2")).await;
    holds(
        &at,
        &[
            "Entry 2 of 3",
            "steps.validate_user",
            "<ins><i>+ </i>",
            "<del><i>− </i>",
            "It would send: ask reserve_stock",
            "waybill.product.reserve.v1",
        ],
    );
    let raw: serde_json::Value = console.ask(&format!("/sagas/{rejected}/raw")).await.json().await.expect("JSON");
    assert_eq!((&raw["saga"], raw["entries"].as_array().map(Vec::len)), (&json!("order"), Some(3)));

    // A history that another build wrote: this one would have decided otherwise.
    sqlx::query(
        "update order_history set entry = replace(entry, '\"attempt\":1', '\"attempt\":7') where order_id = $1 and sequence = 2",
    )
    .bind(rejected.0)
    .execute(&system.order_db)
    .await
    .expect("changed");
    let diverged = console.page(&format!("/sagas/{rejected}?at=2")).await;
    holds(&diverged, &["This build decides otherwise.", "Divergence at entry 2", "The history says"]);
    holds(&console.page(&format!("/sagas/{rejected}?at=3")).await, &["This build does not come this far"]);
    sqlx::query("update order_history set entry = '{}' where order_id = $1")
        .bind(rejected.0)
        .execute(&system.order_db)
        .await
        .expect("changed");
    holds(&console.page(&format!("/sagas/{rejected}")).await, &["This build cannot read its history."]);
    let act = console.page(&format!("/sagas/{rejected}/retry")).await;
    holds(&act, &["This build cannot read its history.", "as it is kept", "docs/operations.md", "Nothing was done"]);
    assert!(!act.contains("<form"), "what cannot be foretold is not offered: {act}");

    for (path, status) in [("/nowhere", 404), ("/sagas/x", 404), (&*format!("/sagas/{}", Uuid::now_v7()), 404)] {
        assert_eq!(console.ask(path).await.status(), status, "{path}");
    }
    let found = console.ask(&format!("/find?id={confirmed}")).await;
    assert_eq!(found.headers()[LOCATION], format!("/sagas/{confirmed}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_stuck_is_shown_by_its_cause_and_put_right_by_a_button_that_first_says_what_it_would_do() {
    let system = System::builder().order(|order| order.sagas.timing.stuck_after = Duration::from_millis(300)).start().await;
    let console = Console::start(&system, None).await;
    let (user, product) = (system.create_user(true).await, system.create_product(30, 1999).await);
    holds(&console.page("/attention").await, &["Nothing is stuck."]);
    system.stop(Service::Product).await;
    let order = system.submit(user, &[(product, 1)]).await;
    system.wait_entries(order, 2).await;
    let attention = eventually(Duration::from_secs(20), || async {
        let page = console.page("/attention").await;
        if page.contains(&order.to_string()) { Ok(page) } else { Err(page) }
    })
    .await;
    holds(
        &attention,
        &["waiting for the product service to reserve the stock</h2>", "last answer waybill.user.validated.v1", "retry all"],
    );

    // Every page says how many there are.
    eventually(Duration::from_secs(20), || async {
        let page = console.page("/audit").await;
        if page.contains("Needs attention <span class=\"count\">1</span>") { Ok(()) } else { Err(page) }
    })
    .await;

    let path = format!("/sagas/{order}");
    let page = console.page(&path).await;
    holds(&page, &["data-live=", "stuck", &format!("{path}/retry"), &format!("{path}/compensate")]);
    assert!(!page.contains(&format!("{path}/skip")), "nothing is being undone");
    let before = system.history(order).await.len();
    let confirm = console.page(&format!("{path}/compensate")).await;
    holds(&confirm, &["What it would do", "goes back", "undo reserve_stock", "It is kept in the history"]);
    assert_eq!(system.history(order).await.len(), before, "nothing was done yet");
    let refused = console.page(&format!("{path}/skip?step=reserve_stock")).await;
    holds(&refused, &["It would be refused: this step is not being undone"]);

    let without = form(console.http.post(format!("{}{path}/compensate", console.base)), &[("reason", "x")])
        .send()
        .await
        .expect("an answer");
    assert_eq!(without.status(), 403, "without the token of our form");
    let done = console.send(&format!("{path}/compensate"), &confirm, &[("reason", "the shelf is gone")]).await;
    assert_eq!(done, format!("{path}?done=compensate"));
    holds(
        &console.page(&done).await,
        &["Done: compensate.", "operator ann: compensate", "the shelf is gone", &format!("{path}/skip?step=reserve_stock")],
    );
    let confirm = console.page(&format!("{path}/skip?step=reserve_stock")).await;
    console.send(&format!("{path}/skip"), &confirm, &[("reason", "by hand"), ("step", "reserve_stock")]).await;
    assert_eq!(system.wait_final(order).await["status"], "rejected");
    holds(&console.page(&path).await, &["reserve_stock given up", "given-up"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_done_to_many_keeps_a_pace_can_be_paused_and_stopped_and_is_the_same_from_a_terminal() {
    let system = System::builder().order(|order| order.sagas.timing.stuck_after = Duration::from_millis(300)).start().await;
    let console = Console::start(&system, None).await;
    let (user, product) = (system.create_user(true).await, system.create_product(300, 1999).await);
    system.stop(Service::Product).await;
    let orders = system.submit_many(40, user, &[(product, 1)]).await;
    eventually(Duration::from_secs(20), || async {
        let page = console.page("/attention").await;
        if page.contains("<b>40</b>") { Ok(()) } else { Err(page) }
    })
    .await;
    let query = "stuck=1&cause=waiting%20for%20the%20product";
    let confirm = console.page(&format!("/bulk/retry?{query}")).await;
    holds(&confirm, &["40 sagas", "for example: asks again; ask reserve_stock (attempt "]);
    let fields =
        [("stuck", "1"), ("cause", "waiting for the product"), ("reason", "it is back"), ("rate", "2"), ("expected", "40")];
    for reason in ["x".repeat(201), "a\u{202e}b".to_owned(), "a\nb".to_owned()] {
        let fields = [("stuck", "1"), ("reason", reason.as_str()), ("rate", "2"), ("expected", "40")];
        holds(&console.send_and_read("/bulk/retry", &confirm, &fields).await, &["The reason must", "Nothing was done."]);
    }
    let garbage = [("id", "garbage"), ("stuck", "1"), ("reason", "x"), ("rate", "2"), ("expected", "40")];
    holds(&console.send_and_read("/bulk/retry", &confirm, &garbage).await, &["`garbage` is no id. Nothing was done."]);
    // Fewer were seen than there are: it asks again.
    let few = [("stuck", "1"), ("reason", "it is back"), ("rate", "2"), ("expected", "39")];
    let again = console.send_and_read("/bulk/retry", &confirm, &few).await;
    holds(&again, &["there were 39 when you were asked, and there are 40 now", "name=\"expected\" value=\"40\""]);
    holds(&console.page("/jobs").await, &["class=\"empty\""]);
    let job = console.send("/bulk/retry", &confirm, &fields).await;
    let page = console.page(&job).await;
    holds(&page, &["data-renew", "Pause", "of 40"]);
    let begun = eventually(Duration::from_secs(20), || async {
        let page = console.page(&job).await;
        if page.contains("<dt>Done</dt><dd>0</dd>") { Err(page) } else { Ok(page) }
    })
    .await;
    holds(&begun, &["of 40"]);
    console.send(&format!("{job}/pause"), &page, &[]).await;
    holds(&console.page(&job).await, &["Go on", "paused"]);
    console.send(&format!("{job}/stop"), &page, &[]).await;
    let ended = eventually(Duration::from_secs(10), || async {
        let page = console.page(&job).await;
        if page.contains("pill stopped") { Ok(page) } else { Err(page) }
    })
    .await;
    assert!(!ended.contains("Go on"), "{ended}");
    let retried = async |orders: &[events::OrderId]| {
        let mut retried = 0;
        for order in orders {
            let history = system.history(*order).await;
            retried += usize::from(history.iter().any(|entry| entry["message"]["operator"]["by"] == "ann"));
        }
        retried
    };
    assert!((1..20).contains(&retried(&orders).await));

    // Those that were chosen in a list.
    let ids: Vec<(&str, String)> = orders[..3].iter().map(|order| ("id", order.to_string())).collect();
    let chosen: Vec<String> = ids.iter().map(|(name, id)| format!("{name}={id}")).collect();
    let confirm = console.page(&format!("/bulk/cancel?{}", chosen.join("&"))).await;
    holds(&confirm, &["3 sagas", "goes back"]);
    let mut fields: Vec<(&str, &str)> = ids.iter().map(|(name, id)| (*name, id.as_str())).collect();
    fields.extend([("reason", "they called"), ("rate", "100")]);
    let job = console.send("/bulk/cancel", &confirm, &fields).await;
    eventually(Duration::from_secs(10), || async {
        let page = console.page(&job).await;
        if page.contains("pill done") && page.contains("<dd>3</dd>") { Ok(()) } else { Err(page) }
    })
    .await;
    holds(&console.page("/jobs").await, &["Cancel 3 chosen sagas", "Retry all that are stuck: waiting for the product"]);

    // The command does the same.
    let many = [
        "saga",
        "retry",
        "--stuck",
        "--cause",
        "RESERVE THE STOCK",
        "--rate",
        "500",
        "--reason",
        "it is back",
        "--yes",
        "-o",
        "json",
    ];
    let report = waybill(&system, &many).await.json(0);
    assert_eq!((&report["done"], &report["left"], &report["stopped"]), (&json!(37), &json!(0), &json!(false)), "{report}");
    assert_eq!(retried(&orders[3..]).await, 37);
    waybill(&system, &["saga", "retry", "--reason", "x", "--yes"]).await.expect(2);
    let long = "x".repeat(201);
    let refused = waybill(&system, &["saga", "retry", "--stuck", "--reason", &long, "--yes"]).await;
    assert!(refused.0 == 2 && refused.2.contains("--reason must be 1 to 200 characters long"), "{}", refused.2);
    let refused = waybill(&system, &["dead-letter", "drop", "1", "--why", "x\u{202e}y", "--yes"]).await;
    assert!(refused.0 == 2 && refused.2.contains("--why must not hold control characters"), "{}", refused.2);
    waybill(&system, &["saga", "retry", &orders[0].to_string(), "--cause", "x", "--reason", "x", "--yes"]).await.expect(2);
    let nobody = waybill(&system, &["saga", "skip", "--stuck", "--cause", "no such cause", "--reason", "x", "--yes"]).await;
    assert!(nobody.0 == 0 && nobody.2.contains("No order is stuck so."), "{}", nobody.2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_another_site_reads_nothing_and_presses_no_button() {
    let system = System::new().await;
    let console = Console::start(&system, None).await;
    let [_, order] = two(&system).await;
    let url = format!("{}/sagas/{order}", console.base);
    let page = console.ask(&format!("/sagas/{order}")).await;
    let policy = page.headers()["content-security-policy"].to_str().expect("text").to_owned();
    assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'") && !policy.contains("unsafe"));
    for (name, value) in
        [("x-content-type-options", "nosniff"), ("referrer-policy", "same-origin"), ("cache-control", "no-store")]
    {
        assert_eq!(page.headers()[name], value);
    }
    let text = page.text().await.expect("text");
    assert!(!text.contains("style=") && !text.contains("<script>") && !text.contains("onclick"), "nothing inline");

    let strange = console.http.get(&url).header(HOST, "rebind.evil.example").send().await.expect("an answer");
    assert_eq!(strange.status(), 421);
    let token = hidden(&console.page(&format!("/sagas/{order}/cancel")).await, "token");
    let post = || form(console.http.post(format!("{url}/cancel")), &[("reason", "x"), ("token", &token)]);
    for (name, value) in [
        (ORIGIN.as_str(), "https://evil.example"),
        (ORIGIN.as_str(), "null"),
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
    ] {
        assert_eq!(post().header(name, value).send().await.expect("an answer").status(), 403, "{name}: {value}");
    }
    let own = post().header(ORIGIN, &console.base).header("sec-fetch-site", "same-origin").send().await.expect("an answer");
    assert_eq!(own.status(), 409, "refused by the service, whose outcome stands");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_acts_by_a_token_lends_it_only_to_a_browser_that_has_the_key() {
    let issuer = Issuer::new();
    let system = System::builder().believing(&issuer).start().await;
    let token = issuer.token("olga", &["operator"]);
    let console = Console::start(&system, Some(&token)).await;
    for path in ["/", "/sagas", "/assets/console.css", "/?key=", "/?key=x"] {
        let refused = console.ask(path).await;
        assert_eq!(refused.status(), 403, "{path}");
        holds(&refused.text().await.expect("text"), &["Open the console with the address that it printed"]);
    }
    let opened = console.http.get(&console.link).send().await.expect("an answer");
    let cookie = opened.headers()["set-cookie"].to_str().expect("text").to_owned();
    assert!(opened.status().is_redirection() && cookie.contains("HttpOnly; SameSite=Strict"), "{cookie}");
    let cookie = cookie.split(';').next().expect("a cookie");
    let key = console.link.split_once("key=").expect("a key").1;
    for away in ["//evil.example/a", "/%5cevil.example/..%5c", "/\\evil.example"] {
        let head = console.target(&format!("{away}?key={key}")).await;
        let location = head.lines().find_map(|line| line.strip_prefix("location: "));
        assert!(location.is_none_or(|to| !to.starts_with("//") && !to.contains('\\')), "{head}");
    }
    let page = console.http.get(format!("{}/sagas", console.base)).header("cookie", cookie).send().await.expect("an answer");
    assert_eq!(page.status(), 200);
    holds(&page.text().await.expect("text"), &["Acting as <b>olga</b>", "No saga is in flight"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn waybill_up_serves_it_in_the_name_of_whoever_runs_the_system() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let place = Place::new().await;
    let port = Port::FREE.pick().expect("a free port");
    let flag = format!("--console-port={port}");
    let taken = std::net::TcpListener::bind(("127.0.0.1", port)).expect("a free port");
    let (code, _, why) = said(place.up(place.ports, &["--ephemeral", &flag])).await;
    assert!(code == Some(1) && why.contains("--console-port or WAYBILL_CONSOLE_PORT moves it"), "{why}");
    drop(taken);
    let mut up = place.start("up", place.up(place.ports, &["--ephemeral", "--auth", &flag])).await;
    let printed = place.read("up.out");
    let link = printed.lines().find_map(|line| line.strip_prefix("console   ")).expect("its address").to_owned();
    let http = reqwest::Client::builder().redirect(Policy::none()).no_proxy().build().expect("a client");
    let base = format!("http://127.0.0.1:{port}");
    assert_eq!(http.get(format!("{base}/sagas")).send().await.expect("an answer").status(), 403);
    let opened = http.get(link).send().await.expect("an answer");
    let cookie = opened.headers()["set-cookie"].to_str().expect("text").split(';').next().expect("a cookie").to_owned();
    let get = async |path: &str| {
        let answer = http.get(format!("{base}{path}")).header("cookie", &cookie).send().await.expect("an answer");
        let (status, text) = (answer.status(), answer.text().await.expect("text"));
        assert_eq!(status, 200, "{path}: {text}");
        text
    };
    holds(&get("/sagas").await, &["No saga is in flight"]);
    holds(&get("/audit").await, &["Nobody has taken a hand in anything."]);
    holds(&get("/dead-letters").await, &["Every message was handled."]);
    eventually(Duration::from_secs(30), || async {
        let page = get("/").await;
        if page.matches("<span class=\"pill good\">ready</span>").count() == 4 { Ok(()) } else { Err(page) }
    })
    .await;
    signal(up.id().expect("it runs"), Signal::TERM);
    assert!(up.wait().await.expect("a child").success());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_flows_is_shown_with_how_each_service_is_and_which_sagas_this_build_continues() {
    let system = System::new().await;
    let console = Console::start(&system, None).await;
    two(&system).await;
    let overview = eventually(Duration::from_secs(30), || async {
        let page = console.page("/").await;
        let ready = page.matches("<span class=\"pill good\">ready</span>").count();
        if ready == 4 && page.contains("<path class=\"line") && page.contains("confirmed ") { Ok(page) } else { Err(page) }
    })
    .await;
    holds(&overview, &["Final a second", "Time to final, p50", "In flight", "Stuck", "Dead letters", "data-renew"]);
    let streams = console.page("/streams").await;
    let parts = ["ORDER_EVENTS", "PRODUCT_COMMANDS", "events.order.", "up to date", "Instances and their outboxes"];
    holds(&streams, &parts);
    let upgrade = console.page("/upgrade").await;
    holds(&upgrade, &["Nothing is in flight", "new sagas take it", "reserve_stock", "compensatable", "fingerprint"]);

    system.stop(Service::Product).await;
    let (user, product) = (system.create_user(true).await, Uuid::now_v7());
    let order = system.submit(user, &[(events::ProductId(product), 1)]).await;
    system.wait_entries(order, 2).await;
    let upgrade = async |part: &str| {
        eventually(Duration::from_secs(20), || async {
            let page = console.page("/upgrade").await;
            if page.contains(part) { Ok(page) } else { Err(page) }
        })
        .await
    };
    upgrade("continues the one saga in flight").await;
    sqlx::query("update plans set fingerprint = '00000000000000ff'").execute(&system.order_db).await.expect("changed");
    holds(&upgrade("does not continue 1 of 1").await, &["was changed after it began", &order.to_string()]);
    // Who is gone stays where somebody looks for it, and what nobody reads is said to be so.
    eventually(Duration::from_secs(60), || async {
        let page = console.page("/").await;
        if page.contains(">product</th><td data-label=\"State\"><span class=\"pill bad\">no answer") { Ok(()) } else { Err(page) }
    })
    .await;
    eventually(Duration::from_secs(60), || async {
        let page = console.page("/streams").await;
        if page.contains("nobody reads") { Ok(()) } else { Err(page) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_shown_by_reason_put_right_sent_back_and_deleted() {
    let system = System::new().await;
    let console = Console::start(&system, None).await;
    let [confirmed, _] = two(&system).await;
    let event = |kind: &str| {
        json!({
            "specversion": "1.0", "id": "1", "source": "/waybill/product", "type": kind,
            "time": "2026-01-02T03:04:05Z", "subject": confirmed, "data": {"order_id": confirmed},
        })
    };
    for _ in 0..3 {
        system.say("replies.product", &[event("waybill.product.reserved.v9")]).await;
    }
    let counted = async |count: u64| {
        eventually(Duration::from_secs(20), || async {
            let page = console.page("/dead-letters").await;
            if page.contains(&format!("<span class=\"quiet\">{count}</span>")) { Ok(page) } else { Err(page) }
        })
        .await
    };
    counted(3).await;
    system.jetstream().publish("replies.user", "garbage".into()).await.expect("sent").await.expect("stored");
    let list = counted(4).await;
    holds(&list, &["PRODUCT_REPLIES", "USER_REPLIES", "not a batch", &confirmed.to_string(), "waybill.product.reserved.v9"]);
    let kind = console.page("/dead-letters?stream=USER_REPLIES").await;
    assert!(!kind.contains("waybill.product.reserved.v9</code>") && kind.contains("/dead-letters/4"), "{kind}");

    // Put right: the reply is one that means something, and nothing to a saga that had it already.
    let letter = console.page("/dead-letters/1").await;
    holds(&letter, &["event 1 of its message", "<textarea", "waybill.product.reserved.v9", "Delete for good"]);
    let wrong = console.send_and_read("/dead-letters/1/mend", &letter, &[("payload", "{"), ("why", "x")]).await;
    holds(&wrong, &["Nothing was sent: it is no JSON."]);
    let mended = json!({
        "specversion": "1.0", "id": "1", "source": "/waybill/product", "type": "waybill.product.released.v1",
        "time": "2026-01-02T03:04:05Z", "subject": confirmed, "data": {"order_id": confirmed},
    });
    let done = console.send("/dead-letters/1/mend", &letter, &[("payload", &mended.to_string()), ("why", "the old word")]).await;
    holds(&console.page(&done).await, &["Done: dead letter 1 was sent back"]);
    assert_eq!(console.ask("/dead-letters/1").await.status(), 404);

    // The others go back as they are, and come back.
    let all = console.page("/dead-letters/all/redrive?stream=PRODUCT_REPLIES&consumer=order").await;
    holds(&all, &["2 dead letters of PRODUCT_REPLIES to order", "what fails again comes back"]);
    let last = hidden(&all, "last");
    let which = [("stream", "PRODUCT_REPLIES"), ("consumer", "order"), ("rate", "100"), ("why", "once more"), ("last", &last)];
    let job = console.send("/dead-letters/all/redrive", &all, &which).await;
    eventually(Duration::from_secs(20), || async {
        let page = console.page(&job).await;
        if page.contains("pill done") { Ok(()) } else { Err(page) }
    })
    .await;
    let back = eventually(Duration::from_secs(20), || async {
        let page = console.page("/dead-letters?stream=PRODUCT_REPLIES").await;
        if page.matches("data-label=\"Redrives\" class=\"num\">1</td>").count() == 2 { Ok(page) } else { Err(page) }
    })
    .await;
    assert!(!back.contains("/dead-letters/2\"") && !back.contains("/dead-letters/3\""), "their first lives are gone");
    let letter = console.page("/dead-letters/4").await;
    holds(&letter, &["<pre tabindex=\"0\">garbage</pre>"]);
    console.send("/dead-letters/4/drop", &letter, &[("why", "garbage")]).await;
    assert_eq!(console.ask("/dead-letters/4").await.status(), 404);
    let all = console.page("/dead-letters/all/drop").await;
    let last = hidden(&all, "last");
    console.send("/dead-letters/all/drop", &all, &[("rate", "100"), ("why", "enough"), ("last", &last)]).await;
    eventually(Duration::from_secs(20), || async {
        let page = console.page("/dead-letters").await;
        if page.contains("Every message was handled.") { Ok(()) } else { Err(page) }
    })
    .await;
    system.audit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_action_of_an_operator_is_listed_with_who_when_why_and_what_came_of_it_page_after_page() {
    let system = System::new().await;
    let console = Console::start(&system, None).await;
    let (user, product) = (system.create_user(true).await, system.create_product(3, 1999).await);
    system.stop(Service::Product).await;
    let orders = system.submit_many(3, user, &[(product, 1)]).await;
    let client = system.client(Service::Order);
    for order in &orders {
        system.wait_entries(*order, 2).await;
        let act = async |verb: &str| {
            let body = json!({ "by": "ben", "reason": format!("{verb} for <b>INC-1</b>") });
            client.post(&format!("/sagas/{order}/{verb}"), &body).await.expect(200)
        };
        act("retry").await;
        act("compensate").await;
        act("skip").await;
    }
    let page = console.page("/audit").await;
    assert_eq!(page.matches("data-label=\"Who\">ben</td>").count(), 9, "{page}");
    holds(
        &page,
        &[
            "skip reserve_stock",
            "retry for &#60;b&#62;INC-1&#60;/b&#62;",
            "undo reserve_stock",
            "ask reserve_stock (attempt 2)",
            "rejected",
        ],
    );

    // By person, action and time, and page after page of these too.
    let reason = json!({ "by": "Zoë \"Z\" O'Hara", "reason": "\"by\":\"ben\"" });
    let other = system.submit(user, &[(product, 1)]).await;
    system.wait_entries(other, 2).await;
    client.post(&format!("/sagas/{other}/retry"), &reason).await.expect(200);
    let count = async |query: &str| {
        let path = format!("/actions?{query}");
        client.get(&path).await.expect(200)["items"].as_array().expect("items").len()
    };
    assert_eq!((count("by=ben").await, count("by=BEN&action=skip").await, count("action=retry").await), (9, 3, 4));
    assert_eq!((count("by=zo%C3%AB%20%22Z%22%20O%27Hara").await, count("by=be").await, count("action=redrive").await), (1, 0, 0));
    assert_eq!((count("from=2026-01-01T00:00:00Z&limit=200").await, count("to=2026-01-01T00:00:00Z").await), (10, 0));
    let first = client.get("/actions?by=ben&limit=5").await.expect(200);
    let next = first["next_cursor"].as_str().expect("there are more").to_owned();
    assert_eq!(count(&format!("by=ben&limit=5&cursor={next}")).await, 4);
    client.get("/actions?by=%00").await.problem(400, "malformed");
    let narrowed = console.page("/audit?by=ben&action=skip&from=1h").await;
    assert_eq!(narrowed.matches("data-label=\"Who\">ben</td>").count(), 3, "{narrowed}");
    holds(&console.page("/audit?by=nobody").await, &["No action is like this."]);
    holds(&console.page("/audit?from=soon").await, &["is neither a moment"]);
    let said =
        crate::cli_saga::waybill(&system, &["saga", "actions", "--by", "ben", "--action", "skip", "--from", "1h", "-o", "json"])
            .await;
    assert_eq!(said.json(0)["items"].as_array().expect("items").len(), 3);

    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = client.get(&format!("/sagas/actions?limit=2&cursor={cursor}")).await.expect(200);
        let items = page["items"].as_array().expect("items").clone();
        assert!(items.len() <= 2);
        seen.extend(items);
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = next.to_owned();
    }
    let times: Vec<&str> = seen.iter().map(|action| action["time"].as_str().expect("a time")).collect();
    assert!(seen.len() == 10 && times.is_sorted_by(|one, other| one >= other), "{seen:#?}");
    let mut each: Vec<(&str, u64)> = seen
        .iter()
        .map(|action| (action["order_id"].as_str().expect("an id"), action["sequence"].as_u64().expect("a number")))
        .collect();
    each.sort_unstable();
    each.dedup();
    assert_eq!(each.len(), 10, "each once");

    // However many entries there are, only those of operators are looked at.
    eventually(Duration::from_secs(60), || async {
        let valid: Option<bool> =
            sqlx::query_scalar("select indisvalid from pg_index where indexrelid = to_regclass('order_history_actions')")
                .fetch_optional(&system.order_db)
                .await
                .expect("asked");
        if valid == Some(true) { Ok(()) } else { Err(valid) }
    })
    .await;
    let mut db = system.order_db.acquire().await.expect("a connection");
    sqlx::query("set enable_seqscan = off").execute(&mut *db).await.expect("set");
    let plan: Vec<String> = sqlx::query_scalar(
        "explain select order_id from order_history where left(entry, 22) = '{\"message\":{\"operator\"' \
         order by at desc, order_id desc, sequence desc limit 100",
    )
    .fetch_all(&mut *db)
    .await
    .expect("a plan");
    assert!(plan.iter().any(|line| line.contains("order_history_actions")), "{plan:#?}");
}
