//! What the plan versions mean: recorded by the build that used each first, compared by every build after it.

use std::time::Duration;

use chassis::database::Database;
use chassis::health::Health;
use saga::Plan;
use saga::order::Order;
use tokio_util::sync::CancellationToken;

use crate::store;

/// What `/readyz` calls it.
pub const CHECK: &str = "plan";

/// Records this build's plan versions. A build that means something else by a version some build before it used is not ready: it would
/// carry on sagas it misreads.
pub async fn record(database: Database, health: Health, shutdown: CancellationToken) {
    const TRY_EVERY: Duration = Duration::from_millis(200);
    while !shutdown.is_cancelled() {
        if let Ok(state) = compare(&database).await {
            return health.set(CHECK, state);
        }
        tokio::select! {
            () = tokio::time::sleep(TRY_EVERY) => {}
            () = shutdown.cancelled() => {}
        }
    }
}

async fn compare(database: &Database) -> sqlx::Result<Result<(), String>> {
    for (version, stages) in Order::VERSIONS {
        let mine = &format!("{:016x}", stages.fingerprint());
        let recorded = database.read(|mut db| async move { store::record_plan(&mut db, *version, mine).await }).await?;
        if recorded != *mine {
            let why =
                format!("version {version} of the order plan is {mine} in this build and {recorded} in the sagas begun with it");
            return Ok(Err(why));
        }
    }
    Ok(Ok(()))
}
