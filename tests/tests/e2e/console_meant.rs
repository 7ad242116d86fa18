//! What was seen is what is done, however the operators' pages are asked.

use std::time::Duration;

use testkit::{Service, System, eventually};

use crate::cli_saga::two;
use crate::console::{Console, hidden, holds};

/// Buries a letter of the product service's replies to the order service.
async fn bury(system: &System, reason: &str) {
    let mut headers = async_nats::HeaderMap::new();
    headers.insert("Waybill-Reason", reason);
    let sent = system.jetstream().publish_with_headers("dead.PRODUCT_REPLIES.order", headers, "garbage".into()).await;
    sent.expect("sent").await.expect("stored");
}

/// Follows the link of the row that holds this.
fn row<'a>(page: &'a str, holding: &str, verb: &str) -> String {
    let row: &'a str = page.split("<tr>").find(|row| row.contains(holding)).unwrap_or_else(|| panic!("no {holding} in {page}"));
    let (link, _) = row.split_once(&format!("\">{verb}…</a>")).expect("an action");
    link.rsplit('"').next().expect("an address").replace("&#38;", "&").replace("&amp;", "&")
}

async fn drop_all(console: &Console, confirm: &str, link: &str) {
    let query = link.split_once('?').expect("a query").1;
    let named = reqwest::Url::parse(&format!("http://form/?{query}")).expect("a query");
    let mut fields: Vec<(String, String)> = named.query_pairs().into_owned().collect();
    fields.extend([("last".to_owned(), hidden(confirm, "last")), ("rate".to_owned(), "1000".to_owned())]);
    fields.push(("why".to_owned(), "no use".to_owned()));
    let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let job = console.send("/dead-letters/all/drop", confirm, &fields).await;
    eventually(Duration::from_secs(20), || async {
        let page = console.page(&job).await;
        if page.contains("pill done") { Ok(()) } else { Err(page) }
    })
    .await;
}

