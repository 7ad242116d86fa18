//! The operators' pages in a real browser, as people use them: every page in light and dark and from 375 to 1,920 pixels, every action by its button.
//! Screenshots are kept in `target/screenshots`.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use testkit::{Browser, Service, System, eventually};

use crate::clients::node_tools;
use crate::console::Console;

const WIDTHS: [u32; 3] = [375, 1280, 1920];

fn screenshots() -> PathBuf {
    let own = std::env::current_exe().expect("a test is a file");
    let folder = own.ancestors().nth(3).expect("target/<profile>/deps").join("screenshots");
    std::fs::create_dir_all(&folder).expect("a folder");
    folder
}

/// What axe finds that is serious, or worse.
const FAULTS: &str = "
    const found = await axe.run(document, { resultTypes: ['violations'] });
    return found.violations.filter((one) => ['serious', 'critical'].includes(one.impact))
        .map((one) => [one.id, one.nodes.map((node) => [node.html, node.failureSummary])]);
";

/// Looks at the page that is open: nothing sticks out, nothing keeps anybody from using it, and the browser complains of nothing.
async fn look(browser: &Browser, axe: Option<&str>, name: &str) {
    for width in WIDTHS {
        browser.size(width, 900).await;
        let wide = browser.run("return document.documentElement.scrollWidth", &[]).await;
        assert!(wide.as_u64().is_some_and(|wide| wide <= width.into()), "{name} at {width}: {wide} pixels wide");
        if let Some(axe) = axe {
            let faults = browser.run(&format!("{axe};{FAULTS}"), &[]).await;
            assert_eq!(faults, json!([]), "{name} at {width}");
        }
        browser.screenshot(&screenshots().join(format!("{name}-{width}.png"))).await;
    }
    browser.size(1280, 900).await;
    let said = browser.console().await;
    assert!(said.is_empty(), "{name}: {said:#?}");
}

/// Presses the first thing that has this text, or matches a selector, and waits for the page that comes of it.
async fn press(browser: &Browser, what: &str) {
    let script = "const [what] = arguments;
        const all = [...document.querySelectorAll('a, button, summary')];
        const found = all.find((one) => one.textContent.trim().startsWith(what));
        if (!found) throw new Error(`nothing says ${what}: ${document.body.innerText}`);
        document.body.dataset.left = '1';
        setTimeout(() => found.click(), 0);
        return null;";
    browser.run(script, &[json!(what)]).await;
    eventually(Duration::from_secs(20), || async {
        let state = browser.run("return [document.readyState, document.body.dataset.left ?? null]", &[]).await;
        if state == json!(["complete", null]) { Ok(()) } else { Err(state) }
    })
    .await;
}

async fn fill(browser: &Browser, field: &str, text: &str) {
    browser.run("document.querySelector(`[name=${arguments[0]}]`).value = arguments[1]", &[json!(field), json!(text)]).await;
}

async fn text(browser: &Browser) -> String {
    browser.run("return document.body.innerText", &[]).await.as_str().expect("text").to_owned()
}

