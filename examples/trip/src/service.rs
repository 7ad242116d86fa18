//! What runs trips, and can be asked about them.

use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use axum::{Extension, Json as Body};
use chassis::broker::Broker;
use chassis::http::{self, Caller, Checks, Client, Id, Json, Operation, Page, PageQuery, Problem, Routes, Shape, Who};
use chassis::identity::Role;
use chassis::settings::{Secret, database_url, hidden};
use chassis::topology::{self, TopologySettings};
use chassis::{Parts, Service, Start};
use clap::Parser;
use saga_runtime::{Prepared, Runtime, SagaSettings, View, live, operator_routes, requests};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;
use sqlx::migrate::Migrator;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::saga::{TOPOLOGY, Trip};

static MIGRATIONS: Migrator = sqlx::migrate!("migrations/service");

/// Trips have no owner, so no customer sees one.
const READERS: &[Role] = &[Role::Operator, Role::Service];

/// The settings of the trip service.
#[derive(Parser, Clone, Debug)]
#[command(name = "trip-service", version, about = "Takes trips and carries each through its saga")]
pub struct Settings {
    /// Where to listen.
    #[arg(long, env = "TRIP_LISTEN", default_value = "127.0.0.1:8093")]
    pub listen: String,

    /// Any database of the Postgres on which the database of trips is made, as a role that may make some.
    #[arg(
        long,
        env = "POSTGRES_URL",
        default_value = "postgres://waybill@127.0.0.1:5432/postgres",
        hide_env_values = true,
        value_name = "URL",
        value_parser = hidden(database_url)
    )]
    pub postgres_url: Secret,

    #[allow(missing_docs)]
    #[command(flatten)]
    pub sagas: SagaSettings,

    #[allow(missing_docs)]
    #[command(flatten)]
    pub topology: TopologySettings,

    #[allow(missing_docs)]
    #[command(flatten)]
    pub parts: Parts,
}

/// Makes the database, keeps the streams and consumers of trips, and runs the service until shutdown.
///
/// # Errors
/// Where it cannot start.
pub async fn run(settings: Settings, shutdown: CancellationToken) -> anyhow::Result<()> {
    let listener = http::listen(&settings.listen, "--listen or TRIP_LISTEN").await?;
    let database_url = crate::database::make(&settings.postgres_url, "trip").await?;
    let trips = Prepared::<Trip>::new(&settings.sagas, &TOPOLOGY)?;
    let broker = Broker::connect(&settings.parts.broker, "trip-provision").await?;
    let (topology, stop) = (settings.topology.clone(), shutdown.clone());
    tokio::spawn(async move { topology::keep(broker.jetstream(), &TOPOLOGY, &topology, &stop).await });
    let service = Service::start(Start {
        name: "trip",
        listener,
        database_url: &database_url,
        migrator: &MIGRATIONS,
        topology: &TOPOLOGY,
        settings: &settings.parts,
        rebuild: Some(trips.rebuild_messages()),
        shutdown,
    })
    .await?;
    let trips = trips.start(&service, &database_url, &settings.parts)?;
    service.run(http::Api::new(routes().merge(operator_routes()).with_state(trips))).await
}

type Trips = State<Arc<Runtime<Trip>>>;

fn routes() -> Routes<Arc<Runtime<Trip>>> {
    let trip = || Shape::of::<View<Trip>>();
    let example = json!({ "traveller": "Ada", "to": "Lisbon", "nights": 3 });
    Routes::new()
        .route(
            requests::begin_operation(
                Operation::post(Who::Roles(&[Role::Service]), "/trips", "begin_trip", "Book a trip"),
                trip(),
            )
            .body::<TripBody>(example),
            begin,
        )
        .route(
            Operation::get(Who::Roles(READERS), "/trips/{id}", "show_trip", "A trip")
                .answers(200, "The trip", trip())
                .may_be_missing(),
            show,
        )
        .route(
            requests::history_operation(Operation::get(
                Who::Roles(READERS),
                "/trips/{id}/history",
                "trip_history",
                "What became of it",
            )),
            history,
        )
        .route(
            live::operation(Operation::get(Who::Roles(READERS), "/trips/{id}/events", "trip_events", "The same, live")),
            stream,
        )
        .route(
            requests::cancel_operation(
                Operation::post(Who::Roles(&[Role::Service]), "/trips/{id}/cancel", "cancel_trip", "Cancel a trip"),
                trip(),
            ),
            cancel,
        )
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct TripBody {
    traveller: String,
    to: String,
    nights: u32,
}

/// Parsed once, into a trip that cannot be wrong.
fn parse(body: TripBody) -> Result<Trip, Problem> {
    let TripBody { traveller, to, nights } = body;
    let mut checks = Checks::default();
    for (pointer, text) in [("/traveller", &traveller), ("/to", &to)] {
        if !(1..=100).contains(&text.chars().count()) {
            checks.refuse(pointer, "must have 1 to 100 characters");
        }
    }
    if !(1..=365).contains(&nights) {
        checks.refuse("/nights", "must be 1 to 365");
    }
    checks.finish(Some(Trip { id: Uuid::now_v7(), traveller, to, nights }))
}

async fn begin(
    State(trips): Trips,
    Extension(client): Extension<Client>,
    caller: Caller,
    headers: HeaderMap,
    Json(body): Json<TripBody>,
) -> Result<Response, Problem> {
    requests::begin(&trips, client, &caller, &headers, || parse(body)).await
}

async fn show(State(trips): Trips, caller: Caller, Id(id): Id<Uuid>) -> Result<Body<View<Trip>>, Problem> {
    trips.view(id, caller.only()).await?.map(Body).ok_or_else(|| trips.not_found(id))
}

async fn history(State(trips): Trips, caller: Caller, Id(id): Id<Uuid>, page: PageQuery) -> Result<Page, Problem> {
    requests::history(&trips, &caller, id, page).await
}

async fn stream(State(trips): Trips, caller: Caller, Id(id): Id<Uuid>, headers: HeaderMap) -> Result<Response, Problem> {
    live::stream(trips, &caller, id, &headers).await
}

async fn cancel(State(trips): Trips, caller: Caller, Id(id): Id<Uuid>, headers: HeaderMap) -> Result<Response, Problem> {
    requests::cancel(&trips, &caller, id, &headers).await
}
