//! Browsers: what the page of a stranger can have them send changes nothing, by whichever name it leads them here, and it reads nothing.

use serde_json::{Value, json};
use testkit::{Service, System, order_body};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use uuid::Uuid;

/// A request that changes something.
struct Change {
    service: Service,
    method: &'static str,
    path: String,
    body: Value,
    /// Without a stranger's page.
    status: u16,
}

/// The routes that change something, each as it is rightly asked. What is only for operators the gateway does not serve.
struct Changes {
    public: Vec<Change>,
    operators: Vec<Change>,
}

async fn changes(system: &System) -> Changes {
    let (user, product) = (system.create_user(true).await, system.create_product(1_000, 100).await);
    let order = system.submit(user, &[(product, 1)]).await;
    system.wait_final(order).await;
    let reserve = json!({ "product_id": product, "quantity": 1 });
    let reserved = system.client(Service::Product).post("/products/reserve", &reserve).await.expect(200);
    let reservation = reserved["reservation_id"].as_str().expect("an id").to_owned();
    let change = |service, method, path: &str, body, status| Change { service, method, path: path.to_owned(), body, status };
    let price = json!({ "amount": 1, "currency": "USD" });
    let operator = json!({ "by": "ada", "reason": "to see" });
    let none = Uuid::now_v7();
    Changes {
        public: vec![
            change(Service::User, "POST", "/users", json!({ "email": format!("{none}@example.com"), "name": "Ada" }), 201),
            change(Service::User, "PATCH", &format!("/users/{user}"), json!({ "active": true }), 200),
            change(Service::Product, "POST", "/products", json!({ "name": "A", "price": price, "stock": 1 }), 201),
            change(Service::Product, "POST", &format!("/products/{product}/stock"), json!({ "delta": 1 }), 200),
            change(Service::Product, "POST", "/products/reserve", reserve, 200),
            change(Service::Product, "POST", &format!("/products/reservations/{reservation}/release"), json!({}), 200),
            change(Service::Order, "POST", "/orders", order_body(user, &[(product, 1)]), 202),
            change(Service::Order, "POST", &format!("/orders/{order}/cancel"), json!({}), 202),
        ],
        operators: vec![
            change(Service::Product, "POST", &format!("/reservations/{none}/release"), operator.clone(), 404),
            change(Service::Order, "POST", &format!("/sagas/{none}/retry"), operator.clone(), 404),
            change(Service::Order, "POST", &format!("/sagas/{none}/cancel"), operator.clone(), 404),
            change(Service::Order, "POST", &format!("/sagas/{none}/compensate"), operator.clone(), 404),
            change(Service::Order, "POST", "/actions", json!({}), 422),
            change(Service::Order, "POST", &format!("/actions/{none}/outcome"), json!({ "by": "ada", "outcome": "x" }), 404),
            change(Service::Order, "POST", "/events/rebuild", json!({}), 422),
        ],
    }
}

/// Sends it and returns the status and the whole answer.
async fn send(port: u16, request: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    let status = answer.get(9..12).and_then(|status| status.parse().ok());
    (status.unwrap_or_else(|| panic!("{answer}")), answer)
}

/// A request of one connection. `{host}` and `{port}` in the headers are those of the server.
fn request(port: u16, method: &str, target: &str, headers: &str, body: &str) -> String {
    let headers = headers.replace("{host}", "localhost").replace("{port}", &port.to_string());
    let length = body.len();
    format!("{method} {target} HTTP/1.1\r\n{headers}connection: close\r\ncontent-length: {length}\r\n\r\n{body}")
}

const OWN: &str = "host: {host}:{port}\r\n";
const JSON: &str = "content-type: application/json\r\n";

