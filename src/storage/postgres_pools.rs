//! Pools of connections to one PostgreSQL server.

use std::sync::Arc;

use futures_util::FutureExt;

use crate::error::Result;
use crate::storage::condition_log::ConditionLog;
use crate::storage::connection_pool::{ConnectionPool, PoolTimeouts};
use crate::storage::connector::Connect;
use crate::storage::postgres_endpoint::PgEndpoint;
use crate::storage::postgres_session::{PostgresSession, ServerLimits};
use crate::storage::settings::DatabaseSettings;

/// A server, and what all pools of connections to it have in common.
pub struct PostgresPools {
    pub endpoint: PgEndpoint,
    timeouts: PoolTimeouts,
    conditions: Arc<ConditionLog>,
}

impl PostgresPools {
    /// Describes the pools of a server, which lists their connections under `application_name`.
    pub fn new(
        endpoint: &PgEndpoint,
        settings: &DatabaseSettings,
        application_name: &str,
        conditions: Arc<ConditionLog>,
    ) -> Self {
        let endpoint = endpoint.clone().with_session(ServerLimits::new(settings.statement_timeout), application_name);
        let timeouts = PoolTimeouts {
            wait: settings.wait_timeout,
            connect: endpoint.connect_timeout(),
            statement: settings.statement_timeout,
        };
        Self { endpoint, timeouts, conditions }
    }

    /// Creates a pool, which opens up to `size` connections as they are needed.
    ///
    /// # Errors
    ///
    /// Returns an error if the pool cannot be built.
    pub fn create(&self, size: usize) -> Result<ConnectionPool<PostgresSession>> {
        let endpoint = self.endpoint.clone();
        let connect: Connect<PostgresSession> = Box::new(move || {
            let endpoint = endpoint.clone();
            async move { endpoint.connect().await }.boxed()
        });
        ConnectionPool::new(connect, size, self.timeouts, self.conditions.clone())
    }
}
