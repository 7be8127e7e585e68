//! Migrations of the database's schema, which are paired by name in `migrations/`.
//!
//! Several servers may start at once. Each first reads which migrations were run, without a lock. If none is missing,
//! which is the usual start, that is all. Otherwise the missing ones run in one transaction, under a lock that excludes
//! other servers, after they were determined again under the lock. The lock ends with the transaction, so it is safe
//! behind a pooler that gives each transaction another connection.
//!
//! A database that a newer version migrated is used as it is if [`schema_version`](crate::storage::schema_version)
//! allows it.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use diesel::connection::{LoadConnection, SimpleConnection};
use diesel::migration::MigrationSource;
use diesel::prelude::*;
use diesel::query_builder::SqlQuery;
use diesel::query_dsl::LoadQuery;
use diesel::sql_types::Text;
use diesel::{ConnectionError, sql_query};
use diesel_async::async_connection_wrapper::AsyncConnectionWrapper;
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use crate::error::Error;
use crate::storage::bucket_conversion::{self, IdDialect, NonceRow, UnbucketedRow};
use crate::storage::engine::Engine;
use crate::storage::errors::{ConnectFailure, Failure};
use crate::storage::schema_version::{SchemaVersion, TooOld};
use crate::storage::session::PostgresConn;
use crate::storage::settings::MigrationMode;

const POSTGRES_MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations/postgres");
const SQLITE_MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations/sqlite");

/// The key of PostgreSQL's advisory lock that makes servers which start together migrate one by one.
pub const ADVISORY_LOCK_KEY: i64 = 0x5041_524c_4f52;

/// The time for which the migrations wait for another process.
const BLOCKED_TIMEOUT: Duration = Duration::from_secs(60);
/// The time after which the log says that the migrations wait.
const BLOCKED_WARNING_AFTER: Duration = Duration::from_secs(2);
/// The pause between two attempts.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);

/// The settings of a transaction that migrates PostgreSQL.
///
/// A statement that waits for the lock of a table holds up every later one on that table, so it gives up soon and the
/// transaction is tried again. The statements themselves may take long. The last setting is for distributed tables (see
/// [`distribution`](crate::storage::distribution)), and has no effect on others.
const POSTGRES_TRANSACTION_SETTINGS: &str = "SET LOCAL lock_timeout = '3s'; SET LOCAL statement_timeout = 0; \
     SET LOCAL idle_in_transaction_session_timeout = 0; SET LOCAL citus.multi_shard_modify_mode = 'sequential'";

/// Selects a row if the table of diesel's migrations exists.
const POSTGRES_TABLE_EXISTS: &str =
    "SELECT 'exists' AS line WHERE to_regclass('__diesel_schema_migrations') IS NOT NULL";
/// Selects a row if the table of diesel's migrations exists.
const SQLITE_TABLE_EXISTS: &str = "SELECT name AS line FROM sqlite_schema WHERE name = '__diesel_schema_migrations'";

/// A reason why the schema is not the one that this version needs.
#[derive(Debug, thiserror::Error)]
pub enum MigrationError {
    /// A newer version migrated the database in a way that this version cannot handle.
    #[error(
        "the database has the schema {found}, and this version of Parlor knows {known} and older ones; start a version \
         that knows it"
    )]
    NewerSchema {
        /// The newest migration of the database.
        found: String,
        /// The newest migration that this version knows.
        known: String,
    },
    /// A newer version migrated the database, and this version may no longer read or write it.
    #[error(transparent)]
    TooOld(#[from] TooOld),
    /// Migrations are missing, and the settings say not to run them.
    #[error("the database lacks the migrations {}; run parlor migrate, or set PARLOR_MIGRATE=auto", .0.join(", "))]
    Pending(Vec<String>),
    /// Another process holds a lock that the migrations need.
    #[error("the database could not be migrated within {} seconds: {}", BLOCKED_TIMEOUT.as_secs(), .0)]
    Blocked(String),
    /// The database cannot be reached, or a migration failed.
    #[error(transparent)]
    Failed(Error),
}

impl From<diesel::result::Error> for MigrationError {
    fn from(error: diesel::result::Error) -> Self {
        // An error of PostgreSQL has none of SQLite's texts; `attempt` recognises its locks.
        match Failure::of_sqlite(&error) {
            Failure::Locked => Self::Blocked("the database is locked by a process that writes to it".into()),
            _ => Self::Failed(Error::internal(error)),
        }
    }
}

impl From<ConnectFailure> for MigrationError {
    fn from(error: ConnectFailure) -> Self {
        Self::Failed(Error::internal(error))
    }
}

impl From<ConnectionError> for MigrationError {
    fn from(error: ConnectionError) -> Self {
        Self::Failed(Error::internal(error))
    }
}

/// Brings the schema to this version as the mode says, and returns the migrations that were run.
///
/// A newer schema that this version may still read and write needs nothing.
///
/// # Errors
///
/// Returns an error if the database cannot be reached, has a schema that this version may not use or lacks migrations
/// that must not be run, if another process holds a lock for too long, or if a migration fails.
pub async fn run(engine: &Engine, mode: MigrationMode) -> Result<Vec<String>, MigrationError> {
    retry_while_blocked(BLOCKED_TIMEOUT, || attempt(engine, mode)).await
}

