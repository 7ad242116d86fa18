//! Who may do what: the rules beside the routes, driven one by one, and what is a customer's own.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::Duration;

use chassis::http::{Rule, Who};
use chassis::identity::Role;
use events::{OrderId, UserId};
use reqwest::Method;
use serde_json::{Value, json};
use testkit::{Answer, Client, Issuer, Service, System, answer, eventually, id, order_body};
use uuid::Uuid;

/// Every rule, with the service that has the route.
fn rules() -> Vec<(Service, Rule)> {
    let services =
        [(Service::User, user::operations()), (Service::Product, product::operations()), (Service::Order, order::operations())];
    services.into_iter().flat_map(|(service, operations)| operations.into_iter().map(move |one| (service, one.rule()))).collect()
}

fn method(rule: &Rule) -> &Method {
    rule.method.as_ref().expect("a route of a service is of a method")
}

/// Whether the gateway serves the route too.
fn is_public(rule: &Rule) -> bool {
    ["/users", "/products", "/orders"].iter().any(|path| rule.path.starts_with(path))
}

fn may(rule: &Rule, role: Role) -> bool {
    match rule.who {
        Who::Anyone => true,
        Who::Roles(roles) => roles.contains(&role),
        Who::Own(roles) => role == Role::Customer || roles.contains(&role),
    }
}

