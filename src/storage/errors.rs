//! Conversion of database errors into the server's own error.

use diesel::result::DatabaseErrorKind::{self, ClosedConnection, SerializationFailure, UnableToSendCommand};
use diesel::result::Error as DatabaseError;

use crate::error::Error;

/// The kinds of failure that callers distinguish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FailureKind {
    /// The connection broke, and the database rolled its transaction back.
    ConnectionLost,
    /// The database rolled the transaction back because it conflicted with another one.
    TransactionConflict,
    /// Any other failure, which is a fault of this server.
    Internal,
}

/// Returns the kind of a database error, given the parts that diesel exposes.
///
/// PostgreSQL's SQLSTATE would say it exactly: 57P01 and 57P02 for a connection that an administrator or a crash
/// ended, and 40P01 for a deadlock. diesel-async 0.9 translates only a few codes into a [`DatabaseErrorKind`], and
/// diesel's `DatabaseErrorInformation` hides the others, so these two are recognised by PostgreSQL's English message.
/// With another `lc_messages` they count as internal errors.
fn classify(kind: &DatabaseErrorKind, message: &str) -> FailureKind {
    match kind {
        ClosedConnection | UnableToSendCommand => FailureKind::ConnectionLost,
        SerializationFailure => FailureKind::TransactionConflict,
        _ if message.starts_with("terminating connection") => FailureKind::ConnectionLost,
        _ if message == "deadlock detected" => FailureKind::TransactionConflict,
        _ => FailureKind::Internal,
    }
}

impl From<DatabaseError> for Error {
    fn from(error: DatabaseError) -> Self {
        let kind = match &error {
            DatabaseError::DatabaseError(kind, info) => classify(kind, info.message()),
            _ => FailureKind::Internal,
        };
        match kind {
            FailureKind::ConnectionLost => {
                tracing::warn!(%error, "database connection lost");
                Self::unavailable("the database can't be reached")
            }
            FailureKind::TransactionConflict => {
                tracing::warn!(%error, "transaction rolled back because it conflicted with another one");
                Self::unavailable("the database is busy")
            }
            FailureKind::Internal => Self::internal(error),
        }
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
    use diesel::result::DatabaseErrorKind::{ClosedConnection, SerializationFailure, UniqueViolation, Unknown};

    use super::{DatabaseError, FailureKind, classify};
    use crate::error::Error;

    #[test]
    fn lost_connections_and_conflicts_are_recognised() {
        let cases = [
            (ClosedConnection, "", FailureKind::ConnectionLost),
            (Unknown, "terminating connection due to administrator command", FailureKind::ConnectionLost),
            (Unknown, "terminating connection because of crash of another server process", FailureKind::ConnectionLost),
            (SerializationFailure, "", FailureKind::TransactionConflict),
            (Unknown, "deadlock detected", FailureKind::TransactionConflict),
            (UniqueViolation, "duplicate key value violates unique constraint", FailureKind::Internal),
            (Unknown, "relation \"chats\" does not exist", FailureKind::Internal),
        ];
        for (kind, message, expected) in cases {
            assert_eq!(classify(&kind, message), expected, "{kind:?} {message:?}");
        }
    }

    #[test]
    fn only_failures_that_a_retry_can_cure_are_unavailable() {
        let convert = |message: &str| Error::from(DatabaseError::DatabaseError(Unknown, Box::new(message.to_owned())));
        assert_eq!(convert("deadlock detected").code(), "UNAVAILABLE");
        assert_eq!(convert("division by zero").code(), "INTERNAL");
        assert_eq!(Error::from(DatabaseError::NotFound).code(), "INTERNAL");
    }
}
