//! Databases: an SQLite file, or a database of a PostgreSQL server, each of one test's own.

use std::env;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

use diesel::connection::SimpleConnection;
use diesel::sql_types::BigInt;
use diesel::{Connection, QueryableByName, RunQueryDsl, SqliteConnection};
use tempfile::TempDir;
use tokio::task::spawn_blocking;
use tokio_postgres::{Client, NoTls};

const POSTGRES: &str = "PARLOR_TEST_POSTGRES";
const REQUIRE_POSTGRES: &str = "PARLOR_TEST_REQUIRE_POSTGRES";

/// What the server sets on each of its connections to SQLite.
const SQLITE_PRAGMAS: &str = "PRAGMA busy_timeout=5000; PRAGMA journal_mode=WAL; \
    PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON; PRAGMA cache_size=-16000; \
    PRAGMA mmap_size=268435456; PRAGMA temp_store=MEMORY;";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    Sqlite,
    Postgres,
}

pub struct Database {
    pub engine: Engine,
    pub url: String,
    location: Location,
}

enum Location {
    /// A file in a folder of its own.
    File(TempDir),
    Server {
        /// The address of a database in which databases can be created.
        admin: String,
        name: String,
    },
}

impl Database {
    /// Creates an empty database. On PostgreSQL, in the server at `PARLOR_TEST_POSTGRES`.
    pub async fn create(engine: Engine) -> Self {
        match engine {
            Engine::Sqlite => Self::create_sqlite(),
            Engine::Postgres => Self::create_postgres(&postgres_url()).await,
        }
    }

    pub fn create_sqlite() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let url = format!("sqlite://{}", file(&folder).display());
        Self { engine: Engine::Sqlite, url, location: Location::File(folder) }
    }

    /// Creates a database in the server at this address.
    pub async fn create_postgres(admin: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("parlor_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        execute_postgres(admin, &format!("CREATE DATABASE {name}")).await;
        let (base, _) = admin.rsplit_once('/').expect("an address with a database");
        let url = format!("{base}/{name}");
        Self { engine: Engine::Postgres, url, location: Location::Server { admin: admin.into(), name } }
    }

    /// Executes SQL on a connection of its own.
    pub async fn execute(&self, sql: &str) {
        match &self.location {
            Location::File(folder) => {
                let (path, sql) = (file(folder), sql.to_owned());
                let execute = move || open_sqlite(&path).batch_execute(&sql).expect(&sql);
                spawn_blocking(execute).await.expect("SQL that is executed");
            }
            Location::Server { .. } => execute_postgres(&self.url, sql).await,
        }
    }

    /// Executes SQL that is spelled differently for the two engines.
    pub async fn execute_by_engine(&self, sqlite: &str, postgres: &str) {
        match self.engine {
            Engine::Sqlite => self.execute(sqlite).await,
            Engine::Postgres => self.execute(postgres).await,
        }
    }

    /// Returns the one number that a query selects.
    pub async fn query_number(&self, query: &str) -> i64 {
        #[derive(QueryableByName)]
        struct Row {
            #[diesel(sql_type = BigInt)]
            number: i64,
        }
        let query = format!("SELECT CAST(({query}) AS BIGINT) AS number");
        match &self.location {
            Location::File(folder) => {
                let path = file(folder);
                let load = move || diesel::sql_query(&query).get_result::<Row>(&mut open_sqlite(&path)).expect(&query);
                spawn_blocking(load).await.expect("a query that is executed").number
            }
            Location::Server { .. } => self.postgres_client().await.query_one(&query, &[]).await.expect(&query).get(0),
        }
    }

    /// The path of an SQLite database.
    pub fn sqlite_path(&self) -> PathBuf {
        let Location::File(folder) = &self.location else { panic!("PostgreSQL has no file") };
        file(folder)
    }

    /// A connection to a PostgreSQL database.
    pub async fn postgres_client(&self) -> Client {
        connect_postgres(&self.url).await.expect("PostgreSQL answers")
    }

    /// Refuses new connections to a PostgreSQL database, and ends those that are open.
    pub async fn block_connections(&self) {
        let Location::Server { admin, name } = &self.location else { panic!("a file can't be closed") };
        execute_postgres(admin, &format!("ALTER DATABASE {name} ALLOW_CONNECTIONS false")).await;
        let end = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'");
        execute_postgres(admin, &end).await;
    }

    pub async fn allow_connections(&self) {
        let Location::Server { admin, name } = &self.location else { panic!("a file can't be closed") };
        execute_postgres(admin, &format!("ALTER DATABASE {name} ALLOW_CONNECTIONS true")).await;
    }

    pub async fn drop(self) {
        match self.location {
            Location::File(folder) => folder.close().expect("the folder can be removed"),
            Location::Server { admin, name } => {
                execute_postgres(&admin, &format!("DROP DATABASE {name} WITH (FORCE)")).await;
            }
        }
    }
}

/// Returns whether tests on PostgreSQL can run: whether `PARLOR_TEST_POSTGRES` is set.
///
/// Otherwise such tests are skipped, with one message for the whole run.
///
/// # Panics
///
/// Panics where PostgreSQL is missing and `PARLOR_TEST_REQUIRE_POSTGRES` is set, as `tests/run` sets it.
pub fn postgres_is_available() -> bool {
    static TOLD: Once = Once::new();
    let is_available = env::var_os(POSTGRES).is_some();
    assert!(is_available || env::var_os(REQUIRE_POSTGRES).is_none(), "{POSTGRES} is not set");
    if !is_available {
        TOLD.call_once(|| {
            // The harness captures what is printed in the usual way.
            let message = format!("{POSTGRES} is not set: tests on PostgreSQL are skipped (tests/run runs them)\n");
            std::io::stderr().write_all(message.as_bytes()).ok();
        });
    }
    is_available
}

/// Returns the address of the PostgreSQL server of this test run.
pub fn postgres_url() -> String {
    env::var(POSTGRES).unwrap_or_else(|_| panic!("{POSTGRES} is not set: tests/run starts a server and sets it"))
}

/// Connects to PostgreSQL, without TLS. The connection ends when the client is dropped.
pub async fn connect_postgres(url: &str) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// Opens an SQLite file with the settings of the server's own connections.
pub fn open_sqlite(path: &Path) -> SqliteConnection {
    let mut connection = SqliteConnection::establish(&path.to_string_lossy()).expect("the file opens");
    connection.batch_execute(SQLITE_PRAGMAS).expect("the settings are known");
    connection
}

async fn execute_postgres(url: &str, sql: &str) {
    let client = connect_postgres(url).await.expect("PostgreSQL answers");
    client.batch_execute(sql).await.expect(sql);
}

fn file(folder: &TempDir) -> PathBuf {
    folder.path().join("parlor.db")
}
