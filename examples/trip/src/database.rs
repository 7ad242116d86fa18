//! A database of its own, for each service.

use chassis::settings::Secret;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _};

/// Makes a database on a server, if it is not there. Returns its address.
///
/// # Errors
/// Where the server cannot be reached, or does not let this user make databases.
pub async fn make(server: &Secret, name: &'static str) -> anyhow::Result<Secret> {
    let options: PgConnectOptions = server.expose().parse()?;
    let mut connection = options.connect().await?;
    // A name cannot be bound; this one is a constant.
    let made = sqlx::raw_sql(AssertSqlSafe(format!("create database {name}"))).execute(&mut connection).await;
    // It is there, or somebody else makes it at this moment.
    let is_there = |error: &sqlx::Error| {
        let code = error.as_database_error().and_then(|error| error.code());
        matches!(code.as_deref(), Some("42P04" | "23505"))
    };
    if !made.as_ref().is_err_and(is_there) {
        made?;
    }
    Ok(options.database(name).to_url_lossy().to_string().into())
}
