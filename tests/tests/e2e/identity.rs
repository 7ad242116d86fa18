//! Who is believed: tokens of the issuer, checked by every service itself.

use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chassis::identity::Algorithm;
use chrono::Utc;
use reqwest::Method;
use serde_json::{Value, json};
use testkit::{Answer, Issuer, Lane, Line, Service, System, answer, eventually, program};
use tokio::process;
use uuid::Uuid;

/// A path that every service answers to an operator, by the service.
fn path(service: Service) -> &'static str {
    match service {
        Service::User | Service::Gateway => "/users",
        Service::Product => "/products",
        Service::Order => "/orders",
    }
}

/// Refused, and said so as RFC 6750 has it: the class, and nothing that helps to forge.
fn refused(answer: &Answer, class: &str) {
    let problem = answer.problem(401, "unauthenticated");
    assert!(problem["detail"].as_str().unwrap().contains(class), "{problem:#}");
    let header = answer.header("www-authenticate");
    assert!(header.starts_with("Bearer ") && header.contains("error=\"invalid_token\"") && header.contains(class), "{header}");
}

/// The parts of a token, put together again with another head.
fn with_head(token: &str, head: &Value) -> String {
    let rest = token.split_once('.').unwrap().1;
    format!("{}.{rest}", base64url(head.to_string().as_bytes()))
}

