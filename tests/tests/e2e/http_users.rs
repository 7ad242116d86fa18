//! The contract of /users.

use std::time::Duration;

use serde_json::{Value, json};
use testkit::{Service, System, eventually, id};
use uuid::Uuid;

use crate::shape::{fields, long, recent, v7};

const FIELDS: [&str; 5] = ["id", "email", "name", "active", "created_at"];

fn email() -> String {
    format!("{}@example.com", Uuid::now_v7().simple())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_is_created_shown_changed_and_validated_at_every_address() {
    let system = System::new().await;
    for client in system.clients(Service::User) {
        let email = email();
        let answer = client.post("/users", &json!({ "email": email, "name": "  Zoë \"Z\" O'Hara 🚲 " })).await;
        let user = answer.expect(201);
        fields(&user, &FIELDS);
        assert_eq!(answer.header("location"), format!("/users/{}", v7(&user["id"])), "{client:?}");
        assert_eq!((&user["email"], &user["active"]), (&json!(email), &json!(true)));
        assert_eq!(user["name"], "Zoë \"Z\" O'Hara 🚲", "trimmed, and otherwise as it was");
        recent(&user["created_at"]);

        let path = answer.header("location");
        assert_eq!(client.get(path).await.expect(200), user);
        assert_eq!(client.get(&format!("{path}/validate")).await.expect(200), json!({ "valid": true }));

        let changed = |change: Value| {
            let mut expected = user.clone();
            expected.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
            expected
        };
        let both = json!({ "active": false, "name": "Grace" });
        assert_eq!(client.patch(path, &json!({ "active": false })).await.expect(200), changed(json!({ "active": false })));
        assert_eq!(client.get(&format!("{path}/validate")).await.expect(200), json!({ "valid": false }));
        assert_eq!(client.patch(path, &json!({ "name": "Grace" })).await.expect(200), changed(both.clone()));
        assert_eq!(client.patch(path, &json!({})).await.expect(200), changed(both), "what is not named stays");
        assert_eq!(client.patch(path, &json!({ "active": true, "name": "Ada" })).await.expect(200)["active"], true);
    }
    system.audit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_user_is_refused_where_it_is_wrong() {
    let system = System::new().await;
    let own = system.client(Service::User);
    let (mail, name) = ("ada@example.com", "Ada");
    let cases: Vec<(Value, &[&str])> = vec![
        (json!({ "email": mail, "name": "" }), &["/name"]),
        (json!({ "email": mail, "name": "   " }), &["/name"]),
        (json!({ "email": mail, "name": long("é", 201) }), &["/name"]),
        (json!({ "email": mail, "name": "a\u{0}b" }), &["/name"]),
        (json!({ "email": mail, "name": "a\u{1b}[2Jb" }), &["/name"]),
        (json!({ "email": mail, "name": "a\r\nb" }), &["/name"]),
        (json!({ "email": "ada", "name": name }), &["/email"]),
        (json!({ "email": "a b@example.com", "name": name }), &["/email"]),
        (json!({ "email": "a@b@c", "name": name }), &["/email"]),
        (json!({ "email": "a\u{0}@example.com", "name": name }), &["/email"]),
        (json!({ "email": format!("{}@example.com", long("a", 190)), "name": name }), &["/email"]),
        (json!({ "email": "", "name": "" }), &["/email", "/name"]),
        (json!({ "email": "@", "name": "\u{7}" }), &["/email", "/name"]),
        (json!({ "email": 7, "name": name }), &["/email"]),
        (json!({ "email": mail, "name": null }), &["/name"]),
    ];
    for (body, pointers) in &cases {
        assert_eq!(own.post("/users", body).await.invalid(), *pointers, "{body}");
    }
    for client in system.clients(Service::User) {
        let problem = client.post("/users", &json!({ "email": "", "name": "" })).await.invalid();
        assert_eq!(problem, ["/email", "/name"], "{client:?}");
        // A field that is missing, and one nobody knows: refused by name.
        let missing = client.post("/users", &json!({ "email": mail })).await.problem(422, "invalid");
        assert!(missing["detail"].as_str().unwrap().contains("name"), "{missing:#}");
        let unknown = client.post("/users", &json!({ "email": mail, "name": name, "admin": true })).await.problem(422, "invalid");
        assert!(unknown["detail"].as_str().unwrap().contains("admin"), "{unknown:#}");
        // The fields' values in an array, in the right order, are no object.
        assert_eq!(client.post("/users", &json!([mail, name])).await.status, 422);
        for text in ["", "{", "nonsense", r#"{"email":"a@b","name":"A"} x"#] {
            client.post_raw("/users", text).await.problem(400, "malformed");
        }
    }
    let page = own.get("/users").await.expect(200);
    assert_eq!(page["items"], json!([]), "nothing came of any of these");

    let longest = json!({ "email": format!("{}@example.com", long("a", 188)), "name": long("é", 200) });
    let user = own.post("/users", &longest).await.expect(201);
    assert_eq!(user["name"], longest["name"]);
    let path = format!("/users/{}", id(&user));
    assert_eq!(own.patch(&path, &json!({ "name": "", "active": true })).await.invalid(), ["/name"]);
    assert_eq!(own.patch(&path, &json!({ "active": "yes" })).await.invalid(), ["/active"]);
    own.patch(&path, &json!({ "email": mail })).await.problem(422, "invalid");
    assert_eq!(own.get(&path).await.expect(200), user, "a change that is refused changes nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_is_taken_in_any_case_of_letters() {
    let system = System::new().await;
    for client in system.clients(Service::User) {
        let email = email();
        client.post("/users", &json!({ "email": email, "name": "First" })).await.expect(201);
        for taken in [email.clone(), email.to_uppercase(), email.replace("example", "eXample")] {
            let answer = client.post("/users", &json!({ "email": taken, "name": "Second" })).await;
            answer.problem(409, "email-taken");
        }
    }
    // Also when they come at the same moment, in one batch or several.
    let (client, email) = (system.client(Service::User), email());
    let posts = (0..20).map(|number| {
        let email = if number % 2 == 0 { email.clone() } else { email.to_uppercase() };
        let (client, body) = (client.clone(), json!({ "email": email, "name": "Twin" }));
        async move { client.post("/users", &body).await.status }
    });
    let mut statuses = futures_util::future::join_all(posts).await;
    statuses.sort_unstable();
    assert_eq!(statuses[0], 201);
    assert_eq!(statuses[1..], [409; 19]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_is_not_there_is_missing_and_an_id_that_is_none_is_malformed() {
    let system = System::new().await;
    let nobody = Uuid::now_v7();
    for client in system.clients(Service::User) {
        client.get(&format!("/users/{nobody}")).await.problem(404, "not-found");
        client.get(&format!("/users/{nobody}/validate")).await.problem(404, "not-found");
        client.patch(&format!("/users/{nobody}"), &json!({ "active": false })).await.problem(404, "not-found");
        for wrong in ["7", "%00", "%FF", "..%2f", "019-xyz", "%F0%9F%9A%B2"] {
            client.get(&format!("/users/{wrong}")).await.problem(400, "malformed");
            client.get(&format!("/users/{wrong}/validate")).await.problem(400, "malformed");
            client.patch(&format!("/users/{wrong}"), &json!({ "active": false })).await.problem(400, "malformed");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_is_one_in_every_spelling_also_where_an_older_build_wrote_it() {
    let system = System::new().await;
    let client = system.client(Service::User);
    let create = |email: &str| {
        let (client, body) = (client.clone(), json!({"email": email, "name": "Ada"}));
        async move { client.post("/users", &body).await.status }
    };
    for (email, again) in [("Stra\u{df}e@x.example", "STRASSE@X.example"), ("\u{c9}@x.example", "e\u{301}@x.example")] {
        assert_eq!((create(email).await, create(again).await), (201, 409), "{email} {again}");
    }
    assert_eq!((create("i@x.example").await, create("\u{131}@x.example").await, create("I@x.example").await), (201, 201, 409));
    for hidden in ["a\u{200b}@x.example", "a\u{202e}@x.example", "a\u{200d}@x.example"] {
        assert_eq!(create(hidden).await, 422, "{hidden:?}");
    }
    // As the build before this one writes them, two of them the same to this one.
    for email in ["\u{d6}@old.example", "o\u{308}@OLD.example"] {
        let insert = sqlx::query("insert into users (id, email, name) values ($1, $2, 'Ada')").bind(Uuid::now_v7()).bind(email);
        insert.execute(&system.user_db).await.expect("the older build's statement still works");
    }
    eventually(Duration::from_secs(30), || async {
        let count = sqlx::query_scalar::<_, i64>("select count(*) from users where email_key is null");
        let left = count.fetch_one(&system.user_db).await.map_err(|error| error.to_string())?;
        if left == 0 { Ok(()) } else { Err(format!("{left} without a key")) }
    })
    .await;
    assert_eq!(create("\u{f6}@old.example").await, 409);
}
