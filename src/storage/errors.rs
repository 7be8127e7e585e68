//! The kinds of failed statements, and their conversion into the server's own error.

use std::fmt::Display;

use diesel::result::DatabaseErrorKind::{ClosedConnection, UnableToSendCommand};
use diesel::result::Error as DatabaseError;

use crate::error::Error;

/// The kinds of failure that callers, operators and clients distinguish.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, strum::EnumIter, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Failure {
    /// The connection broke, or none can be opened.
    Unreachable,
    /// The database did not answer in time.
    NoAnswer,
    /// The database ended the statement at its time limit.
    TimedOut,
    /// All connections stayed in use.
    NoConnectionFree,
    /// Another transaction holds a lock that the statement needs.
    Locked,
    /// The database rolled the transaction back because it conflicted with another one.
    Conflict,
    /// The database accepts no changes.
    ReadOnly,
    /// The database has no room on its disk.
    StorageFull,
    /// The disk of the database fails.
    StorageFailed,
    /// The database lacks memory, connections or another resource.
    Exhausted,
    /// Any other failure, which is a fault of this server.
    Internal,
}

impl Failure {
    /// Returns the kind of an error of PostgreSQL with this SQLSTATE.
    ///
    /// The codes are those of PostgreSQL's documentation, appendix "PostgreSQL Error Codes".
    pub fn from_sqlstate(code: &str) -> Self {
        match code {
            // The server ends a session that was idle for too long, or in a transaction for too long.
            "57P05" | "25P03" | "25P04" => Self::Unreachable,
            // `statement_timeout` and requests to cancel.
            "57014" => Self::TimedOut,
            "55P03" => Self::Locked,
            "40001" | "40P01" => Self::Conflict,
            "25006" => Self::ReadOnly,
            "53100" => Self::StorageFull,
            "58030" => Self::StorageFailed,
            code if code.starts_with("53") => Self::Exhausted,
            code if code.starts_with("08") || code.starts_with("57P") => Self::Unreachable,
            _ => Self::Internal,
        }
    }

    /// Returns the kind of a failed statement on PostgreSQL, given the SQLSTATE of the last error.
    pub fn of_postgres(error: &DatabaseError, sqlstate: &str) -> Self {
        match error {
            DatabaseError::DatabaseError(ClosedConnection | UnableToSendCommand, _) => Self::Unreachable,
            DatabaseError::DatabaseError(..) => Self::from_sqlstate(sqlstate),
            DatabaseError::RollbackErrorOnCommit { commit_error, .. } => Self::of_postgres(commit_error, sqlstate),
            // An earlier statement of the transaction broke the connection.
            DatabaseError::BrokenTransactionManager => Self::Unreachable,
            _ => Self::Internal,
        }
    }

    /// Returns the kind of a failed statement on SQLite.
    ///
    /// diesel hides the result code. Its texts are constants of the library that is built into this server
    /// (`sqlite3ErrStr` in SQLite's `main.c`), so they are in no other language.
    pub fn of_sqlite(error: &DatabaseError) -> Self {
        match error {
            DatabaseError::DatabaseError(_, info) => match info.message() {
                "database is locked" => Self::Locked,
                message if message.starts_with("database table is locked") => Self::Locked,
                "interrupted" => Self::TimedOut,
                "attempt to write a readonly database" => Self::ReadOnly,
                "database or disk is full" => Self::StorageFull,
                "disk I/O error" => Self::StorageFailed,
                "unable to open database file" => Self::Unreachable,
                _ => Self::Internal,
            },
            DatabaseError::RollbackErrorOnCommit { commit_error, .. } => Self::of_sqlite(commit_error),
            _ => Self::Internal,
        }
    }

    /// Returns the label of the metric.
    pub fn label(self) -> &'static str {
        self.into()
    }

    /// Returns the sentence that clients and operators read.
    pub fn message(self) -> &'static str {
        match self {
            Self::Unreachable => "the database can't be reached",
            Self::NoAnswer => "the database doesn't answer",
            Self::TimedOut => "the database takes too long",
            Self::NoConnectionFree => "no connection to the database is free",
            Self::Locked | Self::Conflict => "the database is busy with another change of the same data",
            Self::ReadOnly => "the database is read-only",
            Self::StorageFull => "the disk of the database is full",
            Self::StorageFailed => "the disk of the database fails",
            Self::Exhausted => "the database lacks resources",
            Self::Internal => "a statement failed",
        }
    }

    /// Returns true if the connection must not be used again.
    ///
    /// A new connection may lead to another server: the primary after a failover, or one that has resources.
    pub fn breaks_connection(self) -> bool {
        matches!(self, Self::Unreachable | Self::NoAnswer | Self::ReadOnly | Self::Exhausted | Self::StorageFailed)
    }

    /// Returns true if a commit that failed in this way was certainly rolled back.
    ///
    /// A commit without an answer may have succeeded. SQLite makes a commit visible as its last step, so there every
    /// error means that it is rolled back.
    pub fn rolls_back_commit(self) -> bool {
        match self {
            Self::TimedOut
            | Self::Locked
            | Self::Conflict
            | Self::ReadOnly
            | Self::StorageFull
            | Self::StorageFailed
            | Self::Exhausted => true,
            Self::Unreachable | Self::NoAnswer | Self::NoConnectionFree | Self::Internal => false,
        }
    }

    /// Converts the failure into the error of a request that changed nothing.
    pub fn into_error(self, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
        match self {
            Self::Internal => Error::internal(cause),
            failure => Error::unavailable(failure.message()),
        }
    }
}

