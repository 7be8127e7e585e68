//! The database: SQLite or PostgreSQL, by the scheme of `DATABASE_URL`. The only layer that knows
//! diesel.
//!
//! Functions here take a [`Conn`], open no transaction, read no clock and publish nothing: the
//! services do.

pub mod blocklist;
pub mod call_signaling;
pub mod calls;
pub mod chat_removals;
pub mod chats;
pub mod column_types;
pub mod connection;
pub mod members;
pub mod messages;
pub mod migrations;
pub mod notifications;
pub mod polls;
pub mod pool;
pub mod postgres_tls;
pub mod reactions;
pub mod reports;
pub mod schema;
pub mod search;
pub mod sql;
pub mod sqlite_blocking;
pub mod users;

use crate::error::Error;

impl From<diesel::result::Error> for Error {
    fn from(error: diesel::result::Error) -> Self {
        use diesel::result::DatabaseErrorKind::{ClosedConnection, SerializationFailure, UnableToSendCommand};
        match error {
            diesel::result::Error::DatabaseError(ClosedConnection | UnableToSendCommand, _) => {
                tracing::warn!(%error, "the database connection broke off");
                Self::unavailable("the database can't be reached")
            }
            // What PostgreSQL says to those whom an administrator, a stop or a crash cuts off (class 57P).
            diesel::result::Error::DatabaseError(_, info) if info.message().starts_with("terminating connection") => {
                tracing::warn!(error = info.message(), "the database ended the connection");
                Self::unavailable("the database can't be reached")
            }
            // PostgreSQL ended one of two transactions that waited for each other: it did nothing.
            diesel::result::Error::DatabaseError(kind, info)
                if matches!(kind, SerializationFailure) || info.message() == "deadlock detected" =>
            {
                tracing::warn!(error = info.message(), "a transaction gave way to another");
                Self::unavailable("the database is busy")
            }
            error => Self::internal(error),
        }
    }
}

/// A row that this server can't read back.
impl From<Box<dyn std::error::Error + Send + Sync>> for Error {
    fn from(error: Box<dyn std::error::Error + Send + Sync>) -> Self {
        Self::internal(error)
    }
}
