//! A gateway that is none: it keeps what it is told in memory and misbehaves on request. It stands in only where the
//! command's own behaviour is looked at (patience, paging, exit status); what the services do is tested on the services.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};

/// What the fake knows, and how it is to misbehave.
#[derive(Default)]
pub struct Fake {
    /// So many requests are answered 503, Retry-After: 1, before the first is let through.
    pub busy: AtomicU32,
    /// So many requests are carried out, and their answers lost.
    pub losing: AtomicU32,
    /// An order is pending until it was looked at so often.
    pub looks: AtomicU32,
    /// What an order is in the end.
    pub outcome: Mutex<&'static str>,
    /// What was made, by path and idempotency key.
    pub made: Mutex<HashMap<String, Value>>,
    /// Every request as method and path, in order.
    pub seen: Mutex<Vec<String>>,
    /// The `Authorization` of each of them.
    pub asked_by: Mutex<Vec<String>>,
    /// What that must be; else 401.
    pub wants: Option<&'static str>,
}

impl Fake {
    /// Starts to listen, and returns itself and its address.
    pub fn start(self) -> (Arc<Self>, String) {
        let fake = Arc::new(self);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new()
            .route("/{kind}", get(list).post(create))
            .route("/orders/{id}", get(show))
            .route("/sagas/{id}", get(show))
            .route("/sagas/{id}/{verb}", post(refuse))
            .with_state(fake.clone());
        let router = router.layer(from_fn_with_state(fake.clone(), who));
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async { axum::serve(tokio::net::TcpListener::from_std(listener).unwrap(), router).await.unwrap() });
        });
        (fake, address)
    }

    fn order(&self, order: &Value) -> Value {
        let mut order = order.clone();
        let looked = self.looks.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |looks| looks.checked_sub(1));
        if looked.is_err() {
            order["status"] = json!(*self.outcome.lock().unwrap());
            if order["status"] == "rejected" {
                order["reason"] = json!({"code": "insufficient_stock", "detail": "too little"});
            } else {
                order["total"] = json!({"amount": 1999, "currency": "USD"});
            }
        }
        order
    }

    fn saw(&self, what: String) {
        self.seen.lock().unwrap().push(what);
    }
}

async fn who(State(fake): State<Arc<Fake>>, request: Request, next: Next) -> Response {
    let by = request.headers().get("authorization").map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default();
    let is_known = fake.wants.is_none_or(|wanted| by == format!("Bearer {wanted}"));
    fake.asked_by.lock().unwrap().push(by);
    if is_known {
        return next.run(request).await;
    }
    let problem = json!({"type": "urn:waybill:problem:unauthenticated", "title": "Not authenticated", "status": 401});
    (StatusCode::UNAUTHORIZED, Json(problem)).into_response()
}

async fn create(
    State(fake): State<Arc<Fake>>,
    Path(kind): Path<String>,
    headers: HeaderMap,
    Json(mut body): Json<Value>,
) -> Response {
    fake.saw(format!("POST /{kind}"));
    if fake.busy.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |busy| busy.checked_sub(1)).is_ok() {
        return (StatusCode::SERVICE_UNAVAILABLE, [("retry-after", "1")]).into_response();
    }
    let no_pieces = |item: &Value| item["quantity"] == 0;
    if body["items"].as_array().is_some_and(|items| items.iter().any(no_pieces)) {
        return invalid("/items/0/quantity", "must be 1 to 100000");
    }
    if body["email"].as_str().is_some_and(|email| !email.contains('@')) {
        return invalid("/email", "is not an e-mail address");
    }
    let mut made = fake.made.lock().unwrap();
    let key = headers["idempotency-key"].to_str().unwrap();
    let next = made.len() + 1;
    let replayed = made.contains_key(&format!("{kind} {key}"));
    let thing = made.entry(format!("{kind} {key}")).or_insert_with(|| {
        body["id"] = json!(format!("01920000-0000-7000-8000-{next:012}"));
        body["created_at"] = json!("2026-01-01T00:00:00Z");
        body["updated_at"] = json!("2026-01-01T00:00:00Z");
        body["status"] = json!("pending");
        body["total"] = Value::Null;
        body["reason"] = Value::Null;
        body
    });
    let answer = (StatusCode::CREATED, Json(thing.clone()));
    if fake.losing.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |losing| losing.checked_sub(1)).is_ok() {
        drop(made);
        panic!("the connection breaks after the work is done");
    }
    if replayed { ([("idempotency-replayed", "true")], answer).into_response() } else { answer.into_response() }
}

fn invalid(pointer: &str, detail: &str) -> Response {
    let problem = json!({
        "type": "urn:waybill:problem:invalid", "title": "The request is invalid", "status": 422,
        "detail": "look closer", "errors": [{"pointer": pointer, "detail": detail}],
    });
    (StatusCode::UNPROCESSABLE_ENTITY, [("x-request-id", "request-7")], Json(problem)).into_response()
}

async fn show(State(fake): State<Arc<Fake>>, Path(id): Path<String>) -> Response {
    fake.saw("GET /orders/{id}".to_owned());
    match fake.made.lock().unwrap().values().find(|thing| thing["id"] == *id) {
        Some(order) => Json(fake.order(order)).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

/// Every action of an operator: it came too late.
async fn refuse() -> Response {
    let problem = json!({
        "type": "urn:waybill:problem:operator-refused", "title": "The request conflicts with what is there", "status": 409,
        "detail": "every command is answered: there is nothing to ask again",
    });
    (StatusCode::CONFLICT, Json(problem)).into_response()
}

/// At most two a page, to make whoever wants all of them turn pages.
async fn list(
    State(fake): State<Arc<Fake>>,
    Path(kind): Path<String>,
    Query(query): Query<HashMap<String, String>>,
) -> Json<Value> {
    fake.saw(format!("GET /{kind}"));
    let made = fake.made.lock().unwrap();
    let mut items: Vec<_> = made
        .iter()
        .filter(|(key, _)| key.starts_with(&format!("{kind} ")))
        .map(|(_, thing)| if kind == "orders" { fake.order(thing) } else { thing.clone() })
        .filter(|thing| query.get("status").is_none_or(|status| thing["status"] == **status))
        .filter(|thing| query.get("cursor").is_none_or(|cursor| thing["id"].as_str() > Some(cursor)))
        .collect();
    items.sort_by_key(|thing| thing["id"].to_string());
    let more = items.len() > 2;
    items.truncate(2);
    let next = items.last().filter(|_| more).map(|thing| thing["id"].clone());
    Json(json!({"items": items, "next_cursor": next}))
}