/// The reason why no connection could be opened.
#[derive(Debug, thiserror::Error)]
#[error("{cause}")]
pub struct ConnectFailure {
    pub failure: Failure,
    pub cause: String,
}

impl ConnectFailure {
    /// Returns a failure with its cause in words.
    pub fn new(failure: Failure, cause: impl Display) -> Self {
        Self { failure, cause: cause.to_string() }
    }
}

/// Converts an error of which only diesel's kind is known.
impl From<DatabaseError> for Error {
    fn from(error: DatabaseError) -> Self {
        Failure::of_postgres(&error, "").into_error(error)
    }
}

/// Converts the error of a stored value that this server cannot read.
impl From<Box<dyn std::error::Error + Send + Sync>> for Error {
    fn from(error: Box<dyn std::error::Error + Send + Sync>) -> Self {
        Self::internal(error)
    }
}

#[cfg(test)]
mod tests {
    use diesel::Connection;
    use diesel::SqliteConnection;
    use diesel::connection::SimpleConnection;
    use diesel::result::DatabaseErrorKind::{SerializationFailure, UniqueViolation, Unknown};

    use super::*;

    fn error(kind: diesel::result::DatabaseErrorKind, message: &str) -> DatabaseError {
        DatabaseError::DatabaseError(kind, Box::new(message.to_owned()))
    }

    #[test]
    fn failure_follows_from_the_sqlstate_whatever_the_language() {
        for (code, expected) in [
            ("08006", Failure::Unreachable),
            ("57P01", Failure::Unreachable),
            ("57P03", Failure::Unreachable),
            ("25P03", Failure::Unreachable),
            ("57014", Failure::TimedOut),
            ("55P03", Failure::Locked),
            ("40001", Failure::Conflict),
            ("40P01", Failure::Conflict),
            ("25006", Failure::ReadOnly),
            ("53100", Failure::StorageFull),
            ("53300", Failure::Exhausted),
            ("53200", Failure::Exhausted),
            ("58030", Failure::StorageFailed),
            ("23505", Failure::Internal),
            ("42P01", Failure::Internal),
            ("", Failure::Internal),
        ] {
            assert_eq!(Failure::of_postgres(&error(Unknown, "Meldung"), code), expected, "{code}");
        }
        assert_eq!(Failure::of_postgres(&error(SerializationFailure, ""), "40001"), Failure::Conflict);
        assert_eq!(Failure::of_postgres(&error(ClosedConnection, ""), "23505"), Failure::Unreachable);
        assert_eq!(Failure::of_postgres(&DatabaseError::NotFound, "40001"), Failure::Internal);
    }

    #[test]
    fn failure_on_sqlite_follows_from_the_texts_of_the_library() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("parlor.db");
        let open = || SqliteConnection::establish(&path.to_string_lossy()).unwrap();
        let run = |conn: &mut SqliteConnection, sql: &str| Failure::of_sqlite(&conn.batch_execute(sql).unwrap_err());
        let mut conn = open();
        conn.batch_execute("PRAGMA journal_mode = WAL; CREATE TABLE texts (text); BEGIN IMMEDIATE").unwrap();
        assert_eq!(run(&mut open(), "BEGIN IMMEDIATE"), Failure::Locked);
        conn.batch_execute("ROLLBACK; PRAGMA query_only = ON").unwrap();
        assert_eq!(run(&mut conn, "INSERT INTO texts VALUES (1)"), Failure::ReadOnly);
        conn.batch_execute("PRAGMA query_only = OFF; PRAGMA max_page_count = 4").unwrap();
        assert_eq!(run(&mut conn, "INSERT INTO texts VALUES (zeroblob(100000))"), Failure::StorageFull);
        assert_eq!(Failure::of_sqlite(&error(Unknown, "disk I/O error")), Failure::StorageFailed);
        assert_eq!(Failure::of_sqlite(&error(Unknown, "interrupted")), Failure::TimedOut);
        assert_eq!(Failure::of_sqlite(&error(UniqueViolation, "UNIQUE constraint failed")), Failure::Internal);
    }

    #[test]
    fn only_failures_that_a_retry_can_cure_are_unavailable() {
        use strum::IntoEnumIterator;
        for failure in Failure::iter() {
            let expected = if failure == Failure::Internal { "INTERNAL" } else { "UNAVAILABLE" };
            assert_eq!(failure.into_error("cause").code(), expected, "{failure:?}");
        }
        assert_eq!(Error::from(DatabaseError::NotFound).code(), "INTERNAL");
    }
}
