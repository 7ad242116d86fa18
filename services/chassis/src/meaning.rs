//! What the database's errors mean: the one table that requests, batches, timers and reads go by.

use self::Meaning::{Busy, Conflict as Raced, Outage, StalePlan};

/// Another transaction came first; the same work, begun again, will see what it did.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("another transaction came first")]
pub struct Conflict;

/// What an error says about the work that met it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// Another transaction came first: the same work, begun again at once, sees what it did.
    Conflict,
    /// Somebody holds a lock on what the work needs: it may succeed later, and says nothing about other work.
    Busy,
    /// The connection's prepared statements are of another time: prepared again, the same work succeeds at once.
    StalePlan,
    /// The database is in trouble, not the work: the same work may succeed later, on another connection.
    Outage,
    /// The work itself cannot be done; trying again would not help.
    Own,
}

/// SQLSTATE codes (five characters) before the classes they are in (two). What is not here is the work's own failure.
const TABLE: [(&str, Meaning); 18] = [
    // After `alter table`: "cached plan must not change result type". No statement of ours asks for what Postgres does not support.
    ("0A000", StalePlan),
    // The statement is gone, or another has its name: somebody said `discard all`, or a pooler handed us another server connection.
    ("26000", StalePlan),
    ("42P05", StalePlan),
    // lock_timeout, or nowait.
    ("55P03", Busy),
    // Deadlocks, serialization failures, and transactions rolled back for others.
    ("40", Raced),
    // The connection broke, or could not be made.
    ("08", Outage),
    // The server runs as its administrator had not meant it: a broken configuration file.
    ("F0", Outage),
    // Read-only (25006): what was the primary is a standby now. The rest: the server ended the transaction (25P03), or it had failed.
    ("25", Outage),
    // The password or the role is not (or no longer) known.
    ("28", Outage),
    // The database or schema is not there (yet).
    ("3D", Outage),
    ("3F", Outage),
    // Tables, columns, types or rights that are not as this build's statements expect: all of these are fixed, so the schema must have
    // moved, or has yet to.
    ("42", Outage),
    // Disk full, out of memory, too many connections.
    ("53", Outage),
    // Not in the state for it: a standby, a server in recovery, an object in use. (55P03 is above.)
    ("55", Outage),
    // Cancelled (also by statement_timeout), shutting down, crashed, starting up, database dropped.
    ("57", Outage),
    // The disk fails.
    ("58", Outage),
    // The snapshot is too old.
    ("72", Outage),
    // Postgres contradicts itself: a type that was dropped under a session, damaged data.
    ("XX", Outage),
];

/// Where Postgres refuses new transactions for fear of a wraparound, under a code (54000) that otherwise says that a value is too large.
const WRAPAROUND: [&str; 2] = ["GetNewTransactionId", "GetNewMultiXactId"];

impl Meaning {
    /// Of an error of a statement, or of the connection under it.
    pub fn of(error: &sqlx::Error) -> Self {
        match error {
            sqlx::Error::Database(database) => {
                let postgres = database.try_downcast_ref::<sqlx::postgres::PgDatabaseError>();
                if postgres.and_then(|error| error.routine()).is_some_and(|routine| WRAPAROUND.contains(&routine)) {
                    return Outage;
                }
                database.code().map_or(Outage, |code| Self::of_state(&code))
            }
            // No connection, one that broke, or one whose other end says what nobody can follow.
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed
            | sqlx::Error::BeginFailed
            // A type that is not there (yet).
            | sqlx::Error::TypeNotFound { .. } => Outage,
            _ => Self::Own,
        }
    }

    /// Of an error of a handler: that of the first database error in its chain; without one it is the work's own.
    pub fn of_any(error: &anyhow::Error) -> Self {
        if error.is::<Conflict>() {
            return Raced;
        }
        error.chain().find_map(|cause| cause.downcast_ref::<sqlx::Error>()).map_or(Self::Own, Self::of)
    }

    /// Whether the database takes no writes, for now: a standby, or one whose operator said so.
    pub fn is_read_only(error: &anyhow::Error) -> bool {
        let database = error.chain().find_map(|cause| cause.downcast_ref::<sqlx::Error>()?.as_database_error());
        database.and_then(|error| error.code()).is_some_and(|code| code == "25006")
    }