async fn shows(browser: &Browser, part: &str) {
    eventually(Duration::from_secs(30), || async {
        let text = text(browser).await;
        if text.contains(part) { Ok(()) } else { Err(text) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_page_and_action_works_in_a_browser_and_nothing_complains() {
    let Some(browser) = Browser::start().await else { return };
    let system = System::builder().order(|order| order.sagas.timing.stuck_after = Duration::from_millis(300)).start().await;
    let console = Console::start(&system, None).await;
    let (user, product) = (system.create_user(true).await, system.create_product(30, 1999).await);
    let confirmed = system.submit(user, &[(product, 2)]).await;
    system.wait_status(confirmed, "confirmed").await;
    system.jetstream().publish("replies.user", "{\"not\":\"a batch\"}".into()).await.expect("sent").await.expect("stored");
    system.stop(Service::Product).await;
    let [stuck, waiting, ..] = system.submit_many(4, user, &[(product, 1)]).await[..] else { panic!("four") };
    system.wait_entries(stuck, 2).await;
    system.wait_entries(waiting, 2).await;
    eventually(Duration::from_secs(30), || async {
        let status = console.ask("/dead-letters/1").await.status();
        if status == 200 { Ok(()) } else { Err(status) }
    })
    .await;
    let axe =
        node_tools().await.map(|tools| std::fs::read_to_string(tools.join("node_modules/axe-core/axe.min.js")).expect("axe"));
    let axe = axe.as_deref();
    let at = |path: &str| format!("{}{path}", console.link.trim_end_matches('/'));

    for dark in [false, true] {
        browser.dark(dark).await;
        let tone = if dark { "dark" } else { "light" };
        for (name, path) in [
            ("overview", "/".to_owned()),
            ("sagas", "/sagas".to_owned()),
            ("saga", format!("/sagas/{confirmed}?at=2")),
            ("saga-stuck", format!("/sagas/{stuck}")),
            ("act", format!("/sagas/{stuck}/compensate")),
            ("attention", "/attention".to_owned()),
            ("bulk", "/bulk/retry?stuck=1".to_owned()),
            ("jobs", "/jobs".to_owned()),
            ("dead-letters", "/dead-letters".to_owned()),
            ("dead-letter", "/dead-letters/1".to_owned()),
            ("redrive", "/dead-letters/all/redrive".to_owned()),
            ("streams", "/streams".to_owned()),
            ("upgrade", "/upgrade".to_owned()),
            ("audit", "/audit".to_owned()),
            ("failed", format!("/sagas/{}", uuid::Uuid::nil())),
        ] {
            browser.open(&at(&path)).await;
            if name == "failed" {
                // The browser notes that there is no such page.
                browser.console().await;
            }
            look(&browser, axe, &format!("{name}-{tone}")).await;
        }
    }
    browser.dark(false).await;

    // One: what it would do, why, done; and what comes is shown without being asked for.
    browser.open(&at("/attention")).await;
    shows(&browser, "waiting for the product service").await;
    browser.open(&at(&format!("/sagas/{stuck}"))).await;
    press(&browser, "compensate").await;
    shows(&browser, "What it would do").await;
    fill(&browser, "reason", "the shelf is gone").await;
    press(&browser, "compensate").await;
    shows(&browser, "Done: compensate.").await;
    look(&browser, axe, "compensated").await;
    press(&browser, "skip").await;
    fill(&browser, "reason", "by hand").await;
    press(&browser, "skip").await;
    shows(&browser, "Done: skip.").await;

    // Many, at a pace.
    browser.open(&at("/attention")).await;
    press(&browser, "retry all").await;
    fill(&browser, "reason", "it is back").await;
    fill(&browser, "rate", "0.5").await;
    press(&browser, "retry").await;
    shows(&browser, "Pause").await;
    look(&browser, axe, "job").await;
    press(&browser, "Pause").await;
    shows(&browser, "Go on").await;
    press(&browser, "Stop").await;
    shows(&browser, "stopped").await;

    // Live: the page follows while its saga goes on.
    browser.open(&at(&format!("/sagas/{waiting}"))).await;
    shows(&browser, "live").await;
    system.start(Service::Product).await;
    shows(&browser, "CONFIRMED").await;

    // By the keyboard through time.
    browser.open(&at(&format!("/sagas/{confirmed}?at=1"))).await;
    let key = "document.body.dispatchEvent(new KeyboardEvent('keydown', { key: 'ArrowRight', bubbles: true }))";
    browser.run(key, &[]).await;
    shows(&browser, "Entry 2 of 3").await;

    // By the slider: the page stays, and what it shows is of that entry.
    let slide = "
        const range = document.querySelector('.through input');
        window.held = range;
        range.value = 3;
        range.dispatchEvent(new Event('input', { bubbles: true }));";
    browser.run(slide, &[]).await;
    shows(&browser, "Entry 3 of 3").await;
    let held = "return window.held.isConnected && location.search === '?at=3' && document.querySelector('tr.chosen th').innerText.trim() === '3'";
    assert_eq!(browser.run(held, &[]).await, Value::Bool(true));

    // The navigation counts what waits for somebody, and goes on counting.
    browser.open(&at("/streams")).await;
    shows(&browser, "Dead letters 1").await;
    browser.run("window.same = true", &[]).await;
    system.jetstream().publish("replies.user", "{\"not\":\"a batch\"}".into()).await.expect("sent").await.expect("stored");
    shows(&browser, "Dead letters 2").await;
    assert_eq!(browser.run("return window.same", &[]).await, Value::Bool(true), "the page stays");

    // A letter is deleted.
    browser.open(&at("/dead-letters/1")).await;
    press_in_place(&browser, "Delete…").await;
    browser.run("document.querySelector('[action$=drop] [name=why]').value = 'nobody knows it'", &[]).await;
    press(&browser, "Delete for good").await;
    shows(&browser, "dead letter 1 was deleted").await;
    browser.open(&at("/audit")).await;
    shows(&browser, "the shelf is gone").await;
    shows(&browser, "nobody knows it").await;
    look(&browser, axe, "audit").await;
    let said: Vec<Value> = browser.console().await;
    assert!(said.is_empty(), "{said:#?}");
}

/// Presses what opens something on the page itself.
async fn press_in_place(browser: &Browser, what: &str) {
    let script = "[...document.querySelectorAll('summary')].find((one) => one.textContent.startsWith(arguments[0])).click()";
    browser.run(script, &[json!(what)]).await;
}