/// What gives a stranger's page away, and what it is answered.
const FOREIGN: [(&str, u16, &str); 8] = [
    ("host: {host}:{port}\r\norigin: https://evil.example\r\n", 403, "cross-site"),
    ("host: {host}:{port}\r\norigin: null\r\n", 403, "cross-site"),
    // The same host, another port: another program's page.
    ("host: {host}:{port}\r\norigin: http://localhost:1\r\n", 403, "cross-site"),
    ("host: {host}:{port}\r\nsec-fetch-site: cross-site\r\n", 403, "cross-site"),
    ("host: {host}:{port}\r\nsec-fetch-site: same-site\r\n", 403, "cross-site"),
    ("host: {host}:{port}\r\norigin: https://evil.example\r\nsec-fetch-site: same-origin\r\n", 403, "cross-site"),
    // Its name leads here: to the browser this is its own server.
    ("host: rebind.evil.example:{port}\r\norigin: http://rebind.evil.example:{port}\r\n", 421, "misdirected"),
    ("host: rebind.evil.example\r\n", 421, "misdirected"),
];

/// Content types of forms: a page may send these without being asked first, and an old browser without saying where it is from.
const FORMS: [&str; 4] =
    ["text/plain", "text/plain;charset=UTF-8", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"];

#[tokio::test(flavor = "multi_thread")]
async fn the_page_of_a_stranger_changes_nothing_by_any_route() {
    let system = System::new().await;
    let Changes { public, operators } = changes(&system).await;
    let map = system.client(Service::Gateway).get("/").await.expect(200);
    let listed = ["user", "product", "order"].iter().flat_map(|service| map["routes"][service].as_array().expect("routes"));
    let changing = listed.filter(|route| !route.as_str().expect("text").starts_with("GET ")).count();
    assert_eq!(changing, public.len(), "a route that changes something is missing in this test: {map:#}");

    let everywhere = public.iter().flat_map(|change| {
        let doors = [change.service, Service::Gateway].into_iter();
        doors.flat_map(move |door| ["", "/v1"].map(|prefix| (change, door, prefix)))
    });
    let own = operators.iter().flat_map(|change| ["", "/v1"].map(|prefix| (change, change.service, prefix)));
    let before = (system.audit().await, books(&system).await);
    for (change, door, prefix) in everywhere.chain(own) {
        let port = system.instance(door).port;
        let (method, body) = (change.method, change.body.to_string());
        let target = format!("{prefix}{}", change.path);
        let refused = async |headers: &str, target: &str, body: &str, status: u16, kind: &str| {
            let request = request(port, method, target, headers, body);
            let (got, answer) = send(port, &request).await;
            assert!(got == status && answer.contains(&format!("problem:{kind}\"")), "{request}\n{answer}");
            assert!(!answer.contains("access-control-"), "{answer}");
        };
        for (headers, status, kind) in FOREIGN {
            refused(&format!("{headers}{JSON}"), &target, &body, status, kind).await;
        }
        let absolute = format!("http://rebind.evil.example{target}");
        refused(&format!("{OWN}{JSON}"), &absolute, &body, 421, "misdirected").await;
        for form in FORMS.iter().filter(|_| method == "POST") {
            for body in ["", &body] {
                refused(&format!("{OWN}content-type: {form}\r\n"), &target, body, 415, "unsupported-media-type").await;
            }
        }
        // Nor does one that says nothing of its content, as a page's request without a body does.
        refused(FOREIGN[0].0, &target, "", 403, "cross-site").await;
    }
    let after = (system.audit().await, books(&system).await);
    assert_eq!(format!("{before:?}"), format!("{after:?}"), "nothing was done");
}

/// All there is.
async fn books(system: &System) -> Vec<String> {
    let mut all = Vec::new();
    for (service, path) in [(Service::User, "/users"), (Service::Product, "/products"), (Service::Order, "/orders")] {
        all.push(system.client(service).get(path).await.text);
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_no_strangers_page_is_answered_as_ever() {
    let system = System::new().await;
    let taken = [
        // No browser at all; the last with an empty `Host`, and as a container's neighbour.
        "host: {host}:{port}\r\n",
        "host: 127.0.0.1:{port}\r\n",
        "host: [::1]:{port}\r\n",
        "host: order:8083\r\n",
        "host:\r\n",
        // A page of this server's own, and an address typed by a person.
        "host: {host}:{port}\r\norigin: http://{host}:{port}\r\nsec-fetch-site: same-origin\r\n",
        "host: {host}:{port}\r\nsec-fetch-site: none\r\n",
    ];
    for headers in taken {
        let Changes { public, operators } = changes(&system).await;
        for change in public.iter().chain(&operators) {
            let port = system.instance(change.service).port;
            let request = request(port, change.method, &change.path, &format!("{headers}{JSON}"), &change.body.to_string());
            let (status, answer) = send(port, &request).await;
            assert_eq!(status, change.status, "{request}\n{answer}");
        }
        // Through the gateway, whose own name is not its services', and without a body, as curl asks.
        let Changes { public, .. } = changes(&system).await;
        let port = system.instance(Service::Gateway).port;
        for change in &public {
            let has_body = change.body.as_object().is_some_and(|body| !body.is_empty());
            let (json, body) = if has_body { (JSON, change.body.to_string()) } else { ("", String::new()) };
            let request = request(port, change.method, &change.path, &format!("{headers}{json}"), &body);
            let (status, answer) = send(port, &request).await;
            assert_eq!(status, change.status, "{request}\n{answer}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_page_reads_an_answer_but_those_of_the_listed_origins() {
    let listed = |settings: &mut testkit::Settings| {
        settings.order.parts.http.cors_origins = "https://shop.example.com".parse().unwrap();
        settings.gateway.http.cors_origins = "https://shop.example.com,http://localhost:3000".parse().unwrap();
        settings.gateway.http.hosts = ".example.com".parse().unwrap();
    };
    let system = System::builder().settings(listed).start().await;
    let (user, product) = (system.create_user(true).await, system.create_product(10, 100).await);
    let body = order_body(user, &[(product, 1)]).to_string();
    let preflight = "access-control-request-method: POST\r\naccess-control-request-headers: content-type\r\n";
    for (service, origin, may) in [
        (Service::User, "https://shop.example.com", false),
        (Service::Order, "https://shop.example.com", true),
        (Service::Order, "http://localhost:3000", false),
        (Service::Gateway, "https://shop.example.com", true),
        (Service::Gateway, "http://localhost:3000", true),
        (Service::Gateway, "https://evil.example", false),
    ] {
        let port = system.instance(service).port;
        let path = if service == Service::User { "/users" } else { "/orders" };
        let from = format!("{OWN}origin: {origin}\r\nsec-fetch-site: cross-site\r\n");
        let allows = format!("access-control-allow-origin: {origin}\r\n");
        // To read is never refused; whether the page sees it is what the header says.
        for (method, target, headers) in [
            ("GET", path, from.clone()),
            ("GET", "/readyz", from.clone()),
            ("GET", "/nowhere", from.clone()),
            ("OPTIONS", path, format!("{from}{preflight}")),
        ] {
            let (status, answer) = send(port, &request(port, method, target, &headers, "")).await;
            assert!([200, 204, 404].contains(&status), "{answer}");
            assert_eq!(answer.contains(&allows), may, "{service:?} {origin} {method} {target}: {answer}");
            assert!(!answer.contains("allow-credentials"), "{answer}");
            if method == "OPTIONS" {
                assert_eq!(answer.contains("access-control-allow-methods"), may || service != Service::User, "{answer}");
            }
        }
        if path == "/orders" {
            let (status, answer) = send(port, &request(port, "POST", path, &format!("{from}{JSON}"), &body)).await;
            assert_eq!((status, answer.contains(&allows)), (if may { 202 } else { 403 }, may), "{answer}");
        }
    }
    let port = system.instance(Service::Gateway).port;
    let named = request(port, "GET", "/users", "host: shop.example.com\r\n", "");
    assert_eq!(send(port, &named).await.0, 200, "a name that is listed");
}
