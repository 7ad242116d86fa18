//! A connection that can only be read on.

use std::future::ready;

use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt as _, StreamExt as _};
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgArguments, PgQueryResult, PgRow, PgStatement, PgTypeInfo};
use sqlx::query::Query;
use sqlx::{Describe, Either, Execute, Executor, PgConnection, Postgres, SqlStr};

/// A connection of which its holder knows that nothing is written on it: it takes queries that begin with `select`, and no others. In Postgres
/// such a query cannot have a part that writes: that is allowed to a `with` at the top only.
#[derive(Debug)]
pub struct ReadConnection(PoolConnection<Postgres>);

impl ReadConnection {
    pub(crate) fn new(connection: PoolConnection<Postgres>) -> Self {
        Self(connection)
    }

    /// The connection itself, to write on.
    pub(crate) fn writable(&mut self) -> &mut PgConnection {
        &mut self.0
    }

    pub(crate) fn into_inner(self) -> PoolConnection<Postgres> {
        self.0
    }
}

/// The query again, if it reads.
fn select<'q, E: Execute<'q, Postgres>>(mut query: E) -> sqlx::Result<Query<'static, Postgres, PgArguments>> {
    let (arguments, persistent) = (query.take_arguments().map_err(sqlx::Error::Encode)?, query.persistent());
    let sql = query.sql();
    match arguments {
        Some(arguments) if reads(sql.as_str()) => Ok(sqlx::query_with(sql, arguments).persistent(persistent)),
        _ => Err(refused(sql.as_str())),
    }
}

fn reads(sql: &str) -> bool {
    sql.split_whitespace().next().is_some_and(|word| word.eq_ignore_ascii_case("select"))
}

fn refused(sql: &str) -> sqlx::Error {
    sqlx::Error::InvalidArgument(format!("a connection to read on takes no statement but a select: {sql}"))
}

impl<'c> Executor<'c> for &'c mut ReadConnection {
    type Database = Postgres;

    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> BoxStream<'e, sqlx::Result<Either<PgQueryResult, PgRow>>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        match select(query) {
            Ok(query) => self.writable().fetch_many(query),
            Err(error) => stream::once(ready(Err(error))).boxed(),
        }
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, sqlx::Result<Option<PgRow>>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        match select(query) {
            Ok(query) => self.writable().fetch_optional(query),
            Err(error) => ready(Err(error)).boxed(),
        }
    }

    fn prepare_with<'e>(self, sql: SqlStr, _: &'e [PgTypeInfo]) -> BoxFuture<'e, sqlx::Result<PgStatement>>
    where
        'c: 'e,
    {
        ready(Err(refused(sql.as_str()))).boxed()
    }

    fn describe<'e>(self, sql: SqlStr) -> BoxFuture<'e, sqlx::Result<Describe<Postgres>>>
    where
        'c: 'e,
    {
        ready(Err(refused(sql.as_str()))).boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_begins_with_select_is_taken() {
        let taken = |sql: &'static str| select(sqlx::query(sql)).is_ok();
        assert!(taken("select id from users where id = any($1)") && taken(" \n SELECT 1"));
        for writes in [
            "insert into users select 1",
            "with new as (insert into users select 1) select 1",
            "update users set active = true",
            "",
        ] {
            assert!(!taken(writes), "{writes}");
        }
        assert!(select("select 1; delete from users").is_err(), "a text without parameters may hold several statements");
    }
}
