//! The product service's HTTP routes.

#[cfg(test)]
mod fuzz;

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json as Body};
use chassis::database::Database;
use chassis::http::{
    Caller, Checks, Client, Id, IdempotencyKey, Json, Object, Operation, Page, PageQuery, Problem, Routes, Shape, Who,
};
use chassis::identity::Role;
use chassis::{GroupCommit, UnitOfWork};
use events::product::{Line, Product};
use events::{CurrencyCode, Description, Money, Name, ProductId, Quantity, ReasonCode, ReservationId, StockLevel, UnitPrice};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::direct::Direct;
use crate::handler::{ChangeStock, Create, Creation, StockChange};
use crate::inventory::Command;
use crate::keyed::Once;
use crate::orphan::{GiveBack, GivenBack};
use crate::requests::{Delta, DirectCommand, Keyed, NewProduct, Orphan};
use crate::store;

/// What the routes need.
#[derive(Clone)]
pub struct AppState {
    pub database: Database,
    pub creating: GroupCommit<Create>,
    pub stocking: Arc<ChangeStock>,
    pub reserving: Arc<Direct>,
    pub reservations_per_subject: Option<u32>,
    pub giving_back: Arc<GiveBack>,
    pub unit: UnitOfWork,
}

/// Who keeps the catalogue. What a customer reserves without an order is its own; they give back anybody's.
const KEEPERS: &[Role] = &[Role::Catalog, Role::Service];

pub fn routes() -> Routes<AppState> {
    Routes::new()
        .route(
            Operation::get(Who::Roles(&Role::ALL), "/products", "list_products", "Products, newest first").page::<Product>(),
            list,
        )
        .route(
            Operation::post(Who::Roles(KEEPERS), "/products", "create_product", "Create a product")
                .body::<CreateBody>(json!({ "name": "Kettle", "price": { "amount": 1999, "currency": "USD" }, "stock": 10 }))
                .answers(201, "The product", Shape::of::<Product>())
                .with_header("Location", "Where the product is")
                .link("show_product", "id", "/id")
                .link("change_stock", "id", "/id")
                .keyed(),
            create,
        )
        .route(
            Operation::get(Who::Roles(&Role::ALL), "/products/{id}", "show_product", "A product")
                .answers(200, "The product", Shape::of::<Product>())
                .may_be_missing(),
            show,
        )
        .route(
            Operation::post(Who::Roles(KEEPERS), "/products/{id}/stock", "change_stock", "Deliver pieces, or write some off")
                .body::<StockBody>(json!({ "delta": 5 }))
                .answers(200, "The product", Shape::of::<Product>())
                .keyed()
                .refuses(409, "stock-out-of-range", "Fewer pieces than none would be left, or too many")
                .may_be_missing(),
            change_stock,
        )
        .route(
            Operation::post(Who::Own(KEEPERS), "/products/reserve", "reserve", "Hold pieces without an order")
                .body::<ReserveBody>(json!({ "product_id": "01989b2e-7d3c-7a51-9f0e-3b1a6c5d4e2f", "quantity": 2 }))
                .answers(200, "They are held", held())
                .link("release", "id", "/reservation_id")
                .keyed()
                .refuses(409, "insufficient-stock", "Fewer are available")
                .may_be_missing(),
            reserve,
        )
        .route(
            Operation::post(
                Who::Own(&[Role::Catalog, Role::Operator, Role::Service]),
                "/products/reservations/{id}/release",
                "release",
                "Give back what is held without an order",
            )
            .answers(200, "It is given back, now or before", held())
            .keyed()
            .may_be_missing(),
            release,
        )
        .route(
            Operation::post(
                Who::OPERATORS,
                "/reservations/{id}/release",
                "give_back",
                "Give back what no saga gives back: for operators",
            )
            .body::<GiveBackBody>(json!({ "by": "ada", "reason": "the order was never placed" }))
            .answers(200, "It is given back", held())
            .refuses(409, "operator-refused", "It holds nothing, or others give it back")
            .may_be_missing(),
            give_back,
        )
}