/// Repeats an attempt that another process blocks, until a time has passed.
async fn retry_while_blocked<T, F>(timeout: Duration, attempt: impl Fn() -> F) -> Result<T, MigrationError>
where
    F: Future<Output = Result<T, MigrationError>>,
{
    let started_at = Instant::now();
    let mut has_warned = false;
    loop {
        let blocked_by = match attempt().await {
            Err(MigrationError::Blocked(by)) if started_at.elapsed() < timeout => by,
            result => return result,
        };
        if !has_warned && started_at.elapsed() >= BLOCKED_WARNING_AFTER {
            has_warned = true;
            tracing::warn!(blocked_by, "the migrations wait for another process");
        }
        sleep(RETRY_INTERVAL).await;
    }
}

/// Migrates once, on a thread that may block.
///
/// A dropped call runs to its end, so a migration is never cut off by the end of a start.
async fn attempt(engine: &Engine, mode: MigrationMode) -> Result<Vec<String>, MigrationError> {
    let attempt = match engine {
        Engine::Postgres(endpoint) => {
            let (conn, last_error) = endpoint.connect_without_limits().await?.into_parts();
            spawn_blocking(move || {
                let migrated = migrate_postgres(&mut AsyncConnectionWrapper::from(conn), mode);
                migrated.map_err(|error| match error {
                    MigrationError::Failed(_) if Failure::from_sqlstate(&last_error.get()) == Failure::Locked => {
                        MigrationError::Blocked("another process uses a table that a migration changes".into())
                    }
                    error => error,
                })
            })
        }
        Engine::Sqlite(path) => {
            let path = path.to_string_lossy().into_owned();
            spawn_blocking(move || migrate_sqlite(&mut SqliteConnection::establish(&path)?, mode))
        }
    };
    attempt.await.map_err(|error| MigrationError::Failed(Error::internal(error)))?
}

fn migrate_postgres(
    conn: &mut AsyncConnectionWrapper<PostgresConn>,
    mode: MigrationMode,
) -> Result<Vec<String>, MigrationError> {
    let known = known_versions::<diesel::pg::Pg>(POSTGRES_MIGRATIONS)?;
    if is_current(conn, POSTGRES_TABLE_EXISTS, &known, mode)? {
        return Ok(Vec::new());
    }
    conn.transaction(|conn| {
        conn.batch_execute(POSTGRES_TRANSACTION_SETTINGS)?;
        let lock = format!("SELECT 'locked' AS line WHERE pg_try_advisory_xact_lock({ADVISORY_LOCK_KEY})");
        if sql_query(lock).load::<Line>(conn)?.is_empty() {
            return Err(MigrationError::Blocked(advisory_lock_holder(conn)?));
        }
        // Another server may have migrated since the first look.
        if is_current(conn, POSTGRES_TABLE_EXISTS, &known, mode)? {
            return Ok(Vec::new());
        }
        run_pending(conn, POSTGRES_MIGRATIONS, &bucket_conversion::POSTGRES)
    })
}

/// Describes the process that holds the advisory lock.
fn advisory_lock_holder(conn: &mut AsyncConnectionWrapper<PostgresConn>) -> QueryResult<String> {
    let (high, low) = (ADVISORY_LOCK_KEY >> 32, ADVISORY_LOCK_KEY & 0xffff_ffff);
    let holder = format!(
        "SELECT format('process %s of PostgreSQL (application %L, client %s) holds the lock of the migrations', pid, \
         application_name, COALESCE(host(client_addr), 'local')) AS line \
         FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE locktype = 'advisory' AND granted AND objsubid = 1 \
         AND classid::bigint = {high} AND objid::bigint = {low} AND database = datid LIMIT 1"
    );
    let holder = sql_query(holder).load::<Line>(conn)?.pop();
    Ok(holder.map_or_else(|| "another process held the lock of the migrations".into(), |holder| holder.line))
}

fn migrate_sqlite(conn: &mut SqliteConnection, mode: MigrationMode) -> Result<Vec<String>, MigrationError> {
    let known = known_versions::<diesel::sqlite::Sqlite>(SQLITE_MIGRATIONS)?;
    // Shorter than that of other connections, so that the log soon says that the migrations wait.
    conn.batch_execute("PRAGMA busy_timeout = 500")?;
    if is_current(conn, SQLITE_TABLE_EXISTS, &known, mode)? {
        return Ok(Vec::new());
    }
    conn.batch_execute("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON")?;
    conn.immediate_transaction(|conn| {
        // Another server may have migrated since the first look.
        if is_current(conn, SQLITE_TABLE_EXISTS, &known, mode)? {
            return Ok(Vec::new());
        }
        run_pending(conn, SQLITE_MIGRATIONS, &bucket_conversion::SQLITE)
    })
}