    fn of_state(code: &str) -> Self {
        TABLE.iter().find(|(class, _)| code.starts_with(class)).map_or(Self::Own, |(_, meaning)| *meaning)
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;
    use std::{fmt, io};

    use anyhow::Context as _;
    use sqlx::error::{DatabaseError, ErrorKind};

    use super::*;

    /// An error of the database with this code.
    #[derive(Debug)]
    struct Coded(&'static str);

    impl fmt::Display for Coded {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    impl std::error::Error for Coded {}

    impl DatabaseError for Coded {
        fn message(&self) -> &str {
            self.0
        }

        fn code(&self) -> Option<Cow<'_, str>> {
            Some(self.0.into())
        }

        fn as_error(&self) -> &(dyn std::error::Error + Send + Sync + 'static) {
            self
        }

        fn as_error_mut(&mut self) -> &mut (dyn std::error::Error + Send + Sync + 'static) {
            self
        }

        fn into_error(self: Box<Self>) -> Box<dyn std::error::Error + Send + Sync + 'static> {
            self
        }

        fn kind(&self) -> ErrorKind {
            ErrorKind::Other
        }
    }

    fn all_mean(meaning: Meaning, codes: &[&'static str]) {
        for code in codes {
            let error = sqlx::Error::Database(Box::new(Coded(code)));
            assert_eq!(Meaning::of(&error), meaning, "{code}");
            let error = Err::<(), _>(error).context("while writing").unwrap_err();
            assert_eq!(Meaning::of_any(&error), meaning, "{code} in a chain");
        }
    }

    #[test]
    fn a_lost_race_is_a_conflict() {
        all_mean(Meaning::Conflict, &["40001", "40P01", "40002", "40003"]);
        assert_eq!(Meaning::of_any(&Conflict.into()), Meaning::Conflict);
    }

    #[test]
    fn a_lock_that_somebody_holds_is_busy() {
        all_mean(Meaning::Busy, &["55P03"]);
    }

    #[test]
    fn statements_of_another_time_are_stale_plans() {
        all_mean(Meaning::StalePlan, &["0A000", "26000", "42P05"]);
    }

    #[test]
    fn a_broken_or_refused_connection_is_an_outage() {
        all_mean(Meaning::Outage, &["08000", "08003", "08006", "08P01", "28000", "28P01", "F0000"]);
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        let broken = [sqlx::Error::Io(refused), sqlx::Error::Protocol("?".into()), sqlx::Error::Tls("?".into())];
        let no_connection = [sqlx::Error::PoolTimedOut, sqlx::Error::PoolClosed, sqlx::Error::WorkerCrashed];
        for error in broken.into_iter().chain(no_connection).chain([sqlx::Error::BeginFailed]) {
            assert_eq!(Meaning::of(&error), Meaning::Outage, "{error}");
        }
    }

    #[test]
    fn a_read_only_server_or_a_transaction_it_ended_is_an_outage() {
        all_mean(Meaning::Outage, &["25006", "25P02", "25P03", "25P04"]);
    }

    #[test]
    fn a_schema_or_rights_that_are_not_there_yet_are_an_outage() {
        all_mean(Meaning::Outage, &["3D000", "3F000", "42P01", "42703", "42501", "42883", "42804"]);
        assert_eq!(Meaning::of(&sqlx::Error::TypeNotFound { type_name: "citext".into() }), Meaning::Outage);
    }

    #[test]
    fn a_server_without_room_is_an_outage() {
        all_mean(Meaning::Outage, &["53000", "53100", "53200", "53300", "53400"]);
    }

    #[test]
    fn a_server_in_another_state_is_an_outage() {
        all_mean(Meaning::Outage, &["55000", "55006", "55P04", "72000"]);
    }

    #[test]
    fn a_statement_that_was_cancelled_or_a_server_that_stops_or_starts_is_an_outage() {
        all_mean(Meaning::Outage, &["57014", "57P01", "57P02", "57P03", "57P04", "57P05"]);
    }

    #[test]
    fn a_server_whose_disk_or_code_fails_is_an_outage() {
        all_mean(Meaning::Outage, &["58000", "58030", "58P01", "XX000", "XX001", "XX002"]);
    }

    #[test]
    fn everything_else_is_the_works_own_failure() {
        all_mean(Meaning::Own, &["22P02", "22003", "23505", "23514", "54000", "P0001", "38000"]);
        for error in [sqlx::Error::RowNotFound, sqlx::Error::Decode("no currency".into())] {
            assert_eq!(Meaning::of(&error), Meaning::Own, "{error}");
        }
        assert_eq!(Meaning::of_any(&anyhow::anyhow!("no such thing")), Meaning::Own);
    }
}
