//! A replica of PostgreSQL: its connections, and whether it may serve reads at the moment.
//!
//! A replica applies what its primary committed a moment later. It serves a read only if it has applied everything that
//! the reader may know; [`replica_reads`](crate::storage::replica_reads) decides that for each read. A check that runs
//! every few seconds, and every read that fails, decide whether it is asked at all.

use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use diesel::dsl::sql;
use diesel::select;
use diesel::sql_types::{BigInt, Bool, Nullable, Text};
use parking_lot::Mutex;

use crate::error::{Error, Result};
use crate::metrics::METRICS;
use crate::storage::condition_log::ConditionLog;
use crate::storage::connection::{Conn, RunQueryDsl};
use crate::storage::connection_pool::ConnectionPool;
use crate::storage::postgres_endpoint::PgEndpoint;
use crate::storage::postgres_pools::PostgresPools;
use crate::storage::postgres_session::PostgresSession;
use crate::storage::read_permits::{ReadPermits, acquire_other_for_current_reader};
use crate::storage::settings::DatabaseSettings;

/// The longest time for which a read waits until the replica has applied what it needs.
const CATCH_UP_TIME: Duration = Duration::from_millis(50);
/// The pause between two looks at what the replica has applied.
const CATCH_UP_STEP: Duration = Duration::from_millis(5);
/// The position in the log that every replica has applied.
pub const LOG_START: &str = "0/0";

/// The SQL of the name of a database that only its replicas have too.
const IDENTITY: &str = "(SELECT system_identifier::text FROM pg_control_system()) || '/' || current_database()";
/// The SQL of the position in the log up to which others may have seen commits; null on a standby.
///
/// A commit is visible after it was flushed to the disk, unless commits are not synchronous.
const COMMITTED_POSITION: &str = "CAST(CASE WHEN pg_is_in_recovery() THEN NULL \
     WHEN current_setting('synchronous_commit') = 'off' THEN pg_current_wal_insert_lsn() \
     ELSE pg_current_wal_flush_lsn() END AS text)";

/// The connections to a replica and its condition.
pub struct Replica {
    pool: ConnectionPool<PostgresSession>,
    /// The permits of reads on the replica, which are no reads on the primary.
    permits: Arc<ReadPermits>,
    /// The condition that was logged last. The lock is held for single operations, and no other lock is taken
    /// meanwhile.
    condition: Mutex<Condition>,
    /// False once a read has waited for the replica in vain, until it has what a read or a check needs.
    keeps_up: AtomicBool,
}

/// The condition of a replica, which decides if it is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Condition {
    /// The first check has not ended.
    Unchecked,
    Usable,
    Unusable,
}

/// A database as it identifies itself.
pub struct DatabaseState {
    identity: String,
    /// The position in the log up to which others may have seen commits; `None` on a standby.
    pub position: Option<String>,
}

/// Returns the identity of the database, and the position up to which others may have seen its commits.
///
/// # Errors
///
/// Returns an error if the statement fails.
pub async fn database_state(primary: &mut Conn) -> Result<DatabaseState> {
    let columns = (sql::<Text>(IDENTITY), sql::<Nullable<Text>>(COMMITTED_POSITION));
    let (identity, position) = select(columns).get_result(primary).await?;
    Ok(DatabaseState { identity, position })
}

/// Returns the position in the log up to which others may have seen commits.
///
/// Returns `None` if the database is a standby.
///
/// # Errors
///
/// Returns an error if the statement fails.
pub async fn committed_position(primary: &mut Conn) -> Result<Option<String>> {
    select(sql::<Nullable<Text>>(COMMITTED_POSITION)).get_result(primary).await
}

impl Replica {
    /// Creates the pool of a replica, which is not asked before its first check.
    ///
    /// # Errors
    ///
    /// Returns an error if the pool cannot be built.
    pub fn open(settings: &DatabaseSettings, endpoint: &PgEndpoint, application_name: &str) -> Result<Self> {
        // The failures of a replica are not conditions of the database: reads continue on the primary.
        let pools = PostgresPools::new(endpoint, settings, application_name, Arc::new(ConditionLog::silent()));
        Ok(Self {
            pool: pools.create(settings.max_connections)?,
            permits: ReadPermits::new(settings.replica_read_limits()),
            condition: Mutex::new(Condition::Unchecked),
            keeps_up: AtomicBool::new(true),
        })
    }

