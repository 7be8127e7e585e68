//! Distribution of the tables over the nodes of a Citus cluster.
//!
//! Citus is an extension of PostgreSQL. A table with the column `bucket` becomes a distributed table: Citus splits it
//! into shards by that column, and keeps the shards of equal buckets of all such tables on the same node. The other
//! tables are small and become reference tables, of which each node has a copy. The record of the migrations stays on
//! the coordinator.

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Bool, Text};
use diesel_async::{AsyncConnection, RunQueryDsl, SimpleAsyncConnection};

use crate::error::Error;
use crate::storage::engine::Engine;
use crate::storage::errors::{ConnectFailure, Failure};
use crate::storage::migrations::ADVISORY_LOCK_KEY;
use crate::storage::postgres_endpoint::PgEndpoint;
use crate::storage::session::PostgresConn;

/// The number of shards of each distributed table.
///
/// A shard is the unit that Citus moves to another node, so the cluster has as many useful nodes at most.
pub const SHARD_COUNT: u32 = 32;

/// The settings of the transaction that distributes the tables.
///
/// The foreign keys between tables of both kinds need one connection per node for the whole transaction.
const TRANSACTION_SETTINGS: &str = "SET LOCAL lock_timeout = '3s'; SET LOCAL statement_timeout = 0; \
     SET LOCAL idle_in_transaction_session_timeout = 0; SET LOCAL citus.multi_shard_modify_mode = 'sequential'; \
     SET LOCAL client_min_messages = 'warning'";

/// Selects the tables that are neither distributed nor reference tables, and whether they have buckets.
const LOCAL_TABLES: &str = "SELECT oid::regclass::text AS name, \
     EXISTS (SELECT 1 FROM pg_attribute WHERE attrelid = pg_class.oid AND attname = 'bucket' AND attnum = 1) \
         AS has_buckets \
     FROM pg_class WHERE relkind = 'r' AND relnamespace = current_schema()::regnamespace \
     AND relname <> '__diesel_schema_migrations' \
     AND oid NOT IN (SELECT table_name FROM citus_tables WHERE citus_table_type IN ('distributed', 'reference')) \
     ORDER BY has_buckets, name";

/// Selects the foreign keys of these tables. Citus leaves the tables of its shards out of `pg_class`.
const LOCAL_FOREIGN_KEYS: &str = "SELECT conrelid::regclass::text AS table_name, quote_ident(conname) AS name, \
     pg_get_constraintdef(pg_constraint.oid) AS definition \
     FROM pg_constraint JOIN pg_class ON pg_class.oid = conrelid \
     WHERE contype = 'f' AND relnamespace = current_schema()::regnamespace \
     AND conrelid NOT IN (SELECT table_name FROM citus_tables WHERE citus_table_type IN ('distributed', 'reference')) \
     ORDER BY table_name, name";

/// Selects the table with which the shards of further tables are kept together.
const DISTRIBUTED_TABLE: &str = "SELECT table_name::text AS name, true AS has_buckets FROM citus_tables \
     WHERE citus_table_type = 'distributed' ORDER BY name LIMIT 1";

/// A reason why the tables cannot be distributed.
#[derive(Debug, thiserror::Error)]
pub enum DistributionError {
    /// The database is a SQLite file.
    #[error("--distribute needs a PostgreSQL server with the extension citus, and a SQLite file is on one machine")]
    Sqlite,
    /// The database lacks the extension.
    #[error(
        "--distribute needs the extension citus, which this database lacks; install Citus on all nodes, run CREATE \
         EXTENSION citus in this database of each node, and add the nodes with citus_add_node (see docs/SCALING.md)"
    )]
    NoExtension,
    /// The address is that of a worker.
    #[error("--distribute needs the coordinator of Citus, and this server is one of its workers")]
    Worker,
    /// Other processes use the tables.
    #[error("--distribute needs all tables for itself, and another process uses them; stop all nodes of Parlor first")]
    InUse,
    /// The database cannot be reached, or Citus refused a table.
    #[error(transparent)]
    Failed(Error),
}

impl From<diesel::result::Error> for DistributionError {
    fn from(error: diesel::result::Error) -> Self {
        Self::Failed(Error::internal(error))
    }
}

impl From<ConnectFailure> for DistributionError {
    fn from(error: ConnectFailure) -> Self {
        Self::Failed(Error::internal(error))
    }
}

/// The names of the tables that changed their form.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Distribution {
    /// The tables that were split by bucket.
    pub distributed: Vec<String>,
    /// The tables of which each node has a copy now.
    pub copied: Vec<String>,
}

/// A table, and whether it is to be distributed.
#[derive(QueryableByName)]
struct Table {
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Bool)]
    has_buckets: bool,
}

