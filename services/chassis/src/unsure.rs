//! Commits whose answer was lost: what was to be written may stand or not, and nobody is told that nothing happened.

/// The connection broke while a transaction was being committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("nobody knows whether this was committed")]
pub struct Unsure;

/// The connection broke under a statement that writes. What that means depends on whether the statement was a transaction by itself.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the connection broke while this was being written")]
struct Broken;

/// The error of a statement that writes.
pub(crate) fn of_statement(error: sqlx::Error) -> anyhow::Error {
    if is_heard(&error) { error.into() } else { anyhow::Error::from(error).context(Broken) }
}

/// The error of a transaction of one statement.
pub(crate) fn of_one_statement(error: anyhow::Error) -> anyhow::Error {
    if error.is::<Broken>() { error.context(Unsure) } else { error }
}

/// The error of a commit.
pub(crate) fn of_commit(error: sqlx::Error) -> anyhow::Error {
    of_one_statement(of_statement(error))
}

/// Whether the server itself says that it did not do as it was told. A session that is ended (57P01, 57P02) may have committed just before.
fn is_heard(error: &sqlx::Error) -> bool {
    let sqlx::Error::Database(error) = error else { return false };
    error.code().is_some_and(|code| !code.starts_with("08") && !["57P01", "57P02"].contains(&&*code))
}