/// Returns the versions of migrations, the oldest first.
fn known_versions<DB: diesel::backend::Backend>(
    migrations: impl MigrationSource<DB>,
) -> Result<BTreeSet<String>, MigrationError> {
    let migrations = migrations.migrations().map_err(|error| MigrationError::Failed(Error::internal(error)))?;
    Ok(migrations.iter().map(|migration| migration.name().version().to_string()).collect())
}

/// The only column of a query.
#[derive(QueryableByName)]
struct Line {
    #[diesel(sql_type = Text)]
    line: String,
}

/// Returns whether the schema needs no migration.
///
/// It only reads, so that it needs no lock and no right to create tables.
fn is_current<C>(
    conn: &mut C,
    table_exists: &str,
    known: &BTreeSet<String>,
    mode: MigrationMode,
) -> Result<bool, MigrationError>
where
    C: LoadConnection,
    for<'q> SqlQuery: LoadQuery<'q, C, Line>,
{
    let mut applied = Vec::new();
    if !sql_query(table_exists).load::<Line>(conn)?.is_empty() {
        applied = sql_query("SELECT version AS line FROM __diesel_schema_migrations ORDER BY version").load(conn)?;
    }
    let applied: BTreeSet<String> = applied.into_iter().map(|row: Line| row.line).collect();
    if let Some(found) = applied.difference(known).last() {
        let newest_known = known.last().cloned().unwrap_or_default();
        // A version from before the table, or one that knows other migrations than those of the database.
        if !applied.is_superset(known) || !applied.contains(SchemaVersion::FIRST) {
            return Err(MigrationError::NewerSchema { found: found.clone(), known: newest_known });
        }
        let row: Vec<Line> = sql_query(SchemaVersion::SELECT).load(conn)?;
        let version = row.first().and_then(|row| SchemaVersion::parse(&row.line));
        let version = version.ok_or_else(|| MigrationError::Failed(Error::internal("schema_version has no row")))?;
        version.require_known(&newest_known)?;
        tracing::info!(schema = version.version, known = newest_known, "this version may use the newer schema");
        return Ok(true);
    }
    let pending: Vec<String> = known.difference(&applied).cloned().collect();
    match mode {
        MigrationMode::Check if !pending.is_empty() => Err(MigrationError::Pending(pending)),
        MigrationMode::Off => Ok(true),
        MigrationMode::Auto | MigrationMode::Check => Ok(pending.is_empty()),
    }
}

/// Runs the missing migrations, the oldest first, and returns their versions.
fn run_pending<C>(conn: &mut C, migrations: EmbeddedMigrations, ids: &IdDialect) -> Result<Vec<String>, MigrationError>
where
    C: LoadConnection + MigrationHarness<C::Backend>,
    EmbeddedMigrations: MigrationSource<C::Backend>,
    for<'q> SqlQuery: LoadQuery<'q, C, UnbucketedRow> + LoadQuery<'q, C, NonceRow>,
{
    let pending = conn.pending_migrations(migrations).map_err(migration_failed)?;
    let mut versions = Vec::with_capacity(pending.len());
    for migration in pending {
        let version = migration.name().version().to_string();
        let has_new_ids = version == bucket_conversion::MIGRATION;
        if has_new_ids {
            bucket_conversion::prepare(conn, ids).map_err(MigrationError::Failed)?;
        }
        conn.run_migration(migration.as_ref()).map_err(migration_failed)?;
        if has_new_ids {
            bucket_conversion::hash_nonces(conn, ids).map_err(MigrationError::Failed)?;
        }
        versions.push(version);
    }
    conn.batch_execute(SchemaVersion::UPDATE)?;
    Ok(versions)
}

fn migration_failed(error: Box<dyn std::error::Error + Send + Sync>) -> MigrationError {
    match error.downcast::<diesel::result::Error>() {
        Ok(error) => MigrationError::from(*error),
        Err(error) => MigrationError::Failed(Error::internal(error)),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::ready;

    use super::*;

    #[tokio::test]
    async fn blocked_attempt_is_repeated_until_the_time_limit() {
        let attempts = Cell::new(0);
        let blocked_twice = || {
            attempts.set(attempts.get() + 1);
            ready(if attempts.get() > 2 { Ok(()) } else { Err(MigrationError::Blocked("process 7".into())) })
        };
        retry_while_blocked(BLOCKED_TIMEOUT, blocked_twice).await.unwrap();
        assert_eq!(attempts.get(), 3);
        let always_blocked = || ready(Err::<(), _>(MigrationError::Blocked("process 7".into())));
        let error = retry_while_blocked(RETRY_INTERVAL, always_blocked).await.unwrap_err().to_string();
        assert!(error.ends_with("process 7"), "{error}");
    }

    #[test]
    fn both_engines_have_the_same_migrations() {
        let postgres = known_versions::<diesel::pg::Pg>(POSTGRES_MIGRATIONS).unwrap();
        assert_eq!(postgres, known_versions::<diesel::sqlite::Sqlite>(SQLITE_MIGRATIONS).unwrap());
        assert!(postgres.contains("00000000000001"), "{postgres:?}");
    }
}
