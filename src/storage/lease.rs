//! A connection as its user has it: alone, or in turn with the other reads of an execution.

use std::ops::{Deref, DerefMut};

use tokio::sync::OwnedMappedMutexGuard;

use crate::storage::checkout::Checkout;
use crate::storage::postgres_session::PostgresSession;
use crate::storage::session::{Session, SqliteConn};

/// The one connection of an execution that reads on one snapshot.
#[derive(Default)]
pub enum SharedConnection {
    #[default]
    Unopened,
    Postgres(Box<Checkout<PostgresSession>>),
    Sqlite(Box<Checkout<SqliteConn>>),
}

impl SharedConnection {
    /// Returns the connection if it is one to PostgreSQL.
    pub fn postgres(&mut self) -> Option<&mut Checkout<PostgresSession>> {
        match self {
            Self::Postgres(checkout) => Some(checkout),
            Self::Unopened | Self::Sqlite(_) => None,
        }
    }

    /// Returns the connection if it is one to a SQLite file.
    pub fn sqlite(&mut self) -> Option<&mut Checkout<SqliteConn>> {
        match self {
            Self::Sqlite(checkout) => Some(checkout),
            Self::Unopened | Self::Postgres(_) => None,
        }
    }
}

/// A connection that is returned when it is dropped: to its pool, or to the next read of the execution.
pub enum Lease<S: Session> {
    Exclusive(Box<Checkout<S>>),
    /// The connection is in a snapshot, which the execution begins and ends.
    Shared(OwnedMappedMutexGuard<SharedConnection, Checkout<S>>),
}

impl<S: Session> Lease<S> {
    /// Returns true if the connection is in the snapshot of an execution.
    pub fn is_shared(&self) -> bool {
        matches!(self, Self::Shared(_))
    }
}

impl<S: Session> Deref for Lease<S> {
    type Target = Checkout<S>;

    fn deref(&self) -> &Checkout<S> {
        match self {
            Self::Exclusive(checkout) => checkout,
            Self::Shared(checkout) => checkout,
        }
    }
}

impl<S: Session> DerefMut for Lease<S> {
    fn deref_mut(&mut self) -> &mut Checkout<S> {
        match self {
            Self::Exclusive(checkout) => checkout,
            Self::Shared(checkout) => checkout,
        }
    }
}
