//! The order service's routes.

#[cfg(test)]
mod fuzz;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use axum::{Extension, Json as Body};
use chassis::http::{
    Caller, Checks, Client, Id, IdempotencyKey, Json, Object, Operation, Page, PageQuery, Problem, Query, Routes, Shape, Who,
};
use chassis::identity::Role;
use events::order::{MAX_ITEMS, Status};
use events::product::Line;
use events::{OrderId, ProductId, Quantity, Reference, Tag, Tags, UserId};
use saga_runtime::{Given, Runtime, live, requests};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;
use uuid::Uuid;

use crate::order::Order;
use crate::pending::{self, PendingSettings};
use crate::projection::View;

/// Operators look at everything, and have routes of their own to take a hand.
const READERS: &[Role] = &[Role::Operator, Role::Service];

type Orders = State<Arc<Runtime<Order>>>;

pub fn routes(pending: PendingSettings) -> Routes<Arc<Runtime<Order>>> {
    let order = || Shape::of::<View>();
    Routes::new()
        .route(
            requests::list_operation::<Order>(
                Operation::get(Who::Own(READERS), "/orders", "list_orders", "Orders, newest first")
                    .query("user_id", "Those of this user", Shape::of::<UserId>())
                    .query("status", "Those with this status", Shape::of::<Status>()),
            ),
            list,
        )
        .route(
            requests::begin_operation(
                Operation::post(Who::Own(&[Role::Service]), "/orders", "submit_order", "Place an order"),
                order(),
            )
            .body::<OrderBody>(json!({
                "user_id": "01989b2e-7d3c-7a51-9f0e-3b1a6c5d4e2f",
                "items": [{ "product_id": "01989b2e-7d3c-7a51-9f0e-3b1a6c5d4e30", "quantity": 2 }],
                "reference": "PO-2026-1187",
                "tags": { "channel": "web" },
            }))
            .link("show_order", "id", "/id")
            .link("order_history", "id", "/id")
            .link("cancel_order", "id", "/id"),
            move |orders, client, caller, headers, body| submit(orders, pending, client, caller, headers, body),
        )
        .route(
            Operation::get(Who::Own(READERS), "/orders/{id}", "show_order", "An order")
                .answers(200, "The order", order())
                .may_be_missing()
                .refuses(
                    500,
                    "unreadable",
                    "It is there and cannot be read, because somebody changed its row by hand: the detail says what of it",
                ),
            show,
        )
        .route(
            requests::history_operation(Operation::get(
                Who::Own(READERS),
                "/orders/{id}/history",
                "order_history",
                "What became of an order",
            )),
            history,
        )
        .route(
            live::operation(Operation::get(Who::Own(READERS), "/orders/{id}/events", "order_events", "The same, live")),
            stream,
        )
        .route(
            requests::cancel_operation(
                Operation::post(Who::Own(&[Role::Service]), "/orders/{id}/cancel", "cancel_order", "Cancel an order"),
                order(),
            ),
            cancel,
        )
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "NewOrder")]
struct OrderBody {
    #[schemars(with = "UserId")]
    user_id: String,
    /// No product twice.
    #[schemars(length(min = 1, max = MAX_ITEMS))]
    items: Vec<Object<ItemBody>>,
    /// What you call it: it is found by this.
    #[schemars(with = "Option<Reference>")]
    reference: Option<String>,
    /// What it is found by too.
    #[schemars(with = "Option<Tags>")]
    tags: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "NewItem")]
struct ItemBody {
    #[schemars(with = "ProductId")]
    product_id: String,
    #[schemars(with = "Quantity")]
    quantity: i64,
}

/// Parsed once, into an order that cannot be wrong.
fn parse(body: &OrderBody) -> Result<Order, Problem> {
    let mut checks = Checks::default();
    let user_id = checks.take("/user_id", body.user_id.parse::<UserId>().map_err(|_| "must be a UUID"));
    if !(1..=MAX_ITEMS).contains(&body.items.len()) {
        checks.refuse("/items", format!("must hold 1 to {MAX_ITEMS} items"));
        return checks.finish(None);
    }
    let mut items = Vec::with_capacity(body.items.len());
    let mut seen = HashSet::with_capacity(body.items.len());
    for (index, Object(item)) in body.items.iter().enumerate() {
        let product = item.product_id.parse::<ProductId>().map_err(|_| "must be a UUID");
        let product = checks.take(format_args!("/items/{index}/product_id"), product);
        let quantity = checks.take(format_args!("/items/{index}/quantity"), Quantity::try_from(item.quantity));
        if let Some(product_id) = product
            && !seen.insert(product_id)
        {
            checks.refuse(format_args!("/items/{index}/product_id"), "stands twice; put the pieces in one item");
        }
        items.extend(product.zip(quantity).map(|(product_id, quantity)| Line { product_id, quantity }));
    }
    let reference = body.reference.as_deref().and_then(|text| checks.take("/reference", Reference::new(text)));
    let tags = tags(body.tags.iter().flatten(), &mut checks);
    let order = user_id.map(|user_id| Order { id: OrderId(Uuid::now_v7()), user_id, items, reference, tags });
    checks.finish(order)
}

fn tags<'a>(given: impl Iterator<Item = (&'a String, &'a String)>, checks: &mut Checks) -> Tags {
    let mut tags = Vec::new();
    for (key, value) in given {
        let pointer = format!("/tags/{}", key.replace('~', "~0").replace('/', "~1"));
        tags.extend(checks.take(pointer, Tag::new(key, value)));
    }
    checks.take("/tags", Tags::of(tags)).unwrap_or_default()
}

async fn submit(
    State(orders): Orders,
    pending: PendingSettings,
    Extension(client): Extension<Client>,
    caller: Caller,
    headers: HeaderMap,
    Json(body): Json<OrderBody>,
) -> Result<Response, Problem> {
    let parse = || {
        let order = parse(&body)?;
        caller.may_act_for(order.user_id.0).map(|()| order)
    };
    let mut parsed = None;
    if let Some(most) = pending.pending_per_subject {
        let key = IdempotencyKey::of(&caller, &headers)?.map(|key| key.0);
        let user = parsed.insert(parse()?).user_id;
        pending::leaves_room(orders.database(), user, most, key.as_deref()).await?;
    }
    requests::begin(&orders, client, &caller, &headers, || parsed.map_or_else(parse, Ok)).await
}

async fn show(State(orders): Orders, caller: Caller, Id(OrderId(id)): Id<OrderId>) -> Result<Body<View>, Problem> {
    orders.view(id, caller.only()).await?.map(Body).ok_or_else(|| orders.not_found(id))
}

async fn history(State(orders): Orders, caller: Caller, Id(OrderId(id)): Id<OrderId>, page: PageQuery) -> Result<Page, Problem> {
    requests::history(&orders, &caller, id, page).await
}

async fn stream(
    State(orders): Orders,
    caller: Caller,
    Id(OrderId(id)): Id<OrderId>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    live::stream(orders, &caller, id, &headers).await
}

async fn cancel(
    State(orders): Orders,
    caller: Caller,
    Id(OrderId(id)): Id<OrderId>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    requests::cancel(&orders, &caller, id, &headers).await
}

async fn list(State(orders): Orders, caller: Caller, page: PageQuery, Query(given): Query<Given>) -> Result<Page, Problem> {
    requests::list(&orders, &caller, page, &given).await
}
