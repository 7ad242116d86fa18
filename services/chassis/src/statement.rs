//! The statement that writes a batch.

use sqlx::postgres::PgArguments;
use sqlx::query::Query;
use sqlx::{Encode, PgConnection, Postgres, Type};

use crate::meaning::Conflict;
use crate::outgoing::Outgoing;
use crate::unsure;

/// Inserts an outbox row from these parameters of the statement it is part of; none where there is nothing to send. [`Outgoing::statement`]
/// binds it as the first five: `outbox!("$1", "$2", "$3", "$4", "$5")`.
///
/// [`Outgoing::statement`]: crate::Outgoing::statement
#[macro_export]
macro_rules! outbox {
    ($id:literal, $subjects:literal, $headers:literal, $payloads:literal, $notes:literal) => {
        concat!(
            "insert into outbox (id, subjects, headers, payloads, notes) select ",
            $id,
            ", ",
            $subjects,
            ", ",
            $headers,
            ", ",
            $payloads,
            ", ",
            $notes,
            " where ",
            $id,
            " is not null"
        )
    };
}

/// The statement that writes what a handler has to write, and what it sends with it. It is executed by the unit of work, once: a handler
/// can neither write without what it sends, nor send without what it writes.
pub struct Statement {
    /// `None`: there is nothing to write.
    query: Option<Query<'static, Postgres, PgArguments>>,
    raced_for: &'static [&'static str],
    outgoing: Outgoing,
}

impl Statement {
    /// Binds the next parameter.
    #[must_use]
    pub fn bind<'t, T: Encode<'t, Postgres> + Type<Postgres>>(mut self, value: T) -> Self {
        self.query = self.query.map(|query| query.bind(value));
        self
    }

    /// Writes it. Returns what is to be published once it is committed.
    ///
    /// # Errors
    /// [`Conflict`] where somebody was first: one of the constraints that it races for does not hold.
    pub(crate) async fn execute(self, connection: &mut PgConnection) -> anyhow::Result<Outgoing> {
        let Self { query, raced_for, outgoing } = self;
        let Some(query) = query else { return Ok(outgoing) };
        match query.execute(connection).await {
            Err(error) if lost_race(&error, raced_for) => Err(anyhow::Error::from(error).context(Conflict)),
            done => done.map(|_| outgoing).map_err(unsure::of_statement),
        }
    }
}

impl Outgoing {
    /// The statement that writes all a handler has to write, and what it sends with it. `sql` holds [`outbox!`], which inserts the outbox row
    /// from the first five parameters, bound here. `raced_for`: the unique constraints and indexes of what two may be about to make at the same
    /// moment, and the checks of what another may have changed. A violation of any other is what it is.
    ///
    /// [`outbox!`]: crate::outbox
    pub fn statement(mut self, sql: &'static str, raced_for: &'static [&'static str]) -> Statement {
        Statement { query: Some(self.bind(sqlx::query(sql))), raced_for, outgoing: self }
    }
}

/// Nothing is written but what is sent.
impl From<Outgoing> for Statement {
    fn from(outgoing: Outgoing) -> Self {
        if outgoing.is_empty() {
            return Self { query: None, raced_for: &[], outgoing };
        }
        outgoing.statement(crate::outbox!("$1", "$2", "$3", "$4", "$5"), &[])
    }
}

fn lost_race(error: &sqlx::Error, raced_for: &[&str]) -> bool {
    let Some(error) = error.as_database_error() else { return false };
    match error.code().as_deref() {
        // unique_violation, check_violation
        Some("23505" | "23514") => error.constraint().is_some_and(|name| raced_for.contains(&name)),
        _ => false,
    }
}