fn base64url(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let letters = bytes.chunks(3).flat_map(|three| {
        let bits = (0..3).fold(0u32, |bits, at| bits << 8 | u32::from(three.get(at).copied().unwrap_or_default()));
        (0..=three.len()).map(move |at| char::from(LETTERS[(bits >> (18 - 6 * at) & 63) as usize]))
    });
    letters.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_service_asks_by_itself_who_it_is_and_takes_each_of_the_three_algorithms() {
    let issuer = Issuer::new();
    let keys = [Issuer::key("ed", Algorithm::EdDSA), Issuer::key("ec", Algorithm::ES256), Issuer::key("rsa", Algorithm::RS256)];
    issuer.rotate(keys.to_vec());
    let system = System::builder().believing(&issuer).start().await;
    let claims = Issuer::claims("grace", &["operator"]);
    for service in Service::ALL {
        let client = system.client(service);
        for key in &keys {
            client.bearing(key.sign(&claims).unwrap()).get(path(service)).await.expect(200);
        }
        let nobody = client.anonymous();
        let answer = nobody.get(path(service)).await;
        answer.problem(401, "unauthenticated");
        assert_eq!(answer.header("www-authenticate"), "Bearer realm=\"waybill\"", "no token is no wrong token");
        refused(&client.bearing("garbage").get(path(service)).await, "cannot be read");
        // Whether it is well is for anyone.
        for open in ["/health", "/livez", "/readyz", "/metrics", "/v1/nothing"] {
            assert_ne!(nobody.get(open).await.status, 401, "{service:?} {open}");
        }
        let basic = nobody.request(Method::GET, path(service)).header("authorization", "Basic YTpi");
        testkit::answer(basic).await.problem(401, "unauthenticated");
        let twice = nobody.request(Method::GET, path(service)).bearer_auth("a").header("authorization", "Bearer b");
        refused(&testkit::answer(twice).await, "cannot be read");
    }
    // One after the other: a word more or less in the head is another token.
    let token = issuer.sign(&claims);
    let client = system.client(Service::Order);
    answer(client.anonymous().request(Method::GET, "/orders").header("authorization", format!("bearer  {token}")))
        .await
        .expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_not_right_is_refused_by_its_class() {
    let issuer = Issuer::new();
    let system = System::builder().believing(&issuer).start().await;
    let now = Utc::now().timestamp();
    let changed = |name: &str, value: Value| {
        let mut claims = Issuer::claims("grace", &["operator"]);
        match value {
            Value::Null => claims.as_object_mut().unwrap().remove(name),
            value => claims.as_object_mut().unwrap().insert(name.to_owned(), value),
        };
        issuer.sign(&claims)
    };
    let good = issuer.token("grace", &["operator"]);
    let other = Issuer::new();
    // A signature by a key that is not the issuer's, though of the same name.
    let forged = other.token("grace", &["operator"]);
    let rsa = Issuer::key("ed", Algorithm::RS256);
    let stranger = Issuer::key("another", Algorithm::EdDSA);
    let cases = [
        (changed("exp", json!(now - 61)), "has expired"),
        (changed("nbf", json!(now + 120)), "not valid yet"),
        (changed("iss", json!("https://elsewhere.test")), "another issuer"),
        (changed("aud", json!("somebody-else")), "another audience"),
        (changed("aud", json!(["somebody-else"])), "another audience"),
        (changed("exp", Value::Null), "lacks one of"),
        (changed("iss", Value::Null), "lacks one of"),
        (changed("aud", Value::Null), "lacks one of"),
        (changed("sub", Value::Null), "lacks one of"),
        (changed("exp", json!("tomorrow")), "lacks one of"),
        (changed("sub", json!("a\nb")), "subject"),
        (changed("sub", json!("")), "subject"),
        (changed("sub", json!("x".repeat(201))), "subject"),
        (forged, "signature"),
        (good[..good.len() - 4].to_owned() + "AAAA", "signature"),
        (with_head(&good, &json!({ "alg": "none", "kid": "ed" })), "cannot be read"),
        (with_head(&good, &json!({ "alg": "HS256", "kid": "ed" })), "not signed with"),
        (with_head(&good, &json!({ "alg": "ES256", "kid": "ed" })), "a key that its issuer does not have"),
        (with_head(&good, &json!({ "alg": "EdDSA", "kid": "ed", "crit": ["b64"], "b64": false })), "cannot be read"),
        (with_head(&good, &json!({ "alg": "EdDSA", "kid": "ed", "typ": "logout+jwt" })), "cannot be read"),
        (rsa.sign(&Issuer::claims("grace", &["operator"])).unwrap(), "a key that its issuer does not have"),
        (stranger.sign(&Issuer::claims("grace", &["operator"])).unwrap(), "a key that its issuer does not have"),
        (good.split('.').take(2).collect::<Vec<_>>().join(".") + ".", "signature"),
        (String::from("a.b.c"), "cannot be read"),
        (format!("{good}{}", "A".repeat(9000)), "cannot be read"),
    ];
    for service in [Service::Order, Service::Gateway] {
        for (token, class) in &cases {
            refused(&system.client(service).bearing(token).get("/orders").await, class);
        }
        for right in [
            changed("exp", json!(now - 30)),
            changed("nbf", json!(now + 30)),
            changed("aud", json!(["else", "waybill-tests"])),
            changed("roles", json!("customer operator")),
            changed("exp", json!(now as f64 + 3600.5)),
        ] {
            system.client(service).bearing(right).get("/orders").await.expect(200);
        }
    }
    let log = format!("{:?}", system.settings());
    assert!(!log.contains(&good), "a token shows in no setting");
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_come_from_the_claim_that_the_settings_name() {
    let issuer = Issuer::new();
    let system = System::builder().believing(&issuer).settings(|settings| {
        settings.order.parts.identity.auth_roles_claim = "realm_access.roles".to_owned();
    });
    let system = system.start().await;
    let client = system.client(Service::Order);
    let mut claims = Issuer::claims("grace", &["operator"]);
    client.bearing(issuer.sign(&claims)).get("/orders").await.problem(403, "forbidden");
    claims["realm_access"] = json!({ "roles": ["offline_access", "operator"] });
    client.bearing(issuer.sign(&claims)).get("/orders").await.expect(200);
}

/// A system whose order service asks the issuer for its keys.
async fn believing_by_address(issuer: &Arc<Issuer>, url: &str) -> System {
    let system = System::builder().believing(issuer).settings(|settings| {
        settings.order.parts.identity.auth_jwks = Some(url.parse().unwrap());
    });
    system.start().await
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_rotated_withdrawn_and_outlive_the_issuer() {
    let issuer = Arc::new(Issuer::new());
    let server = issuer.serve().await;
    let system = believing_by_address(&issuer, &server.url).await;
    let client = system.client(Service::Order);
    let old = issuer.token("grace", &["operator"]);
    client.bearing(&old).get("/orders").await.expect(200);

    // With the issuer away the keys that are known go on being used, also for tokens that nobody has seen.
    server.down(true);
    client.bearing(issuer.token("ada", &["operator"])).get("/orders").await.expect(200);
    let next = Issuer::key("next", Algorithm::ES256);
    let new = next.sign(&Issuer::claims("grace", &["operator"])).unwrap();
    // Nobody can know whether it has such a key: that is an outage, not a forgery.
    eventually(Duration::from_secs(15), || async {
        let answer = client.bearing(&new).get("/orders").await;
        if answer.status == 503 { Ok(()) } else { Err(answer.text) }
    })
    .await;
    client.bearing(&old).get("/orders").await.expect(200);

    // A token that names an unknown key has it looked for.
    server.down(false);
    issuer.rotate(vec![next.clone()]);
    eventually(Duration::from_secs(15), || async {
        let answer = client.bearing(&new).get("/orders").await;
        if answer.status == 200 { Ok(()) } else { Err(answer.text) }
    })
    .await;
    // What the issuer took back counts no longer, though it was believed a moment ago.
    refused(&client.bearing(&old).get("/orders").await, "a key that its issuer does not have");

    // Invented names of keys do not have the issuer asked without end.
    let (before, begun) = (server.asked(), Instant::now());
    for number in 0..50 {
        let invented = Issuer::key(&format!("invented-{number}"), Algorithm::EdDSA);
        let token = invented.sign(&Issuer::claims("mallory", &["operator"])).unwrap();
        refused(&client.bearing(token).get("/orders").await, "a key that its issuer does not have");
    }
    let most = 1 + begun.elapsed().as_secs() as usize / 5;
    assert!(server.asked() - before <= most, "{} times within {:?}", server.asked() - before, begun.elapsed());

    // A set without a key takes back all that there were.
    issuer.rotate(Vec::new());
    let invented = Issuer::key("invented", Algorithm::EdDSA).sign(&Issuer::claims("mallory", &["operator"])).unwrap();
    eventually(Duration::from_secs(15), || async {
        refused(&client.bearing(&invented).get("/orders").await, "a key that its issuer does not have");
        let answer = client.bearing(&new).get("/orders").await;
        if answer.status == 401 { Ok(()) } else { Err(answer.text) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_that_hangs_is_waited_for_once_however_many_keys_are_invented() {
    let issuer = Arc::new(Issuer::new());
    let server = issuer.serve().await;
    let system = believing_by_address(&issuer, &server.url).await;
    let client = system.client(Service::Order);
    server.hang();
    // What the issuer was asked before is over for these five seconds.
    let invented = |number: usize| {
        let key = Issuer::key(&format!("invented-{number}"), Algorithm::EdDSA);
        key.sign(&Issuer::claims("mallory", &["operator"])).unwrap()
    };
    eventually(Duration::from_secs(15), || async {
        let answer = client.bearing(invented(0)).get("/orders").await;
        if answer.status == 503 { Ok(()) } else { Err(answer.text) }
    })
    .await;
    let (asked, begun) = (server.asked(), Instant::now());
    let waiting = (1..=12).map(|number| {
        let client = client.bearing(invented(number));
        async move { client.get("/orders").await.problem(503, "unavailable") }
    });
    futures_util::future::join_all(waiting).await;
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    assert!(server.asked() - asked <= 3, "{} times", server.asked() - asked);
    client.bearing(issuer.token("grace", &["operator"])).get("/orders").await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_without_keys_is_not_ready_and_turns_nobody_away_for_good() {
    let issuer = Arc::new(Issuer::new());
    let server = issuer.serve().await;
    server.down(true);
    let url = server.url.clone();
    let system = System::builder().believing(&issuer).without(Service::Product).settings(|settings| {
        settings.product.parts.identity.auth_jwks = Some(url.parse().unwrap());
    });
    let system = system.start().await;
    system.instance(Service::Product).launch();
    let client = system.client(Service::Product);
    eventually(Duration::from_secs(20), || async {
        let request = client.anonymous().request(Method::GET, "/readyz");
        let ready = Answer::try_of(request).await.map_err(|error| error.to_string())?;
        let why = ready.json()["checks"]["identity"].as_str().unwrap_or_default().to_owned();
        if ready.status == 503 && why.contains("cannot be read") { Ok(()) } else { Err(ready.text) }
    })
    .await;
    let answer = client.get("/products").await;
    answer.problem(503, "unavailable");
    assert_eq!(answer.header("retry-after"), "1");
    server.down(false);
    system.instance(Service::Product).ready().await;
    client.get("/products").await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_stream_ends_with_its_token() {
    let issuer = Issuer::new();
    let system = System::builder().believing(&issuer).never_giving_up().without(Service::Product).settings(|settings| {
        settings.identities().into_iter().for_each(|identity| identity.auth_clock_skew = 1);
    });
    let system = system.start().await;
    let user = system.create_user(true).await;
    let order = system.submit(user, &[(events::ProductId(Uuid::now_v7()), 1)]).await;
    system.wait_entries(order, 2).await;
    let mut claims = Issuer::claims(&user.to_string(), &["customer"]);
    claims["exp"] = json!(Utc::now().timestamp() + 3);
    for service in [Service::Order, Service::Gateway] {
        claims["exp"] = json!(Utc::now().timestamp() + 3);
        let token = issuer.sign(&claims);
        let client = system.client(service).bearing(&token);
        let begun = Instant::now();
        let stream = answer(client.request(Method::GET, &format!("/orders/{order}/events"))).await;
        assert_eq!(stream.status, 200, "{stream:#?}");
        assert!(stream.text.contains("id: 2") || stream.text.contains("id:2"), "{stream:#?}");
        assert!((2..10).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
        refused(&client.get(&format!("/orders/{order}")).await, "has expired");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_breaks_off_when_its_token_expires_and_does_not_look_whole() {
    let issuer = Issuer::new();
    let system = System::builder().believing(&issuer).linked().settings(|settings| {
        settings.order.parts.identity.auth_clock_skew = 1;
    });
    let system = system.start().await;
    let user = system.create_user(true).await;
    let product = system.create_product(1_000, 100).await;
    for order in system.submit_many(600, user, &[(product, 1)]).await {
        system.wait_final(order).await;
    }
    // A database so far away that an export takes seconds.
    let late = Lane::late(Duration::from_millis(800), Duration::ZERO);
    system.links(Service::Order).database.set(Line { up: late, down: Lane::default() });
    let mut claims = Issuer::claims("grace", &["operator"]);
    let mut export = async |ends_in: i64| {
        claims["exp"] = json!(Utc::now().timestamp() + ends_in);
        let client = system.client(Service::Order).bearing(issuer.sign(&claims));
        let begun = Instant::now();
        let lines = match client.request(Method::GET, "/sagas/waybills").send().await {
            Ok(response) => {
                assert_eq!(response.status(), 200);
                response.text().await.map(|text| text.lines().count())
            }
            Err(error) => Err(error),
        };
        (lines, begun.elapsed())
    };
    let (short, broke_off) = export(3).await;
    assert!(short.is_err(), "{short:?} after {broke_off:?}");
    let (whole, took) = export(3600).await;
    assert_eq!(whole.expect("all of it"), 600);
    assert!(took > Duration::from_secs(5) && took > broke_off, "it was no long one: {took:?}");
}

#[tokio::test]
async fn a_service_that_others_reach_does_not_start_before_somebody_says_who_may() {
    let run = async |service: &str, environment: &[(&str, &str)]| {
        let mut command = process::Command::new(program("waybill-tests-service"));
        command.arg(service).arg("--listen=0.0.0.0:0").envs(environment.iter().copied()).env("RUST_LOG", "info");
        command.env("NATS_URL", "127.0.0.1:1").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let child = command.kill_on_drop(true).spawn().expect("it starts");
        match tokio::time::timeout(Duration::from_secs(3), child.wait_with_output()).await {
            Ok(output) => Some(String::from_utf8(output.expect("a child").stderr).expect("text")),
            Err(_) => None,
        }
    };
    for service in ["user", "product", "order", "gateway"] {
        let said = run(service, &[]).await.expect("it does not start");
        assert!(said.contains("WAYBILL_AUTH_JWKS") && said.contains("WAYBILL_INSECURE_NO_AUTH"), "{service}: {said}");
        assert_eq!(run(service, &[("WAYBILL_INSECURE_NO_AUTH", "true")]).await, None, "{service} runs, because somebody said so");
        let lone = [("WAYBILL_AUTH_JWKS", "/nowhere.json"), ("WAYBILL_AUTH_ISSUER", "https://issuer.test")];
        let said = run(service, &lone).await.expect("it does not start");
        assert!(said.contains("WAYBILL_AUTH_AUDIENCE"), "{service}: {said}");
        let both = [("WAYBILL_AUTH_JWKS", "/nowhere.json"), ("WAYBILL_INSECURE_NO_AUTH", "1")];
        let said = run(service, &both).await.expect("it does not start");
        assert!(said.contains("unset one"), "{service}: {said}");
    }
}