/// A hold on stock.
fn held() -> Shape {
    Shape::Value(json!({
        "type": "object",
        "required": ["status"],
        "properties": {
            "status": { "type": "string", "enum": ["reserved", "released"] },
            "reservation_id": { "type": "string", "format": "uuid" },
            "expires_at": { "type": "string", "format": "date-time", "description": "When it is given back by itself" },
        },
    }))
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "NewProduct")]
struct CreateBody {
    #[schemars(with = "Name")]
    name: String,
    #[serde(default)]
    #[schemars(with = "Description")]
    description: String,
    price: Object<Price>,
    #[schemars(with = "StockLevel")]
    stock: i64,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Price {
    #[schemars(with = "UnitPrice")]
    amount: i64,
    #[schemars(with = "CurrencyCode")]
    currency: String,
}

async fn create(
    State(app): State<AppState>,
    Extension(client): Extension<Client>,
    caller: Caller,
    headers: HeaderMap,
    Json(body): Json<CreateBody>,
) -> Result<Response, Problem> {
    let key = IdempotencyKey::of(&caller, &headers)?.map(|key| key.0);
    let mut checks = Checks::default();
    let name = checks.take("/name", Name::new(&body.name));
    let description = checks.take("/description", Description::new(&body.description));
    let price = checks.take("/price/currency", price(&body.price.0));
    if !(0..=Money::MAX_PRICE).contains(&body.price.0.amount) {
        checks.refuse("/price/amount", format!("must be 0 to {} minor units", Money::MAX_PRICE));
    }
    let stock = checks.take("/stock", StockLevel::try_from(body.stock));
    let ((name, description), (price, stock)) = checks.finish(name.zip(description).zip(price.zip(stock)))?;
    let new = NewProduct { id: ProductId(Uuid::now_v7()), name, description, price, stock, key };
    match app.creating.submit(client, new).await?? {
        Creation::Created(product) => Ok(created(product).into_response()),
        Creation::Replayed(product) => Ok((IdempotencyKey::REPLAYED, created(product)).into_response()),
        Creation::KeyReused => Err(IdempotencyKey::reused()),
    }
}

fn price(price: &Price) -> Result<Money, String> {
    let currency = events::Currency::from_code(&price.currency)
        .ok_or_else(|| format!("`{}` is not an ISO 4217 currency code", price.currency))?;
    Ok(Money::new(price.amount, currency))
}

fn created(product: Product) -> impl IntoResponse {
    (StatusCode::CREATED, [(header::LOCATION, format!("/products/{}", product.id))], Body(product))
}

async fn list(State(app): State<AppState>, page: PageQuery) -> Result<Page, Problem> {
    let (after, count) = (page.after, page.rows());
    let products = app.database.read(|mut db| async move { store::list(&mut db, after, count).await }).await?;
    page.page(products, |listed| listed.id(|product| product.id.0))
}

async fn show(State(app): State<AppState>, Id(id): Id<ProductId>) -> Result<Body<Product>, Problem> {
    app.database.read(|mut db| async move { store::get(&mut db, id).await }).await?.map(Body).ok_or_else(|| not_found(id))
}

fn not_found(id: ProductId) -> Problem {
    Problem::not_found(format!("there is no product {id}"))
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "StockDelta")]
struct StockBody {
    /// Pieces delivered; negative: written off.
    #[schemars(range(min = -StockLevel::MAX, max = StockLevel::MAX), extend("not" = { "const": 0 }))]
    delta: i64,
}

async fn change_stock(
    State(app): State<AppState>,
    Id(id): Id<ProductId>,
    caller: Caller,
    headers: HeaderMap,
    Json(body): Json<StockBody>,
) -> Result<Response, Problem> {
    let keyed = keyed(&caller, &headers, "stock", || json!({ "product_id": id, "delta": body.delta }))?;
    let mut checks = Checks::default();
    if body.delta == 0 || !(-StockLevel::MAX..=StockLevel::MAX).contains(&body.delta) {
        checks.refuse("/delta", format!("must be -{0} to {0}, and not 0", StockLevel::MAX));
    }
    checks.finish(Some(()))?;
    match once(app.unit.run_detached(&app.stocking, Delta { product: id, delta: body.delta, keyed }).await?)? {
        Ok(StockChange::Changed(product)) => Ok(Body(product).into_response()),
        Ok(StockChange::Impossible(product)) => {
            let detail = format!(
                "{} are available and {} held; {:+} would leave less than 0, or more than {} of both",
                product.stock,
                product.reserved,
                body.delta,
                StockLevel::MAX
            );
            Err(Problem::conflict("stock-out-of-range", detail))
        }
        Ok(StockChange::NotFound) => Err(not_found(id)),
        Err(before) => Ok(before),
    }
}

/// What a request with a key is known by.
fn keyed(
    caller: &Caller,
    headers: &HeaderMap,
    kind: &'static str,
    request: impl FnOnce() -> Value,
) -> Result<Option<Keyed>, Problem> {
    Ok(IdempotencyKey::of(caller, headers)?.map(|key| Keyed { kind, key: key.0, request: request() }))
}

