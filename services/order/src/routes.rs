//! The order service's routes.

#[cfg(test)]
mod fuzz;

use std::collections::HashSet;
use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use axum::{Extension, Json as Body};
use chassis::http::{
    Caller, Checks, Client, Id, Json, Object, Operation, Page, PageQuery, Problem, Query, Routes, Shape, Who, parse_id,
};
use chassis::identity::Role;
use chassis::listed::Listed;
use events::order::{MAX_ITEMS, Status};
use events::product::Line;
use events::{OrderId, ProductId, Quantity, UserId};
use saga_runtime::{Runtime, live, requests};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::projection::View;
use crate::saga::Order;

/// Operators look at everything, and have routes of their own to take a hand.
const READERS: &[Role] = &[Role::Operator, Role::Service];

type Orders = State<Arc<Runtime<Order>>>;

pub fn routes() -> Routes<Arc<Runtime<Order>>> {
    let order = || Shape::of::<View>();
    Routes::new()
        .route(
            Operation::get(Who::Own(READERS), "/orders", "list_orders", "Orders, newest first")
                .query("user_id", "Those of this user", Shape::of::<UserId>())
                .query("status", "Those with this status", Shape::of::<Status>())
                .page::<View>(),
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
            }))
            .link("show_order", "id", "/id")
            .link("order_history", "id", "/id")
            .link("cancel_order", "id", "/id"),
            submit,
        )
        .route(
            Operation::get(Who::Own(READERS), "/orders/{id}", "show_order", "An order")
                .answers(200, "The order", order())
                .may_be_missing(),
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
    let user_id = checks.take("/user_id", body.user_id.parse::<UserId>().map_err(|_| "is not a UUID"));
    if !(1..=MAX_ITEMS).contains(&body.items.len()) {
        checks.refuse("/items", format!("must hold 1 to {MAX_ITEMS} items"));
        return checks.finish(None);
    }
    let mut items = Vec::with_capacity(body.items.len());
    let mut seen = HashSet::with_capacity(body.items.len());
    for (index, Object(item)) in body.items.iter().enumerate() {
        let product = item.product_id.parse::<ProductId>().map_err(|_| "is not a UUID");
        let product = checks.take(format_args!("/items/{index}/product_id"), product);
        let quantity = checks.take(format_args!("/items/{index}/quantity"), Quantity::try_from(item.quantity));
        if let Some(product_id) = product
            && !seen.insert(product_id)
        {
            checks.refuse(format_args!("/items/{index}/product_id"), "stands twice; put the pieces in one item");
        }
        items.extend(product.zip(quantity).map(|(product_id, quantity)| Line { product_id, quantity }));
    }
    let order = user_id.map(|user_id| Order { id: OrderId(Uuid::now_v7()), user_id, items });
    checks.finish(order)
}

async fn submit(
    State(orders): Orders,
    Extension(client): Extension<Client>,
    caller: Caller,
    headers: HeaderMap,
    Json(body): Json<OrderBody>,
) -> Result<Response, Problem> {
    let parse = || {
        let order = parse(&body)?;
        caller.may_act_for(order.user_id.0).map(|()| order)
    };
    requests::begin(&orders, client, &caller, &headers, parse).await
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

#[derive(Deserialize)]
struct ListQuery {
    user_id: Option<String>,
    status: Option<String>,
}

async fn list(State(orders): Orders, caller: Caller, page: PageQuery, Query(query): Query<ListQuery>) -> Result<Page, Problem> {
    let user = query.user_id.as_deref().map(parse_id).transpose()?;
    let status = query.status.as_deref().map(str::parse::<Status>).transpose().map_err(Problem::malformed)?;
    let (filter, after, rows) = (Filter { user, only: caller.only(), status }, page.after, page.rows());
    let views = orders.database().read(|mut db| async move { select(&mut db, filter, after, rows).await }).await?;
    page.page(views, |listed| listed.id(|view| view.id.0))
}

/// Which orders to list.
#[derive(Clone, Copy, Debug, Default)]
struct Filter {
    user: Option<UserId>,
    /// The user whose orders alone the caller may see.
    only: Option<Uuid>,
    status: Option<Status>,
}

/// A page, newest first.
async fn select(db: &mut PgConnection, filter: Filter, after: Option<Uuid>, rows: i64) -> sqlx::Result<Vec<Listed<View>>> {
    // The statement is planned with its values: what is not asked for folds away, and each status finds its own index.
    sqlx::query_as(
        "select id, user_id, items, unit_prices, currency, status, reason, created_at, updated_at from orders \
         where ($1::uuid is null or user_id = $1) and ($2::text is null or status = $2) and ($3::uuid is null or id < $3) \
           and (not $4 or not settled) and ($6::uuid is null or user_id = $6) \
         order by id desc limit $5",
    )
    .bind(filter.user.map(|user| user.0))
    .bind(filter.status.map(Status::as_str))
    .bind(after)
    // An order that is pending or cancelling waits for somebody.
    .bind(filter.status.is_some_and(|status| !status.is_final()))
    .bind(rows)
    .bind(filter.only)
    .fetch_all(db)
    .await
}
