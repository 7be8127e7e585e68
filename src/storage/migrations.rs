//! Brings a database to this version of the server. Paired by name in `migrations/`.

use diesel::migration::MigrationVersion;
use diesel_async::pooled_connection::deadpool::Pool;
use diesel_async::{AsyncMigrationHarness, RunQueryDsl, SimpleAsyncConnection};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

use crate::error::{Error, Result};
use crate::storage::connection::Postgres;
use crate::storage::pool::Store;
use crate::storage::search;

const POSTGRES: EmbeddedMigrations = embed_migrations!("migrations/postgres");
const SQLITE: EmbeddedMigrations = embed_migrations!("migrations/sqlite");

/// The key of the advisory lock under which servers that start together migrate one by one.
const LOCK: i64 = 0x5041_524c_4f52;

/// Runs the migrations that the database lacks and tells their names.
pub async fn run(store: &Store) -> Result<Vec<String>> {
    match store {
        Store::Postgres(pool) => run_postgres(store, pool).await,
        Store::Sqlite { writer, .. } => {
            let conn = writer.get().await.map_err(Error::internal)?;
            let mut harness = AsyncMigrationHarness::new(conn);
            let versions = names(&harness.run_pending_migrations(SQLITE).map_err(Error::internal)?);
            // There is one connection that writes.
            drop(harness);
            fill_search(store).await?;
            Ok(versions)
        }
    }
}

async fn run_postgres(store: &Store, pool: &Pool<Postgres>) -> Result<Vec<String>> {
    let mut conn = pool.get().await.map_err(Error::internal)?;
    diesel::sql_query(format!("SELECT pg_advisory_lock({LOCK})")).execute(&mut conn).await?;
    let mut harness = AsyncMigrationHarness::new(conn);
    let versions = harness.run_pending_migrations(POSTGRES).map(|versions| names(&versions)).map_err(Error::internal);
    let mut conn = harness.into_inner();
    let filled = if versions.is_ok() { fill_search(store).await } else { Ok(()) };
    conn.batch_execute(&format!("SELECT pg_advisory_unlock({LOCK})")).await?;
    filled.and(versions)
}

fn names(versions: &[MigrationVersion<'_>]) -> Vec<String> {
    versions.iter().map(ToString::to_string).collect()
}

/// Makes messages of before the full-text index findable, once.
async fn fill_search(store: &Store) -> Result<()> {
    let indexed = store.write().await?.transaction(async |conn| search::fill(conn).await).await?;
    if indexed > 0 {
        tracing::info!(messages = indexed, "filled the full-text index");
    }
    Ok(())
}