/// A foreign key, with the SQL that adds it to its table.
#[derive(QueryableByName)]
struct ForeignKey {
    #[diesel(sql_type = Text)]
    table_name: String,
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Text)]
    definition: String,
}

/// The only column of a query.
#[derive(QueryableByName)]
struct Answer {
    #[diesel(sql_type = Bool)]
    answer: bool,
}

/// Checks that the tables of the database can be distributed, without a change.
///
/// # Errors
///
/// Returns an error if the database is not the coordinator of a Citus cluster.
pub async fn check(engine: &Engine) -> Result<(), DistributionError> {
    require_coordinator(&mut postgres(engine)?.connect_without_limits().await?.into_parts().0).await
}

/// Makes every table with a bucket a distributed table, and every other one a reference table.
///
/// It changes all tables or none. Tables that have their form already stay as they are.
///
/// # Errors
///
/// Returns an error if the database is not the coordinator of a Citus cluster, if other processes use the tables, or
/// if Citus refuses a table.
pub async fn distribute(engine: &Engine, shards: u32) -> Result<Distribution, DistributionError> {
    let (mut conn, last_error) = postgres(engine)?.connect_without_limits().await?.into_parts();
    require_coordinator(&mut conn).await?;
    let distribute = conn.transaction(async |conn| change_tables(conn, shards).await);
    let distribution = distribute.await.map_err(|error| match error {
        DistributionError::Failed(_) if Failure::from_sqlstate(&last_error.get()) == Failure::Locked => {
            DistributionError::InUse
        }
        error => error,
    })?;
    empty_local_tables(&mut conn).await?;
    Ok(distribution)
}

fn postgres(engine: &Engine) -> Result<&PgEndpoint, DistributionError> {
    match engine {
        Engine::Sqlite(_) => Err(DistributionError::Sqlite),
        Engine::Postgres(endpoint) => Ok(endpoint),
    }
}

async fn require_coordinator(conn: &mut PostgresConn) -> Result<(), DistributionError> {
    let has_extension = "SELECT EXISTS (SELECT 1 FROM pg_extension WHERE extname = 'citus') AS answer";
    if !ask(conn, has_extension).await? {
        return Err(DistributionError::NoExtension);
    }
    match ask(conn, "SELECT citus_is_coordinator() AS answer").await? {
        true => Ok(()),
        false => Err(DistributionError::Worker),
    }
}

async fn ask(conn: &mut PostgresConn, query: &str) -> QueryResult<bool> {
    Ok(sql_query(query).get_result::<Answer>(conn).await?.answer)
}

async fn change_tables(conn: &mut PostgresConn, shards: u32) -> Result<Distribution, DistributionError> {
    conn.batch_execute(TRANSACTION_SETTINGS).await?;
    // Keeps migrations and other runs of this command away.
    conn.batch_execute(&format!("SELECT pg_advisory_xact_lock({ADVISORY_LOCK_KEY})")).await?;
    let tables: Vec<Table> = sql_query(LOCAL_TABLES).load(conn).await?;
    let keys: Vec<ForeignKey> = sql_query(LOCAL_FOREIGN_KEYS).load(conn).await?;
    let mut distributed: Vec<Table> = sql_query(DISTRIBUTED_TABLE).load(conn).await?;
    // Citus refuses a foreign key while only one of its tables is distributed.
    for ForeignKey { table_name, name, .. } in &keys {
        conn.batch_execute(&format!("ALTER TABLE {table_name} DROP CONSTRAINT {name}")).await?;
    }
    let mut changed = Distribution::default();
    for table in tables {
        let name = &table.name;
        if !table.has_buckets {
            conn.batch_execute(&format!("SELECT create_reference_table('{name}')")).await?;
            changed.copied.push(table.name);
            continue;
        }
        let placement = match distributed.as_slice() {
            [other, ..] => format!("colocate_with => '{}'", other.name),
            [] => format!("colocate_with => 'none', shard_count => {shards}"),
        };
        conn.batch_execute(&format!("SELECT create_distributed_table('{name}', 'bucket', {placement})")).await?;
        changed.distributed.push(name.clone());
        distributed.push(table);
    }
    for ForeignKey { table_name, name, definition } in &keys {
        conn.batch_execute(&format!("ALTER TABLE {table_name} ADD CONSTRAINT {name} {definition}")).await?;
    }
    Ok(changed)
}

/// Empties the tables of the coordinator whose rows are in shards now.
///
/// It also completes a run that ended before.
async fn empty_local_tables(conn: &mut PostgresConn) -> Result<(), DistributionError> {
    conn.batch_execute(
        "SELECT truncate_local_data_after_distributing_table(table_name) FROM citus_tables \
         WHERE citus_table_type IN ('distributed', 'reference')",
    )
    .await?;
    Ok(())
}
