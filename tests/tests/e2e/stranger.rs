//! A stranger with sockets, at every port: tokens that are none, paths that lead elsewhere, requests that are two, and the names of others in headers.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chassis::identity::{Algorithm, SigningKey};
use reqwest::Method;
use ring::hmac;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::{Value, json};
use testkit::{Issuer, Service, System, answer, id, order_body};

use crate::http_border::half_closed;

/// Its own head and claims, with the signature that the function makes.
fn forged(head: &Value, claims: &Value, sign: impl FnOnce(&str) -> Vec<u8>) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", part(head), part(claims));
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(sign(&signed)))
}

fn path(service: Service) -> &'static str {
    match service {
        Service::User => "/users",
        Service::Product => "/products",
        Service::Order | Service::Gateway => "/orders",
    }
}

fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_believed_for_its_signature_alone_and_from_its_one_place() {
    let issuer = Issuer::new();
    let system = System::builder().believing(&issuer).start().await;
    let claims = Issuer::claims("mallory", &["operator", "service", "catalog"]);
    let jwks: Value = serde_json::from_str(&std::fs::read_to_string(issuer.file()).unwrap()).unwrap();
    let public = jwks["keys"][0]["x"].as_str().unwrap().to_owned();
    let raw = URL_SAFE_NO_PAD.decode(&public).unwrap();
    let mac = |key: &[u8]| {
        let key = hmac::Key::new(hmac::HMAC_SHA256, key);
        move |signed: &str| hmac::sign(&key, signed.as_bytes()).as_ref().to_vec()
    };
    // A key of the stranger's own, which its tokens bring along.
    let own = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&SigningKey::generate(Algorithm::EdDSA).unwrap()).unwrap();
    let own_jwk = json!({ "kty": "OKP", "crv": "Ed25519", "kid": "ed", "x": URL_SAFE_NO_PAD.encode(own.public_key()) });
    let with_head = |head: Value| forged(&head, &claims, |signed| own.sign(signed.as_bytes()).as_ref().to_vec());
    let own_token = with_head(json!({ "alg": "EdDSA", "kid": "ed" }));
    let none = |name: &str| forged(&json!({ "alg": name, "kid": "ed" }), &claims, |_| Vec::new());
    let tokens = [
        // The public half taken for a secret that both sides know.
        forged(&json!({ "alg": "HS256", "kid": "ed" }), &claims, mac(&raw)),
        forged(&json!({ "alg": "HS256", "kid": "ed" }), &claims, mac(public.as_bytes())),
        forged(&json!({ "alg": "HS384", "kid": "ed" }), &claims, mac(jwks.to_string().as_bytes())),
        none("none"),
        none("None"),
        none("NONE"),
        none(""),
        forged(&json!({ "alg": "eddsa", "kid": "ed" }), &claims, |_| vec![0; 64]),
        forged(&json!({ "alg": "EdDSA", "kid": "ed" }), &claims, |_| vec![0; 64]),
        with_head(json!({ "alg": "EdDSA", "jwk": own_jwk })),
        with_head(json!({ "alg": "EdDSA", "kid": "ed", "jwk": own_jwk })),
        with_head(json!({ "alg": "EdDSA", "kid": "ed", "jku": "http://127.0.0.1:1/keys" })),
        with_head(json!({ "alg": "EdDSA", "kid": "ed", "x5u": "http://127.0.0.1:1/cert", "x5c": ["AAAA"] })),
        with_head(json!({ "alg": "EdDSA", "kid": "../../../../dev/null" })),
        with_head(json!({ "alg": "EdDSA", "kid": "ed'; drop table users; --" })),
        with_head(json!({ "alg": "EdDSA", "kid": "k".repeat(4000) })),
        with_head(json!({ "alg": ["EdDSA"], "kid": "ed" })),
        format!("{own_token}.{own_token}"),
        own_token.clone(),
        "A".repeat(8 * 1024),
        "..".to_owned(),
    ];
    let good = issuer.token("grace", &["operator", "service", "catalog"]);
    for service in Service::ALL {
        let client = system.client(service);
        for token in &tokens {
            let refused = client.bearing(token).get(path(service)).await;
            let shown = &token[..token.len().min(80)];
            assert!(matches!(refused.status, 401 | 431), "{service:?}: {shown}: {refused:#?}");
            assert!(!refused.text.contains(shown) || shown == "..", "{refused:#?}");
        }
        // A good one counts in no other place, and beside no other.
        let nobody = client.anonymous();
        for (name, value) in [
            ("cookie", format!("access_token={good}; Authorization=Bearer {good}")),
            ("x-authorization", format!("Bearer {good}")),
            ("proxy-authorization", format!("Bearer {good}")),
            ("x-forwarded-user", "grace".to_owned()),
            ("x-forwarded-access-token", good.clone()),
            ("x-original-url", "/livez".to_owned()),
            ("x-http-method-override", "OPTIONS".to_owned()),
            ("authorization", format!("Bearer {good}, Bearer {good}")),
            ("authorization", format!("Basic {good}")),
            ("authorization", good.clone()),
        ] {
            let refused = answer(nobody.request(Method::GET, path(service)).header(name, value)).await;
            refused.problem(401, "unauthenticated");
        }
        let query = nobody.get(&format!("{}?access_token={good}", path(service))).await;
        assert!(matches!(query.status, 400 | 401), "{query:#?}");
        client.bearing(&good).get(path(service)).await.expect(200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_way_of_writing_a_path_leads_to_an_operators_route_through_the_gateway_or_around_a_token() {
    let issuer = Issuer::new();
    let system = System::builder().believing(&issuer).start().await;
    let user = system.create_user(true).await;
    let order = system.submit(user, &[(system.create_product(5, 100).await, 1)]).await;
    system.wait_final(order).await;
    let operator = format!("authorization: Bearer {}\r\n", issuer.token("grace", &["operator"]));
    let port = system.instance(Service::Order).port;
    let ask = |method: &str, target: &str, headers: &str| {
        format!("{method} {target} HTTP/1.1\r\nhost: localhost\r\n{headers}connection: close\r\n\r\n")
    };
    let elsewhere = [
        "/sagas",
        "/v1/sagas",
        "/v1/../sagas",
        "/orders/../sagas",
        "/orders/..%2fsagas",
        "/orders/%2e%2e/sagas",
        "/orders/%2e%2e%2fsagas",
        "/orders/..;/sagas",
        "/orders/.%00./sagas",
        "/orders\\..\\sagas",
        "/orders/..\\sagas",
        "/users/../sagas",
        "/products/..//sagas",
        "//sagas",
        "/./sagas",
        "/v1//sagas",
        "/v1/v1/sagas",
        "/%73agas",
        "/Sagas",
        "/orders/../events/rebuild",
        "/orders/../reservations",
        "sagas",
        &format!("http://127.0.0.1:{port}/sagas"),
        &format!("http://localhost:{port}/sagas"),
        "/orders?/../../sagas",
        "/orders/;/../sagas",
        &format!("/orders/{order}/../../sagas/{order}"),
        &format!("/orders/{order}%2f..%2f..%2fsagas"),
        &format!("/orders/{order}/..%2f{order}/history"),
    ];
    let gateway = system.instance(Service::Gateway).port;
    for target in elsewhere {
        for method in ["GET", "HEAD", "POST", "PUT", "PROPFIND"] {
            let got = half_closed(gateway, &ask(method, target, &operator)).await;
            assert!(matches!(status(&got), 400..=429 | 501), "{method} {target}: {got}");
        }
    }
    // Without a token a way that is there is refused, however it is written, and at every port.
    let ways = [
        format!("/orders/{order}"),
        format!("/orders/{order}/"),
        format!("/v1/orders/{order}"),
        format!("//orders/{order}"),
        format!("/orders//{order}"),
        format!("/./orders/{order}"),
        format!("/users/../orders/{order}"),
        format!("/docs/../orders/{order}"),
        format!("/livez/../orders/{order}"),
        format!("/openapi.json/../orders/{order}"),
        format!("/orders/{order}?x=/livez"),
        format!("/orders/{order}#/livez"),
        format!("/orders/{order};/livez"),
        format!("/orders/{order}%23"),
        format!("/%6frders/{order}"),
        format!("http://localhost/orders/{order}"),
        format!("/orders/{}", order.to_string().to_uppercase()),
        format!("/orders/{order}/history"),
        format!("/orders/{order}/events"),
    ];
    for service in [Service::Gateway, Service::Order] {
        for target in &ways {
            for method in ["GET", "HEAD", "POST"] {
                let got = half_closed(system.instance(service).port, &ask(method, target, "")).await;
                assert!(matches!(status(&got), 400..=429), "{service:?} {method} {target}: {got}");
                assert!(!got.contains("\"status\":\"confirmed\""), "{got}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_on_one_connection_are_each_their_own_senders() {
    let issuer = Issuer::new();
    let system = System::builder().believing(&issuer).start().await;
    let product = system.create_product(50, 100).await;
    let mut customers = Vec::new();
    for _ in 0..2 {
        let user = system.create_user(true).await;
        let order = id(&system.client(Service::Order).post("/orders", &order_body(user, &[(product, 1)])).await.expect(202));
        customers.push((user, order.to_string(), issuer.token(user, &["customer"])));
    }
    for service in [Service::Gateway, Service::Order] {
        let port = system.instance(service).port;
        // Each asks for its own and for the other's, and nobody asks in between.
        let mut requests = String::new();
        let mut expected = Vec::new();
        for _ in 0..5 {
            for (own, other) in [(0, 1), (1, 0)] {
                let token = &customers[own].2;
                for (order, wanted) in [(&customers[own].1, 200), (&customers[other].1, 404)] {
                    requests += &format!("GET /orders/{order} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\r\n");
                    expected.push(wanted);
                }
                requests += &format!("GET /orders/{} HTTP/1.1\r\nhost: x\r\n\r\n", customers[own].1);
                expected.push(401);
            }
        }
        let answers = half_closed(port, &requests).await;
        let statuses: Vec<u16> = answers.split("HTTP/1.1 ").skip(1).filter_map(|answer| answer.get(..3)?.parse().ok()).collect();
        assert_eq!(statuses, expected, "{service:?}");

        // A request that hides in the body of another is its body, and where two readers could differ there is none.
        let hidden =
            format!("GET /orders/{} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\r\n", customers[0].1, customers[0].2);
        let (length, token) = (hidden.len(), &customers[1].2);
        let head =
            format!("POST /orders HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\n");
        for framing in [
            format!("content-length: {length}\r\n"),
            format!("content-length: {length}\r\ntransfer-encoding: chunked\r\n"),
            format!("transfer-encoding: chunked\r\ncontent-length: {length}\r\n"),
            format!("content-length: 0\r\ncontent-length: {length}\r\n"),
            format!("content-length: 0, {length}\r\n"),
            format!("content-length: +{length}\r\n"),
            format!("content-length: {length}\r\ntransfer-encoding: identity\r\n"),
            format!("content-length: {length}\r\ntransfer-encoding : chunked\r\n"),
            format!("content-length: {length}\r\nx: y\r\n transfer-encoding: chunked\r\n"),
            format!("content-length: {length}\r\ntransfer-encoding: chunked, identity\r\n"),
            format!("content-length: {length}\r\ntransfer-encoding:\x0bchunked\r\n"),
            "transfer-encoding: xchunked\r\n".to_owned(),
            "transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n".to_owned(),
        ] {
            let answers = half_closed(port, &format!("{head}{framing}\r\n{hidden}")).await;
            assert!(!answers.contains(&customers[0].1) && !answers.contains("HTTP/1.1 200"), "{service:?} {framing}: {answers}");
        }
    }
    assert_eq!(system.audit().await.orders, 2);
}
