//! The server: the table of pages, on a listener that only this machine reaches.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use saga_commands::CommandLine;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::assets;
use crate::failed::Failed;
use crate::guard::{Guard, guard};
use crate::pages::{act, attention, audit, bulk, jobs, letters, letters_all, one, overview, sagas, streams, upgrade};
use crate::setup::{Console, Setup};

/// How long requests under way may take once it is asked to stop.
const DRAIN: Duration = Duration::from_secs(3);

/// Serves the pages until shutdown.
///
/// # Errors
/// Where the listener breaks.
pub async fn serve<C: CommandLine>(listener: TcpListener, setup: Setup, shutdown: CancellationToken) -> anyhow::Result<()> {
    let guarding = Arc::new(Guard::new(setup.key.clone(), listener.local_addr()?.port()));
    let (places, broker) = (setup.places.clone(), setup.broker.clone());
    let console = Arc::new(Console::<C>::new(setup, shutdown.clone()));
    let looking = console.samples.clone().keep::<C>(places, broker.clone());
    let counting = console.letters.clone().keep(broker.clone());
    let looking = async { tokio::join!(looking, counting) };
    let routes = routes(console).layer(from_fn_with_state(guarding, guard));
    let stop = shutdown.clone();
    let serving = axum::serve(listener, routes).with_graceful_shutdown(async move { stop.cancelled().await });
    let drained = async {
        shutdown.cancelled().await;
        tokio::time::sleep(DRAIN).await;
    };
    tokio::select! {
        served = serving => served?,
        () = drained => {}
        _ = looking => {}
    }
    Ok(())
}

fn routes<C: CommandLine>(console: Arc<Console<C>>) -> Router {
    Router::new()
        .route("/", get(overview::show::<C>))
        .route("/find", get(sagas::find::<C>))
        .route("/sagas", get(sagas::list::<C>))
        .route("/sagas/{id}", get(one::show::<C>))
        .route("/sagas/{id}/raw", get(one::raw::<C>))
        .route("/sagas/{id}/live", get(one::live::<C>))
        .route("/sagas/{id}/{action}", get(act::confirm::<C>).post(act::act::<C>))
        .route("/attention", get(attention::show::<C>))
        .route("/bulk/{verb}", get(bulk::confirm::<C>).post(bulk::begin::<C>))
        .route("/jobs", get(jobs::list::<C>))
        .route("/jobs/{number}", get(jobs::show::<C>))
        .route("/jobs/{number}/{wish}", post(jobs::wish::<C>))
        .route("/dead-letters", get(letters::list::<C>))
        .route("/dead-letters/{sequence}", get(letters::show::<C>))
        .route("/dead-letters/{sequence}/{verb}", post(letters::act::<C>))
        .route("/dead-letters/all/{verb}", get(letters_all::confirm::<C>).post(letters_all::begin::<C>))
        .route("/streams", get(streams::show::<C>))
        .route("/upgrade", get(upgrade::show::<C>))
        .route("/audit", get(audit::show::<C>))
        .route("/assets/console.css", get(assets::style))
        .route("/assets/console.js", get(assets::script))
        .route("/assets/icon.svg", get(assets::icon))
        .fallback(async || Failed::missing("There is no such page."))
        .method_not_allowed_fallback(async || Failed::new(StatusCode::METHOD_NOT_ALLOWED, "This page cannot be asked for so."))
        .with_state(console)
}
