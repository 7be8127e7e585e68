//! Brings a database to this version of the server. Paired by name in `migrations/`.

use diesel::migration::MigrationVersion;
use diesel_async::pooled_connection::deadpool::Pool;
use diesel_async::{AsyncMigrationHarness, RunQueryDsl, SimpleAsyncConnection};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

use crate::error::{Error, Result};
use crate::storage::connection::PostgresConn;
use crate::storage::pool::Database;
use crate::storage::search;

const POSTGRES_MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations/postgres");
const SQLITE_MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations/sqlite");

/// The key of the advisory lock under which servers that start together migrate one by one.
const ADVISORY_LOCK_KEY: i64 = 0x5041_524c_4f52;

/// Runs the migrations that the database lacks and tells their names.
pub async fn run(store: &Database) -> Result<Vec<String>> {
    match store {
        Database::Postgres(pool) => run_postgres(store, pool).await,
        Database::Sqlite { writer, .. } => {
            let conn = writer.get().await.map_err(Error::internal)?;
            let mut harness = AsyncMigrationHarness::new(conn);
            let versions = version_names(&harness.run_pending_migrations(SQLITE_MIGRATIONS).map_err(Error::internal)?);
            // There is one connection that writes.
            drop(harness);
            rebuild_search(store).await?;
            Ok(versions)
        }
    }
}

async fn run_postgres(store: &Database, pool: &Pool<PostgresConn>) -> Result<Vec<String>> {
    let mut conn = pool.get().await.map_err(Error::internal)?;
    diesel::sql_query(format!("SELECT pg_advisory_lock({ADVISORY_LOCK_KEY})")).execute(&mut conn).await?;
    let mut harness = AsyncMigrationHarness::new(conn);
    let versions = harness
        .run_pending_migrations(POSTGRES_MIGRATIONS)
        .map(|versions| version_names(&versions))
        .map_err(Error::internal);
    let mut conn = harness.into_inner();
    let filled = if versions.is_ok() { rebuild_search(store).await } else { Ok(()) };
    conn.batch_execute(&format!("SELECT pg_advisory_unlock({ADVISORY_LOCK_KEY})")).await?;
    filled.and(versions)
}

fn version_names(versions: &[MigrationVersion<'_>]) -> Vec<String> {
    versions.iter().map(ToString::to_string).collect()
}

/// Makes messages of before the full-text index findable, once.
async fn rebuild_search(store: &Database) -> Result<()> {
    let indexed = store.write().await?.transaction(async |conn| search::rebuild(conn).await).await?;
    if indexed > 0 {
        tracing::info!(messages = indexed, "filled the full-text index");
    }
    Ok(())
}