    /// Returns true if reads may ask the replica.
    pub fn is_usable(&self) -> bool {
        *self.condition.lock() == Condition::Usable
    }

    /// Takes a connection to the replica, after waiting for a permit of the current reader.
    ///
    /// # Errors
    ///
    /// Returns an unavailable error if no connection is free in time or the replica cannot be reached.
    pub async fn checkout(&self) -> Result<Conn> {
        let waiting_since = Instant::now();
        let permit = acquire_other_for_current_reader(&self.permits).await?;
        self.pool.checkout(waiting_since, permit).await.map(Conn::Postgres)
    }

    /// Returns true once the replica has applied the log up to a position, or false if that takes too long.
    ///
    /// A replica that did not keep up is asked once, without waiting.
    ///
    /// # Errors
    ///
    /// Returns an error if a statement fails.
    pub async fn has_applied(&self, replica: &mut Conn, position: &str) -> Result<bool> {
        let asked_at = Instant::now();
        loop {
            let has_applied = sql::<Bool>("COALESCE(pg_is_in_recovery() AND pg_last_wal_replay_lsn() >= CAST(")
                .bind::<Text, _>(position.to_owned())
                .sql(" AS pg_lsn), false)");
            if select(has_applied).get_result(replica).await? {
                self.keeps_up.store(true, Ordering::Relaxed);
                return Ok(true);
            }
            if !AtomicBool::load(&self.keeps_up, Ordering::Relaxed) || asked_at.elapsed() >= CATCH_UP_TIME {
                self.keeps_up.store(false, Ordering::Relaxed);
                return Ok(false);
            }
            tokio::time::sleep(CATCH_UP_STEP).await;
        }
    }

    /// Checks that the replica is a standby of a primary, and measures how far it is behind.
    pub async fn check(&self, primary: &DatabaseState) {
        match self.problem(primary).await {
            Ok(None) => self.set_usable(),
            Ok(Some(problem)) => self.set_unusable(&problem),
            Err(error) => self.record_failure(&error),
        }
    }

    /// Returns why the replica cannot serve reads of a primary, if it cannot.
    async fn problem(&self, primary: &DatabaseState) -> Result<Option<&'static str>> {
        let position = primary.position.as_deref().unwrap_or(LOG_START);
        let mut conn = self.checkout().await?;
        let lag = sql::<Nullable<BigInt>>("CAST(pg_wal_lsn_diff(CAST(")
            .bind::<Text, _>(position.to_owned())
            .sql(" AS pg_lsn), pg_last_wal_replay_lsn()) AS bigint)");
        let columns = (sql::<Bool>("pg_is_in_recovery()"), sql::<Text>(IDENTITY), lag);
        let (is_standby, identity, lag): (bool, String, Option<i64>) = select(columns).get_result(&mut conn).await?;
        METRICS.replica_lag.set(lag.unwrap_or_default().max(0));
        // A replica that did not keep up gets the time to show that it does now.
        self.keeps_up.store(true, Ordering::Relaxed);
        self.has_applied(&mut conn, position).await?;
        Ok(match (is_standby, identity == primary.identity) {
            (true, true) => None,
            (true, false) => Some("it is a standby of another database"),
            (false, _) => Some("it is not a standby"),
        })
    }

    /// Stops asking the replica because of a failure, until the next check that succeeds.
    pub fn record_failure(&self, error: &Error) {
        self.set_unusable(error);
    }

    fn set_usable(&self) {
        if std::mem::replace(&mut *self.condition.lock(), Condition::Usable) != Condition::Usable {
            METRICS.replica_usable.set(1);
            tracing::info!("reads go to the replica of DATABASE_READ_URL too");
        }
    }

    fn set_unusable(&self, cause: &dyn Display) {
        if std::mem::replace(&mut *self.condition.lock(), Condition::Unusable) != Condition::Unusable {
            METRICS.replica_usable.set(0);
            tracing::warn!(%cause, "the replica of DATABASE_READ_URL cannot be used; all reads go to the primary");
        }
    }

    /// Closes the pool; connections in use are closed when they are returned.
    pub fn close(&self) {
        self.pool.close();
    }
}
