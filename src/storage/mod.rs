//! The database: SQLite or PostgreSQL, by the scheme of `DATABASE_URL`. The only layer that knows
//! diesel.
//!
//! Functions here take a [`Conn`], open no transaction, read no clock and publish nothing: the
//! services do.

pub mod blocklist;
pub mod call_signals;
pub mod calls;
pub mod chats;
pub mod conn;
pub mod fragments;
pub mod members;
pub mod messages;
pub mod migrations;
pub mod notifications;
pub mod polls;
pub mod pools;
pub mod reactions;
pub mod removals;
pub mod reports;
pub mod schema;
pub mod search;
pub mod threads;
pub mod tls;
pub mod types;
pub mod users;

pub use conn::Conn;
pub use pools::{Engine, Store};

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
