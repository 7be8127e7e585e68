//! Migrations of the database's schema, which are paired by name in `migrations/`.

use diesel::migration::MigrationVersion;
use diesel_async::pooled_connection::deadpool::Pool;
use diesel_async::{AsyncMigrationHarness, RunQueryDsl, SimpleAsyncConnection};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

use crate::error::{Error, Result};
use crate::storage::connection::PostgresConn;
use crate::storage::pool::Database;
use crate::storage::search_index;

const POSTGRES_MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations/postgres");
const SQLITE_MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations/sqlite");

/// The key of PostgreSQL's advisory lock that makes servers which start together migrate one by one.
const ADVISORY_LOCK_KEY: i64 = 0x5041_524c_4f52;

/// Runs the pending migrations and returns their versions.
///
/// # Errors
///
/// Returns an error if the database cannot be reached or a migration fails.
pub async fn run(database: &Database) -> Result<Vec<String>> {
    match database {
        Database::Postgres(pool) => run_postgres(database, pool).await,
        Database::Sqlite { writer, .. } => {
            let conn = writer.get().await.map_err(Error::internal)?;
            let mut harness = AsyncMigrationHarness::new(conn);
            let versions = version_names(&harness.run_pending_migrations(SQLITE_MIGRATIONS).map_err(Error::internal)?);
            // The rebuild needs the only connection that writes.
            drop(harness);
            rebuild_search_index(database).await?;
            Ok(versions)
        }
    }
}

async fn run_postgres(database: &Database, pool: &Pool<PostgresConn>) -> Result<Vec<String>> {
    let mut conn = pool.get().await.map_err(Error::internal)?;
    diesel::sql_query(format!("SELECT pg_advisory_lock({ADVISORY_LOCK_KEY})")).execute(&mut conn).await?;
    let mut harness = AsyncMigrationHarness::new(conn);
    let versions = harness
        .run_pending_migrations(POSTGRES_MIGRATIONS)
        .map(|versions| version_names(&versions))
        .map_err(Error::internal);
    let mut conn = harness.into_inner();
    let rebuilt = if versions.is_ok() { rebuild_search_index(database).await } else { Ok(()) };
    conn.batch_execute(&format!("SELECT pg_advisory_unlock({ADVISORY_LOCK_KEY})")).await?;
    rebuilt.and(versions)
}

fn version_names(versions: &[MigrationVersion<'_>]) -> Vec<String> {
    versions.iter().map(ToString::to_string).collect()
}

/// Adds the messages that are older than the full-text index to it, if it is empty.
async fn rebuild_search_index(database: &Database) -> Result<()> {
    let indexed = database.write().await?.transaction(async |conn| search_index::rebuild(conn).await).await?;
    if indexed > 0 {
        tracing::info!(messages = indexed, "rebuilt the full-text index");
    }
    Ok(())
}