/// A request to the route about something that is not there.
async fn ask(client: &Client, rule: &Rule) -> Answer {
    let path: Vec<String> = rule
        .path
        .split('/')
        .map(|part| if part.starts_with('{') { Uuid::now_v7().to_string() } else { part.to_owned() })
        .collect();
    let request = client.request(method(rule).clone(), &path.join("/"));
    answer(if method(rule) == Method::GET { request } else { request.json(&json!({})) }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn each_route_is_open_to_the_roles_of_its_rule_and_to_nobody_else() {
    let issuer = Issuer::new();
    let system = System::builder().believing(&issuer).start().await;
    let customer = Uuid::now_v7();
    for (service, rule) in rules() {
        let clients = match is_public(&rule) {
            true => vec![system.client(service), system.client(service).under("/v1"), system.client(Service::Gateway)],
            false => vec![system.client(service), system.client(service).under("/v1")],
        };
        for client in clients {
            ask(&client.anonymous(), &rule).await.problem(401, "unauthenticated");
            let none = issuer.token(customer, &["somebody", "admin"]);
            ask(&client.bearing(none), &rule).await.problem(403, "forbidden");
            for role in Role::ALL {
                let answer = ask(&client.bearing(issuer.token(customer, &[role.name()])), &rule).await;
                if may(&rule, role) {
                    assert!(!matches!(answer.status, 401 | 403 | 405 | 500), "{rule:?} as {}: {answer:#?}", role.name());
                } else {
                    answer.problem(403, "forbidden");
                    assert!(answer.header("www-authenticate").contains("insufficient_scope"), "{answer:#?}");
                }
            }
            // Whoever has several roles may do what each of them may.
            let all: Vec<&str> = Role::ALL.into_iter().map(Role::name).collect();
            let answer = ask(&client.bearing(issuer.token("no-user", &all)), &rule).await;
            assert!(!matches!(answer.status, 401 | 403), "{rule:?}: {answer:#?}");
        }
        // What a resource takes is for anyone: a browser asks without a token.
        let path = rule.path.replace(['{', '}'], "x");
        let options = answer(system.client(service).anonymous().request(Method::OPTIONS, &path)).await;
        assert_eq!(options.status, 204, "{options:#?}");
    }
}

#[test]
fn the_security_chapter_has_the_same_table() {
    let cell = |rule: &Rule, role: Role| match rule.who {
        Who::Own(_) if role == Role::Customer => "its own",
        _ if may(rule, role) => "yes",
        _ => "",
    };
    let line = |(_, rule): &(Service, Rule)| {
        let mut line = format!("| `{} {}` |", method(rule), rule.path);
        for role in Role::ALL {
            let _ = write!(line, " {} |", cell(rule, role));
        }
        line
    };
    let expected: Vec<String> = rules().iter().map(line).collect();
    let chapter = include_str!("../../../docs/security.md");
    let written: BTreeSet<&str> = chapter.lines().filter(|line| line.starts_with("| `")).collect();
    let expected_set: BTreeSet<&str> = expected.iter().map(String::as_str).collect();
    assert!(written.is_superset(&expected_set), "docs/security.md, \"Who may do what\", should have\n{}", expected.join("\n"));
    let stale: Vec<_> = written.difference(&expected_set).filter(|line| line.matches('|').count() == 6).collect();
    assert!(stale.is_empty(), "docs/security.md tells of routes that are not there: {stale:#?}");
}

/// A customer, and what it asks with.
fn customer(issuer: &Issuer, client: &Client, user: UserId) -> Client {
    client.bearing(issuer.token(user, &["customer"]))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_customer_sees_and_cancels_its_own_orders_and_anothers_are_not_there() {
    let issuer = Issuer::new();
    let system = System::builder().believing(&issuer).start().await;
    let (ada, eve) = (system.create_user(true).await, system.create_user(true).await);
    let product = system.create_product(100, 100).await;
    for client in system.clients(Service::Order) {
        let (hers, his) = (customer(&issuer, &client, ada), customer(&issuer, &client, eve));
        let order = OrderId(id(&hers.post("/orders", &order_body(ada, &[(product, 1)])).await.expect(202)));
        let others = hers.post("/orders", &order_body(eve, &[(product, 1)])).await;
        others.problem(403, "forbidden");
        system.wait_final(order).await;
        for path in ["", "/history", "/events"] {
            let path = format!("/orders/{order}{path}");
            assert_eq!(hers.get(&path).await.status, 200, "{path}");
            // Word for word what is said of an order that never was.
            let (hidden, none) =
                (his.get(&path).await, his.get(&path.replace(&order.to_string(), &Uuid::nil().to_string())).await);
            hidden.problem(404, "not-found");
            assert_eq!(hidden.text.replace(&order.to_string(), ""), none.text.replace(&Uuid::nil().to_string(), ""));
        }
        let cancel = format!("/orders/{order}/cancel");
        his.post(&cancel, &json!({})).await.problem(404, "not-found");
        assert_eq!(system.order(order).await["status"], "confirmed", "nothing happened to it");
        assert_eq!(system.history(order).await.len(), 3);

        let listed = async |client: &Client, query: &str| {
            let page = client.get(&format!("/orders?limit=200{query}")).await.expect(200);
            page["items"].as_array().unwrap().iter().map(id).collect::<BTreeSet<_>>()
        };
        assert!(listed(&hers, "").await.contains(&order.0) && listed(&hers, &format!("&user_id={ada}")).await.contains(&order.0));
        assert!(!listed(&his, "").await.contains(&order.0));
        assert!(listed(&his, &format!("&user_id={ada}")).await.is_empty(), "nor by asking for it");
        assert!(listed(&his, "&status=confirmed").await.is_empty());
        hers.post(&cancel, &json!({})).await.expect(202);
    }
    // A token of a customer whose subject is no user's id owns nothing.
    let nobody = system.client(Service::Order).bearing(issuer.token("ada", &["customer"]));
    nobody.get("/orders").await.problem(403, "forbidden");
    // What a program of the shop asks is for any user.
    let shop = system.client(Service::Order).bearing(issuer.token("shop", &["service"]));
    shop.post("/orders", &order_body(eve, &[(product, 1)])).await.expect(202);
    system.audit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_way_of_finding_orders_shows_a_customer_anothers() {
    let issuer = Issuer::new();
    let system = System::builder().believing(&issuer).start().await;
    let (ada, eve) = (system.create_user(true).await, system.create_user(true).await);
    let product = system.create_product(100, 100).await;
    let client = system.client(Service::Order);
    let (hers, his) = (customer(&issuer, &client, ada), customer(&issuer, &client, eve));
    let mut body = order_body(ada, &[(product, 101)]);
    (body["reference"], body["tags"]) = (json!("PO-7"), json!({ "channel": "web" }));
    for _ in 0..2 {
        let order = OrderId(id(&hers.post("/orders", &body).await.expect(202)));
        assert_eq!(system.wait_final(order).await["status"], "rejected");
    }
    let first = hers.get("/orders?limit=1").await.expect(200);
    let cursor = first["next_cursor"].as_str().unwrap();

    // Each parameter that the route takes, so that a new one has its line here.
    let contract: Value = serde_json::from_str(include_str!("../../../docs/openapi/order.json")).unwrap();
    let parameters = contract["paths"]["/orders"]["get"]["parameters"].as_array().unwrap();
    let names: Vec<&str> = parameters.iter().filter_map(|parameter| parameter["name"].as_str()).collect();
    assert!(names.len() >= 8, "{names:?}");
    for name in names {
        let value = match name {
            "user_id" => ada.to_string(),
            "status" => "rejected".to_owned(),
            "created_from" => "2020-01-01T00:00:00Z".to_owned(),
            "created_to" => "2100-01-01T00:00:00Z".to_owned(),
            "reference" => "PO-7".to_owned(),
            "tag" => "channel%3Dweb".to_owned(),
            "reason" => "insufficient_stock".to_owned(),
            "product_id" => product.to_string(),
            "cursor" => cursor.to_owned(),
            "limit" => "200".to_owned(),
            other => panic!("say here by which value `{other}` finds an order"),
        };
        let found = async |client: &Client| {
            let page = client.get(&format!("/orders?{name}={value}")).await.expect(200);
            page["items"].as_array().unwrap().len()
        };
        assert!(found(&hers).await > 0, "`{name}` finds none of her own");
        assert_eq!(found(&his).await, 0, "`{name}` finds another's");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_customer_sees_itself_and_gives_back_only_what_it_reserved() {
    let issuer = Issuer::new();
    let system = System::builder().believing(&issuer).start().await;
    let (ada, eve) = (system.create_user(true).await, system.create_user(true).await);
    for client in system.clients(Service::User) {
        let hers = customer(&issuer, &client, ada);
        for path in ["", "/validate"] {
            hers.get(&format!("/users/{ada}{path}")).await.expect(200);
            hers.get(&format!("/users/{eve}{path}")).await.problem(404, "not-found");
        }
    }
    let product = system.create_product(10, 100).await;
    for client in system.clients(Service::Product) {
        let (hers, his) = (customer(&issuer, &client, ada), customer(&issuer, &client, eve));
        let body = json!({ "product_id": product, "quantity": 1 });
        let held = hers.post("/products/reserve", &body).await.expect(200)["reservation_id"].as_str().unwrap().to_owned();
        let release = format!("/products/reservations/{held}/release");
        his.post(&release, &json!({})).await.problem(404, "not-found");
        assert_eq!(system.product(product).await["reserved"], 1);
        hers.post(&release, &json!({})).await.expect(200);
        let held = his.post("/products/reserve", &body).await.expect(200)["reservation_id"].as_str().unwrap().to_owned();
        let keeper = client.bearing(issuer.token("warehouse", &["catalog"]));
        keeper.post(&format!("/products/reservations/{held}/release"), &json!({})).await.expect(200);
    }
    system.audit().await;
}

/// Sends a request with a key.
async fn keyed(client: &Client, path: &str, body: &Value) -> Answer {
    answer(client.request(Method::POST, path).header("idempotency-key", "the-same-key").json(body)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_key_of_two_subjects_is_two_keys() {
    let issuer = Issuer::new();
    let system = System::builder().believing(&issuer).start().await;
    let (ada, eve) = (system.create_user(true).await, system.create_user(true).await);
    let product = system.create_product(100, 100).await;
    let order = |client: Client, user| async move {
        let body = order_body(user, &[(product, 1)]);
        let (first, again) = (keyed(&client, "/orders", &body).await, keyed(&client, "/orders", &body).await);
        assert_eq!((first.status, again.status), (202, 202), "{first:#?} {again:#?}");
        assert_eq!((first.header("idempotency-replayed"), again.header("idempotency-replayed")), ("", "true"));
        assert_eq!(id(&first.json()), id(&again.json()));
        OrderId(id(&first.json()))
    };
    let client = system.client(Service::Order);
    let (hers, his) = (order(customer(&issuer, &client, ada), ada).await, order(customer(&issuer, &client, eve), eve).await);
    assert_ne!(hers, his);
    for (user, order) in [(ada, hers), (eve, his)] {
        system.wait_final(order).await;
        let client = customer(&issuer, &client, user);
        for replayed in ["", "true"] {
            let answer = keyed(&client, &format!("/orders/{order}/cancel"), &json!({})).await;
            assert_eq!((answer.status, answer.header("idempotency-replayed")), (202, replayed), "{answer:#?}");
        }
    }
    let two = |service, role: &str| {
        let client = system.client(service);
        [client.bearing(issuer.token("north", &[role])), client.bearing(issuer.token("south", &[role]))]
    };
    let new_product = json!({ "name": "A thing", "price": { "amount": 1, "currency": "USD" }, "stock": 1 });
    let stock = format!("/products/{product}/stock");
    for (service, path, bodies) in [
        (Service::Product, "/products", [new_product.clone(), new_product]),
        (Service::Product, &stock, [json!({ "delta": 1 }), json!({ "delta": 2 })]),
        (Service::Product, "/products/reserve", [1, 2].map(|quantity| json!({ "product_id": product, "quantity": quantity }))),
        (Service::User, "/users", ["a", "b"].map(|name| json!({ "email": format!("{name}@example.com"), "name": name }))),
    ] {
        let mut answers = Vec::new();
        for (client, body) in two(service, "service").iter().zip(&bodies) {
            let (first, again) = (keyed(client, path, body).await, keyed(client, path, body).await);
            assert!(matches!(first.status, 200 | 201) && again.json() == first.json(), "{path}: {first:#?} {again:#?}");
            assert_eq!((first.header("idempotency-replayed"), again.header("idempotency-replayed")), ("", "true"), "{path}");
            answers.push(first.text);
        }
        assert_ne!(answers[0], answers[1], "{path}");
    }
    system.audit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_name_in_a_history_is_the_tokens() {
    let issuer = Issuer::new();
    let system = System::builder().believing(&issuer).never_giving_up().without(Service::Product).start().await;
    let user = system.create_user(true).await;
    let order = system.submit(user, &[(events::ProductId(Uuid::now_v7()), 1)]).await;
    system.wait_entries(order, 2).await;
    let client = system.client(Service::Order).bearing(issuer.token("grace@example.com", &["operator"]));
    let path = format!("/sagas/{order}/retry");
    let forged = client.post(&path, &json!({ "by": "ada", "reason": "because" })).await;
    assert_eq!(forged.invalid(), ["/by"]);
    client.post(&path, &json!({ "reason": "because" })).await.expect(200);
    client.post(&path, &json!({ "by": "grace@example.com", "reason": "again" })).await.expect(200);
    let by = eventually(Duration::from_secs(10), || async {
        let history = system.history(order).await;
        let by: Vec<Value> =
            history.iter().map(|entry| entry["message"]["operator"]["by"].clone()).filter(|by| !by.is_null()).collect();
        if by.len() == 2 { Ok(by) } else { Err(format!("{history:#?}")) }
    })
    .await;
    assert_eq!(by, ["grace@example.com", "grace@example.com"]);
    let begun = client.post("/events/rebuild", &json!({ "dry_run": true })).await.expect(200);
    assert_eq!(begun["asked_by"], "grace@example.com", "{begun:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_caller_may_ask_for_is_counted_by_subject() {
    let issuer = Issuer::new();
    let system = System::builder().believing(&issuer).settings(|settings| {
        settings.order.parts.http.callers.rate_per_second = Some(1);
        settings.order.parts.http.callers.rate_burst = Some(5);
    });
    let system = system.start().await;
    let client = system.client(Service::Order);
    let (greedy, modest) =
        (client.bearing(issuer.token("greedy", &["operator"])), client.bearing(issuer.token("modest", &["operator"])));
    let mut refused = None;
    for _ in 0..20 {
        refused = Some(greedy.get("/orders").await).filter(|answer| answer.status == 429);
        if refused.is_some() {
            break;
        }
    }
    refused.expect("it asks too often").problem(429, "too-many-requests");
    // From the same address, and another.
    modest.get("/orders").await.expect(200);
}