async fn counted(console: &Console, count: u64) -> String {
    eventually(Duration::from_secs(20), || async {
        let page = console.page("/dead-letters").await;
        let all = page.contains(&format!("<span class=\"quiet\">{count}</span>")) && !page.contains("They are being read");
        if all { Ok(page) } else { Err(page) }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_action_on_a_kind_of_dead_letters_takes_those_that_were_seen_and_no_others() {
    let system = System::new().await;
    let console = Console::start(&system, None).await;
    for n in 1..=53 {
        bury(&system, &format!("line 1 column {n}")).await;
    }
    for _ in 0..2 {
        bury(&system, "line 1 column 3").await;
    }
    let page = counted(&console, 55).await;

    // One of a kind, and not those that begin so; and none that came since.
    let link = row(&page, "column 3</a>", "drop");
    let confirm = console.page(&link).await;
    holds(&confirm, &["3 dead letters of PRODUCT_REPLIES to order: line 1 column 3"]);
    bury(&system, "line 1 column 3").await;
    counted(&console, 56).await;
    drop_all(&console, &confirm, &link).await;
    let page = counted(&console, 53).await;

    // Those that are not told apart, and none of those that are.
    let link = row(&page, "others, whose reasons are not told apart here", "drop");
    let confirm = console.page(&link).await;
    holds(&confirm, &["drop <span class=\"quiet\">3 dead letters of PRODUCT_REPLIES to order: others"]);
    drop_all(&console, &confirm, &link).await;
    let page = counted(&console, 50).await;
    holds(&page, &["column 50</a>", "column 3</a>"]);
    assert!(!page.contains("others, whose"), "{page}");

    holds(&console.ask("/dead-letters/all/drop?kind=any").await.text().await.expect("text"), &["There is no such kind"]);
    let forged = console.page("/dead-letters?done=all%20is%20well&letter=7").await;
    assert!(!forged.contains("Done:") && !forged.contains("all is well"), "{forged}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_letter_that_is_put_right_keeps_what_nobody_touched_to_the_last_digit() {
    let system = System::new().await;
    let console = Console::start(&system, None).await;
    let whole = "[{\"z\":100000000000000000001,\"a\":[1.10,2e5],\"wrong\":1}]";
    system.jetstream().publish("replies.user", whole.into()).await.expect("sent").await.expect("stored");
    let letter = eventually(Duration::from_secs(20), || async {
        let answer = console.ask("/dead-letters/1").await;
        let (status, text) = (answer.status(), answer.text().await.expect("text"));
        if status == 200 { Ok(text) } else { Err(text) }
    })
    .await;
    holds(&letter, &["100000000000000000001", "1.10,", "2e5"]);
    for wrong in ["null", "1", "\"x\""] {
        let page = console.send_and_read("/dead-letters/1/mend", &letter, &[("payload", wrong), ("why", "x")]).await;
        holds(&page, &["Nothing was sent: "]);
    }
    let shown = letter.split_once("rows=\"16\">").expect("a field").1.split("</textarea>").next().expect("text");
    let typed =
        shown.replace("&#34;", "\"").replace("&quot;", "\"").replace("\"wrong\": 1", "\"wrong\": 2").replace('\n', "\r\n");
    assert!(typed.contains("\"wrong\": 2"), "{shown}");
    console.send("/dead-letters/1/mend", &letter, &[("payload", &typed), ("why", "a two")]).await;
    // It fails again, and comes back as it was sent.
    let stream = system.jetstream().get_stream("DEAD_LETTERS").await.expect("there");
    let back = eventually(Duration::from_secs(20), || async {
        let back = stream.get_raw_message(2).await.map_err(|error| error.to_string())?;
        Ok::<_, String>(String::from_utf8(back.payload.to_vec()).expect("text"))
    })
    .await;
    assert!(back.contains("{\"z\":100000000000000000001,\"a\":[1.10,2e5],\"wrong\":2}"), "{back}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_for_wrongly_is_answered_by_a_page_in_words_of_ours() {
    let system = System::new().await;
    let console = Console::start(&system, None).await;
    let [confirmed, _] = two(&system).await;
    let saga = format!("/sagas/{confirmed}");
    for (path, status) in [
        (format!("{saga}?at=-1"), 400),
        (format!("{saga}?at=NaN"), 400),
        (format!("{saga}?at=99999999999"), 400),
        (format!("{saga}?at=1&at=2"), 400),
        (format!("{saga}/live?after=x"), 400),
        ("/sagas/%ff/raw".to_owned(), 404),
        ("/dead-letters/0".to_owned(), 404),
        ("/dead-letters/%ff".to_owned(), 404),
    ] {
        let answer = console.ask(&path).await;
        assert_eq!(answer.status(), status, "{path}");
        let text = answer.text().await.expect("text");
        holds(&text, &["<!doctype html>"]);
        assert!(!text.contains("deserialize") && !text.contains("UTF-8") && !text.contains("subject"), "{path}: {text}");
    }
    let forged = console.page(&format!("{saga}?done=everything")).await;
    assert!(!forged.contains("Done:"), "{forged}");
    let form = console.page(&format!("{saga}/cancel")).await;
    let answer = console.send_and_read(&format!("{saga}/cancel"), &form, &[("reason", &"x".repeat(3 << 20))]).await;
    holds(&answer, &["This is more than a form may bring. Nothing was done."]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_pages_are_live_and_one_more_is_when_another_is_closed() {
    let system = System::new().await;
    let console = Console::start(&system, None).await;
    let (user, product) = (system.create_user(true).await, system.create_product(30, 1999).await);
    system.stop(Service::Product).await;
    let order = system.submit(user, &[(product, 1)]).await;
    system.wait_entries(order, 2).await;
    let live = format!("/sagas/{order}/live?after=2");
    let mut open = Vec::new();
    for _ in 0..100 {
        let answer = console.ask(&live).await;
        assert_eq!(answer.status(), 200);
        open.push(answer);
    }
    let refused = console.ask(&live).await;
    assert_eq!(refused.status(), 503);
    holds(&refused.text().await.expect("text"), &["100 pages are live already: reload"]);
    open.pop();
    eventually(Duration::from_secs(20), || async {
        let status = console.ask(&live).await.status();
        if status == 200 { Ok(()) } else { Err(status) }
    })
    .await;
}