/// What was done now, or the answer of before.
fn once<T>(once: Once<T>) -> Result<Result<T, Response>, Problem> {
    match once {
        Once::Now(done) => Ok(Ok(done)),
        Once::Before(answer) => Ok(Err((IdempotencyKey::REPLAYED, Body(answer)).into_response())),
        Once::KeyReused => Err(IdempotencyKey::reused()),
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "NewHold")]
struct ReserveBody {
    #[schemars(with = "ProductId")]
    product_id: String,
    #[schemars(with = "Quantity")]
    quantity: i64,
}

async fn reserve(
    State(app): State<AppState>,
    caller: Caller,
    headers: HeaderMap,
    Json(body): Json<ReserveBody>,
) -> Result<Response, Problem> {
    let mut checks = Checks::default();
    let product_id = checks.take("/product_id", body.product_id.parse::<ProductId>().map_err(|_| "must be a UUID"));
    let quantity = checks.take("/quantity", Quantity::try_from(body.quantity));
    let keyed = keyed(&caller, &headers, "reserve", || json!({ "product_id": product_id, "quantity": quantity }))?;
    let (product_id, quantity) = checks.finish(product_id.zip(quantity))?;
    let id = ReservationId(Uuid::now_v7());
    let command = Command::Reserve(vec![Line { product_id, quantity }]);
    let subject = caller.subject().map(str::to_owned);
    if let (Some(most), Some(subject)) = (app.reservations_per_subject, subject.as_deref()) {
        let key = keyed.as_ref().map(|keyed| keyed.key.as_str());
        if app.database.read(|mut db| async move { store::holds_enough(&mut db, subject, most, key).await }).await? {
            let detail =
                format!("{most} reservations of yours are held, and more may not be; one that is released or expires makes room");
            return Err(Problem::too_many_requests(detail));
        }
    }
    match once(app.unit.run_detached(&app.reserving, DirectCommand { id, command, keyed, subject }).await?)? {
        Ok(Err(reason)) if reason.code == ReasonCode::ProductNotFound => Err(not_found(product_id)),
        Ok(Err(reason)) => Err(Problem::conflict("insufficient-stock", reason.detail)),
        Ok(Ok(answer)) => Ok(Body(answer).into_response()),
        Err(before) => Ok(before),
    }
}

async fn release(
    State(app): State<AppState>,
    caller: Caller,
    Id(id): Id<ReservationId>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let keyed = keyed(&caller, &headers, "release", || json!({ "reservation_id": id }))?;
    // What an order holds only its saga gives back.
    let only = caller.only().and_then(|_| caller.subject());
    if app.database.read(|mut db| async move { store::is_direct(&mut db, id, only).await }).await? != Some(true) {
        return Err(Problem::not_found(format!("there is no reservation {id}")));
    }
    match once(
        app.unit.run_detached(&app.reserving, DirectCommand { id, command: Command::Release, keyed, subject: None }).await?,
    )? {
        Ok(_) => Ok(Body(json!({ "status": "released" })).into_response()),
        Err(before) => Ok(before),
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "GiveBack")]
struct GiveBackBody {
    /// Who signs; left out where the token says it.
    #[schemars(with = "Option<Name>")]
    by: Option<String>,
    #[schemars(with = "Name")]
    reason: String,
}

/// For operators: what no saga gives back. The gateway does not serve it.
async fn give_back(
    State(app): State<AppState>,
    caller: Caller,
    Id(id): Id<ReservationId>,
    Json(body): Json<GiveBackBody>,
) -> Result<Body<Value>, Problem> {
    let mut checks = Checks::default();
    let by = checks.take("/by", Name::new(&caller.signs(body.by)?));
    let reason = checks.take("/reason", Name::new(&body.reason));
    let (by, reason) = checks.finish(by.zip(reason))?;
    let refused = |why: &str| Err(Problem::conflict("operator-refused", why));
    match app.unit.run_detached(&app.giving_back, Orphan { id, by: by.into(), reason: reason.into() }).await? {
        GivenBack::Released => Ok(Body(json!({ "reservation_id": id, "status": "released" }))),
        GivenBack::NotFound => Err(Problem::not_found(format!("there is no reservation {id}"))),
        GivenBack::Direct => refused("it was made without an order: POST /products/reservations/{id}/release gives it back"),
        GivenBack::HoldsNothing => refused("it holds nothing: it was refused, or is released already"),
    }
}
