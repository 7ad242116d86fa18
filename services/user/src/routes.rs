//! The user service's HTTP routes.

#[cfg(test)]
mod fuzz;

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json as Body};
use chassis::database::Database;
use chassis::http::{Caller, Checks, Client, Id, IdempotencyKey, Json, Operation, Page, PageQuery, Problem, Routes, Shape, Who};
use chassis::identity::Role;
use chassis::{GroupCommit, UnitOfWork};
use events::user::User;
use events::{Email, Name, UserId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use crate::handler::{Create, Creation, Update};
use crate::requests::{Change, NewUser};
use crate::store;

/// What the routes need.
#[derive(Clone)]
pub struct AppState {
    pub database: Database,
    pub creating: GroupCommit<Create>,
    pub updating: Arc<Update>,
    pub unit: UnitOfWork,
}

/// A customer is made, and changed, by those who keep the users.
const KEEPERS: &[Role] = &[Role::Operator, Role::Service];

pub fn routes() -> Routes<AppState> {
    Routes::new()
        .route(Operation::get(Who::Roles(KEEPERS), "/users", "list_users", "Users, newest first").page::<User>(), list)
        .route(
            Operation::post(Who::Roles(KEEPERS), "/users", "create_user", "Create a user")
                .body::<CreateBody>(json!({ "email": "ada@example.com", "name": "Ada Lovelace" }))
                .answers(201, "The user", Shape::of::<User>())
                .with_header("Location", "Where the user is")
                .link("show_user", "id", "/id")
                .link("change_user", "id", "/id")
                .link("validate_user", "id", "/id")
                .keyed()
                .refuses(409, "email-taken", "A user with this e-mail address, in any case of letters, exists"),
            create,
        )
        .route(
            Operation::get(Who::Own(KEEPERS), "/users/{id}", "show_user", "A user")
                .answers(200, "The user", Shape::of::<User>())
                .may_be_missing(),
            show,
        )
        .route(
            Operation::patch(
                Who::Roles(KEEPERS),
                "/users/{id}",
                "change_user",
                "Change a user's name, or whether the user may order",
            )
            .body::<ChangeBody>(json!({ "active": false }))
            .answers(200, "The user", Shape::of::<User>())
            .may_be_missing(),
            change,
        )
        .route(
            Operation::get(Who::Own(KEEPERS), "/users/{id}/validate", "validate_user", "Whether a user may order")
                .answers(200, "Whether", Shape::of::<Validity>())
                .may_be_missing(),
            validate,
        )
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "NewUser")]
struct CreateBody {
    #[schemars(with = "Email")]
    email: String,
    #[schemars(with = "Name")]
    name: String,
}

async fn create(
    State(app): State<AppState>,
    Extension(client): Extension<Client>,
    caller: Caller,
    headers: HeaderMap,
    Json(body): Json<CreateBody>,
) -> Result<Response, Problem> {
    let key = IdempotencyKey::of(&caller, &headers)?;
    let mut checks = Checks::default();
    let email = checks.take("/email", Email::new(&body.email));
    let name = checks.take("/name", Name::new(&body.name));
    let (email, name) = checks.finish(email.zip(name))?;
    let id = UserId(Uuid::now_v7());
    match app.creating.submit(client, NewUser { id, email, name, key: key.map(|key| key.0) }).await?? {
        Creation::Created(user) => Ok(created(user).into_response()),
        Creation::Replayed(user) => Ok((IdempotencyKey::REPLAYED, created(user)).into_response()),
        Creation::KeyReused => Err(IdempotencyKey::reused()),
        Creation::EmailTaken => Err(Problem::conflict("email-taken", "a user with this e-mail address exists")),
    }
}

fn created(user: User) -> impl IntoResponse {
    (StatusCode::CREATED, [(header::LOCATION, format!("/users/{}", user.id))], Body(user))
}

async fn list(State(app): State<AppState>, page: PageQuery) -> Result<Page, Problem> {
    let (after, count) = (page.after, page.rows());
    let users = app.database.read(|mut db| async move { store::list(&mut db, after, count).await }).await?;
    page.page(users, |listed| listed.id(|user| user.id.0))
}

async fn show(State(app): State<AppState>, caller: Caller, Id(id): Id<UserId>) -> Result<Body<User>, Problem> {
    find(&app, &caller, id).await.map(Body)
}

/// Whether a user may order.
#[derive(Serialize, JsonSchema)]
struct Validity {
    valid: bool,
}

async fn validate(State(app): State<AppState>, caller: Caller, Id(id): Id<UserId>) -> Result<Body<Validity>, Problem> {
    let user = find(&app, &caller, id).await?;
    Ok(Body(Validity { valid: user.active }))
}

async fn find(app: &AppState, caller: &Caller, id: UserId) -> Result<User, Problem> {
    let only = caller.only();
    app.database.read(|mut db| async move { store::get(&mut db, id, only).await }).await?.ok_or_else(|| not_found(id))
}

fn not_found(id: UserId) -> Problem {
    Problem::not_found(format!("there is no user {id}"))
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "UserChange")]
struct ChangeBody {
    #[schemars(with = "Option<Name>")]
    name: Option<String>,
    active: Option<bool>,
}

async fn change(State(app): State<AppState>, Id(id): Id<UserId>, Json(body): Json<ChangeBody>) -> Result<Body<User>, Problem> {
    let mut checks = Checks::default();
    let name = body.name.and_then(|name| checks.take("/name", Name::new(&name)));
    checks.finish(Some(()))?;
    let change = Change { id, name, active: body.active };
    app.unit.run_detached(&app.updating, change).await?.map(Body).ok_or_else(|| not_found(id))
}
