//! The opening of a pool's connections, and the decision whether one can be used again.

use deadpool::managed::{Manager, Metrics, RecycleError, RecycleResult};
use diesel_async::pooled_connection::PoolableConnection;
use futures_util::future::BoxFuture;

use crate::storage::errors::ConnectFailure;
use crate::storage::session::Session;

/// Opens a connection.
pub type Connect<S> = Box<dyn Fn() -> BoxFuture<'static, Result<S, ConnectFailure>> + Send + Sync>;

/// The manager of a pool: opens its connections, and decides whether one can be used again.
pub struct Connector<S> {
    pub connect: Connect<S>,
}

impl<S: Session> Manager for Connector<S> {
    type Type = S;
    type Error = ConnectFailure;

    async fn create(&self) -> Result<S, ConnectFailure> {
        (self.connect)().await
    }

    /// Rejects connections that are closed or in a transaction.
    ///
    /// A test query at each checkout would cost a round trip; a dead connection fails at its first use.
    async fn recycle(&self, session: &mut S, _: &Metrics) -> RecycleResult<ConnectFailure> {
        match session.raw().is_broken() {
            true => Err(RecycleError::message("the connection is broken")),
            false => Ok(()),
        }
    }
}
