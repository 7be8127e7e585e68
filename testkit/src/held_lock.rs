//! Locks in a database that another process seems to hold.

use diesel::SqliteConnection;
use diesel::connection::SimpleConnection;
use tokio::task::spawn_blocking;
use tokio_postgres::Client;

use crate::database::open_sqlite;
use crate::{Database, Engine};

/// The statement that takes the lock of the migrations on PostgreSQL for a session.
pub const LOCK_MIGRATIONS: &str = "SELECT pg_advisory_lock(88241483829074)";

/// A connection of its own, whose locks last until it is released or dropped.
pub enum HeldLock {
    Sqlite(SqliteConnection),
    Postgres(Client),
}

impl HeldLock {
    /// Takes locks by statements that are spelled differently for the two engines.
    pub async fn take(database: &Database, sqlite: &'static str, postgres: &str) -> Self {
        match database.engine {
            Engine::Sqlite => {
                let path = database.sqlite_path();
                let lock = move || {
                    let mut connection = open_sqlite(&path);
                    connection.batch_execute(sqlite).expect(sqlite);
                    connection
                };
                Self::Sqlite(spawn_blocking(lock).await.expect("no panic"))
            }
            Engine::Postgres => {
                let client = database.postgres_client().await;
                client.batch_execute(postgres).await.expect(postgres);
                Self::Postgres(client)
            }
        }
    }

    /// Commits the transaction that holds the locks.
    pub async fn release(self) {
        match self {
            Self::Sqlite(mut connection) => connection.batch_execute("COMMIT").expect("the lock is released"),
            Self::Postgres(client) => client.batch_execute("COMMIT").await.expect("the lock is released"),
        }
    }
}
