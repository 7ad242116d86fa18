//! A real browser: its `EventSource` follows an order, also over a break, and the page of a stranger changes nothing.

use std::time::Duration;

use events::ProductId;
use serde_json::{Value, json};
use testkit::{Browser, Service, System, eventually};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use uuid::Uuid;

/// Follows an order in the page; what came is in `window.came`, and `window.source` says how it is.
const FOLLOW: &str = "
    window.came = [];
    window.source = new EventSource(arguments[0]);
    window.source.addEventListener('entry', (event) => window.came.push([event.lastEventId, JSON.parse(event.data)]));
";

/// What has come so far, and the state: 0 connecting, 1 open, 2 closed.
async fn came(browser: &Browser) -> (Vec<Value>, i64) {
    let seen = browser.run("return [window.came, window.source.readyState]", &[]).await;
    (seen[0].as_array().expect("a list").clone(), seen[1].as_i64().expect("a state"))
}

async fn until_came(browser: &Browser, entries: usize, state: i64) -> Vec<Value> {
    eventually(Duration::from_secs(30), || async {
        let (seen, is) = came(browser).await;
        if seen.len() == entries && is == state { Ok(seen) } else { Err(format!("{is}: {seen:#?}")) }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_source_follows_an_order_over_a_restart_to_its_end_and_comes_no_more() {
    let Some(browser) = Browser::start().await else { return };
    let system = System::builder().never_giving_up().order(asked_once).start().await;
    let (user, product) = (system.create_user(true).await, system.create_product(50, 100).await);
    for service in [Service::Order, Service::Gateway] {
        system.stop(Service::Product).await;
        let order = system.submit(user, &[(product, 1)]).await;
        system.wait_entries(order, 2).await;
        browser.open(&format!("{}/docs", system.client(service).base)).await;
        browser.run(FOLLOW, &[json!(format!("/v1/orders/{order}/events"))]).await;
        until_came(&browser, 2, 1).await;
        // The service goes and comes again, and so does the browser, by itself.
        system.stop(Service::Order).await;
        system.start(Service::Order).await;
        eventually(Duration::from_secs(30), || async {
            let (seen, state) = came(&browser).await;
            if state == 1 { Ok(()) } else { Err(seen) }
        })
        .await;
        system.start(Service::Product).await;
        // 204 ends it; it would ask for ever else.
        let seen = until_came(&browser, 3, 2).await;
        let expected: Vec<Value> =
            system.history(order).await.into_iter().zip(1..).map(|(entry, id)| json!([id.to_string(), entry])).collect();
        assert_eq!(seen, expected, "each entry once, whatever broke meanwhile");
    }
    let errors: Vec<Value> = browser.console().await;
    assert!(
        !errors.iter().any(|line| line["message"].as_str().is_some_and(|text| text.contains("Content Security"))),
        "{errors:#?}"
    );
}

/// The page of a stranger, on a port of its own: another origin. Returns its address.
async fn strangers_page() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://127.0.0.1:{}/", listener.local_addr().expect("an address").port());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = [0; 4096];
            let _ = stream.read(&mut head).await;
            let page = "<!doctype html><title>evil</title><iframe name=out></iframe>";
            let length = page.len();
            let head =
                format!("HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
            let _ = stream.write_all(format!("{head}{page}").as_bytes()).await;
        }
    });
    url
}

