//! The log of a participant's replies.

use std::time::Duration;

use anyhow::Context as _;
use chassis::keys::{self, a_day_or_more};
use chassis::{Outgoing, Service, Statement};
use clap::Args;
use envelope::{Message, Typed};
use saga::Direction;
use sqlx::{PgConnection, Row as _};
use uuid::Uuid;

/// What makes the table of `ReplyLog::new("replies")`: the text of a migration of the participant.
///
/// ```sql
#[doc = include_str!("replies.sql")]
/// ```
pub const REPLIES_SQL: &str = include_str!("replies.sql");

/// What finds the replies that have expired: the text of another migration of the participant.
///
/// ```sql
#[doc = include_str!("replies_expire.sql")]
/// ```
pub const REPLIES_EXPIRE_SQL: &str = include_str!("replies_expire.sql");

/// How long replies are kept.
#[derive(Args, Clone, Copy, Debug)]
pub struct ReplySettings {
    /// Seconds after which the replies to a step are deleted that was compensated; at least a day. Longer than a command may still be on its way:
    /// one that comes later is done as if it were new. What was executed and stands keeps its reply.
    #[arg(long, env = "WAYBILL_REPLIES_EXPIRE_AFTER", default_value = "2592000", value_parser = a_day_or_more)]
    pub replies_expire_after: Duration,
}

/// Where a participant keeps its replies: a table of its own database, with the columns and the primary key of [`REPLIES_SQL`].
///
/// A step that was compensated is over: its rows go after a time ([`ReplyLog::expire`]). One that was executed may be compensated at any time
/// later, by whoever cancels its saga, so its row lives as long as what it stands for.
#[derive(Clone, Copy, Debug)]
pub struct ReplyLog {
    rows: &'static str,
    append: &'static str,
    expire: &'static str,
    /// The table's primary key: two instances that deal with the same command race for it.
    key: &'static [&'static str],
}

/// A row of the log.
pub(super) struct Row<R> {
    pub saga: Uuid,
    pub step: String,
    pub direction: Direction,
    /// `None`: a tombstone. It was never executed, and never will be.
    pub reply: Option<R>,
}

impl ReplyLog {
    /// The log in this table. Made once, at start-up.
    pub fn new(table: &'static str) -> Self {
        let rows = format!("select saga_id, step, direction, reply from {table} where saga_id = any($1)");
        let append = format!(
            "with sent as ({}) insert into {table} (saga_id, step, direction, reply) \
             select * from unnest($6::uuid[], $7::text[], $8::text[], $9::text[])",
            chassis::outbox!("$1", "$2", "$3", "$4", "$5")
        );
        let expire = format!(
            "delete from {table} where (saga_id, step) in (select saga_id, step from {table} \
             where direction = 'compensate' and created_at < now() - make_interval(secs => $1) \
             order by created_at limit $2 for update skip locked)"
        );
        let key = format!("{table}_pkey").leak() as &str;
        Self { rows: rows.leak(), append: append.leak(), expire: expire.leak(), key: Vec::leak(vec![key]) }
    }

    /// Deletes the rows of steps that were compensated so long ago, until the service stops.
    pub fn expire(&self, service: &Service, settings: ReplySettings) {
        service.spawn(keys::expire(service.database(), settings.replies_expire_after, self.expire, service.shutdown()));
    }

    /// What was replied to these sagas.
    pub(super) async fn rows<R: Message>(
        &self,
        tx: &mut PgConnection,
        sagas: impl Iterator<Item = Uuid>,
    ) -> anyhow::Result<Vec<Row<R>>> {
        let rows = sqlx::query(self.rows).bind(sagas.collect::<Vec<_>>()).fetch_all(tx).await?;
        let row = |row: sqlx::postgres::PgRow| {
            let (saga, step): (Uuid, String) = (row.try_get("saga_id")?, row.try_get("step")?);
            let direction = match row.try_get("direction")? {
                "execute" => Direction::Execute,
                _ => Direction::Compensate,
            };
            let reply = |json: &str| Ok::<R, anyhow::Error>(serde_json::from_str::<Typed>(json)?.read()?);
            let reply = row.try_get::<Option<&str>, _>("reply")?.map(reply).transpose();
            let reply = reply.with_context(|| format!("the reply to {step} of the saga {saga} cannot be read"))?;
            Ok(Row { saga, step, direction, reply })
        };
        rows.into_iter().map(row).collect()
    }

    /// The statement that appends to the log, and writes what is sent.
    pub(super) fn append<R: Message>(&self, outgoing: Outgoing, rows: &[Row<R>]) -> anyhow::Result<Statement> {
        if rows.is_empty() {
            return Ok(outgoing.into());
        }
        let mut replies = Vec::with_capacity(rows.len());
        for row in rows {
            replies.push(row.reply.as_ref().map(serde_json::to_string).transpose()?);
        }
        let direction = |row: &Row<R>| match row.direction {
            Direction::Execute => "execute",
            Direction::Compensate => "compensate",
        };
        Ok(outgoing
            .statement(self.append, self.key)
            .bind(rows.iter().map(|row| row.saga).collect::<Vec<_>>())
            .bind(rows.iter().map(|row| row.step.as_str()).collect::<Vec<_>>())
            .bind(rows.iter().map(direction).collect::<Vec<_>>())
            .bind(replies))
    }
}