/// Sends whatever a page can send to others without asking them first, and what it must ask for. Says what it could see of it.
const ATTACK: &str = "
    const [url, body] = arguments;
    const seen = [];
    for (const type of ['text/plain', 'application/x-www-form-urlencoded', 'multipart/form-data', 'application/json']) {
        for (const mode of ['no-cors', 'cors']) {
            try {
                const answer = await fetch(url, { method: 'POST', mode, headers: { 'content-type': type }, body });
                if (answer.type !== 'opaque') seen.push(`${mode} ${type}: ${answer.status}`);
            } catch (error) {}
        }
    }
    try { await fetch(url, { method: 'POST', mode: 'no-cors' }); } catch (error) {}
    navigator.sendBeacon(url, body);
    navigator.sendBeacon(url, new Blob([body], { type: 'text/plain' }));
    for (const enctype of ['text/plain', 'application/x-www-form-urlencoded', 'multipart/form-data']) {
        const form = Object.assign(document.createElement('form'), { method: 'POST', action: url, enctype, target: 'out' });
        const [name, value] = [body.slice(0, -1) + ',\"x\":\"', '\"}'];
        form.append(Object.assign(document.createElement('input'), { name, value }));
        document.body.append(form);
        form.submit();
        await new Promise((done) => setTimeout(done, 300));
    }
    return seen;
";

#[tokio::test(flavor = "multi_thread")]
async fn the_page_of_a_stranger_changes_nothing_and_reads_nothing() {
    let Some(browser) = Browser::start().await else { return };
    let system = System::builder().never_giving_up().order(asked_once).without(Service::Product).start().await;
    let user = system.create_user(true).await;
    // Nobody reserves, and nobody asks again meanwhile: it stays as it is.
    let order = system.submit(user, &[(ProductId(Uuid::now_v7()), 1)]).await;
    system.wait_entries(order, 2).await;
    let before = system.history(order).await;
    let page = strangers_page().await;
    for service in [Service::Order, Service::Gateway] {
        let base = system.client(service).base;
        let refused = async || refused(&system.client(service).get("/metrics").await.text);
        let already = refused().await;
        browser.open(&page).await;
        let place = json!({ "user_id": user, "items": [{ "product_id": ProductId(Uuid::now_v7()), "quantity": 1 }] });
        for (path, body) in [(format!("/orders/{order}/cancel"), json!({ "by": "evil" })), ("/orders".to_owned(), place)] {
            let seen = browser.run(ATTACK, &[json!(format!("{base}{path}")), json!(body.to_string())]).await;
            assert_eq!(seen, json!([]), "a page of a stranger reads what it is answered");
        }
        // They came, and were turned away.
        eventually(Duration::from_secs(10), || async {
            let count = refused().await - already;
            if count >= 14.0 { Ok(()) } else { Err(format!("{count} of its requests were refused")) }
        })
        .await;
        let read = "
            return await new Promise((done) => {
                const source = new EventSource(arguments[0]);
                source.onerror = () => done(['refused', source.readyState]);
                source.addEventListener('entry', (event) => done(['read', event.data]));
            });
        ";
        let heard = browser.run(read, &[json!(format!("{base}/orders/{order}/events"))]).await;
        assert_eq!(heard, json!(["refused", 2]));
        let read = "try { return await (await fetch(arguments[0])).text() } catch (error) { return null }";
        assert_eq!(browser.run(read, &[json!(format!("{base}/orders/{order}"))]).await, Value::Null);
    }
    assert_eq!(system.history(order).await, before);
    let orders = system.client(Service::Order).get("/orders").await.expect(200);
    assert_eq!(orders["items"].as_array().map(Vec::len), Some(1), "{orders:#}");

    // The service's own page may.
    let base = system.client(Service::Order).base;
    browser.open(&format!("{base}/docs")).await;
    let own = "return (await fetch(arguments[0], { method: 'POST' })).status";
    assert_eq!(browser.run(own, &[json!(format!("/orders/{order}/cancel"))]).await, 202);
}

/// A repetition is an entry of the history: on a slow machine one would come while a test looks at it.
fn asked_once(order: &mut order::Settings) {
    let long = Some(Duration::from_secs(600));
    (order.sagas.timing.retry_first, order.sagas.timing.retry_max) = (long, long);
}

/// How many requests were refused as a stranger's, or as a form's.
fn refused(metrics: &str) -> f64 {
    let counts = metrics.lines().filter(|line| line.contains("status=\"403\"") || line.contains("status=\"415\""));
    counts
        .filter(|line| line.starts_with("waybill_http_requests_total"))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}
