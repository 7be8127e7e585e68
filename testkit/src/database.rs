//! The database of one test: an SQLite file, or a database in a PostgreSQL server.

use std::env;
use std::ffi::OsString;
use std::io::Write as _;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

use diesel::connection::SimpleConnection;
use diesel::sql_types::{BigInt, Text};
use diesel::{Connection, QueryableByName, RunQueryDsl, SqliteConnection};
use serde_json::Value;
use tempfile::TempDir;
use tokio::task::spawn_blocking;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use crate::citus;

const POSTGRES: &str = "PARLOR_TEST_POSTGRES";
const REQUIRE_POSTGRES: &str = "PARLOR_TEST_REQUIRE_POSTGRES";
/// Names the program of another version of Parlor that migrates each new database, so that the tests run on its schema.
const MIGRATE_WITH: &str = "PARLOR_TEST_MIGRATE_WITH";

/// The pragmas that the server sets on each of its SQLite connections.
const SQLITE_PRAGMAS: &str = "PRAGMA busy_timeout=5000; PRAGMA journal_mode=WAL; \
    PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON; PRAGMA cache_size=-16000; \
    PRAGMA mmap_size=268435456; PRAGMA temp_store=MEMORY;";

/// A database engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    Sqlite,
    Postgres,
}

/// A database, which is removed by [`Self::drop`].
pub struct Database {
    pub engine: Engine,
    pub url: String,
    location: Location,
}

enum Location {
    /// A file in its own folder.
    File(TempDir),
    Server {
        /// The URL of a database whose user can create databases.
        admin: String,
        name: String,
        /// The same for each worker of a Citus cluster, whose coordinator the server is.
        workers: Vec<String>,
    },
}

impl Database {
    /// Creates an empty database; on PostgreSQL, in the server at `PARLOR_TEST_POSTGRES`.
    ///
    /// With `PARLOR_TEST_CITUS` it has distributed tables instead (see [`crate::citus`]).
    pub async fn create(engine: Engine) -> Self {
        let database = match (engine, citus::coordinator_url()) {
            (Engine::Sqlite, _) => Self::create_sqlite(),
            (Engine::Postgres, None) => Self::create_postgres(&postgres_url()).await,
            (Engine::Postgres, Some(coordinator)) => {
                let database = Self::create_on_citus(&coordinator).await;
                citus::migrate_and_distribute(&database.url).await;
                database
            }
        };
        if let Some(program) = env::var_os(MIGRATE_WITH) {
            migrate_with(program, database.url.clone()).await;
        }
        database
    }

    /// Creates a folder for an SQLite database.
    pub fn create_sqlite() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let url = format!("sqlite://{}", file(&folder).display());
        Self { engine: Engine::Sqlite, url, location: Location::File(folder) }
    }

    /// Creates a database in the PostgreSQL server at this URL.
    pub async fn create_postgres(admin: &str) -> Self {
        Self::create_in_servers(admin, Vec::new()).await
    }

    /// Creates an empty database in the coordinator and in the workers of a Citus cluster.
    pub async fn create_on_citus(coordinator: &str) -> Self {
        let workers = citus::worker_urls(coordinator).await;
        let database = Self::create_in_servers(coordinator, workers.clone()).await;
        let name = database.url.rsplit_once('/').expect("a URL with a database").1;
        let workers: Vec<_> = workers.iter().map(|worker| sibling(worker, name)).collect();
        citus::connect_nodes(&database.url, &workers).await;
        database
    }

    async fn create_in_servers(admin: &str, workers: Vec<String>) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("parlor_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        for server in workers.iter().map(String::as_str).chain([admin]) {
            execute_postgres(server, &format!("CREATE DATABASE {name}")).await;
        }
        let url = sibling(admin, &name);
        Self { engine: Engine::Postgres, url, location: Location::Server { admin: admin.into(), name, workers } }
    }

    /// Executes SQL on a new connection.
    pub async fn execute(&self, sql: &str) {
        match &self.location {
            Location::File(folder) => {
                let (path, sql) = (file(folder), sql.to_owned());
                let execute = move || open_sqlite(&path).batch_execute(&sql).expect(&sql);
                spawn_blocking(execute).await.expect("no panic");
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

    /// Adds the row by which a migration makes the next server index all messages again.
    pub async fn start_reindexing(&self) {
        let nil = ["zeroblob(16)", "'00000000-0000-0000-0000-000000000000'"];
        let [sqlite, postgres] =
            nil.map(|nil| format!("INSERT INTO search_reindexing (id, bucket, chat_id, seq) VALUES (1, 0, {nil}, 0)"));
        self.execute_by_engine(&sqlite, &postgres).await;
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
                spawn_blocking(load).await.expect("no panic").number
            }
            Location::Server { .. } => self.postgres_client().await.query_one(&query, &[]).await.expect(&query).get(0),
        }
    }

    /// Returns the texts in the column `line` that a query selects.
    pub async fn query_lines(&self, query: &str) -> Vec<String> {
        #[derive(QueryableByName)]
        struct Row {
            #[diesel(sql_type = Text)]
            line: String,
        }
        match &self.location {
            Location::File(folder) => {
                let (path, query) = (file(folder), query.to_owned());
                let load = move || diesel::sql_query(&query).load::<Row>(&mut open_sqlite(&path)).expect(&query);
                spawn_blocking(load).await.expect("no panic").into_iter().map(|row| row.line).collect()
            }
            Location::Server { .. } => {
                let rows = self.postgres_client().await.query(query, &[]).await.expect(query);
                rows.iter().map(|row| row.get("line")).collect()
            }
        }
    }

    /// Returns the path of an SQLite database.
    pub fn sqlite_path(&self) -> PathBuf {
        let Location::File(folder) = &self.location else { panic!("PostgreSQL has no file") };
        file(folder)
    }

    /// Opens a connection to a PostgreSQL database.
    pub async fn postgres_client(&self) -> Client {
        connect_postgres(&self.url).await.expect("PostgreSQL answers")
    }

    /// Returns the address of the PostgreSQL server.
    pub fn postgres_addr(&self) -> SocketAddr {
        let (_, server) = self.url.rsplit_once('@').expect("a URL with a user");
        let (host, _) = server.split_once('/').expect("a URL with a database");
        host.to_socket_addrs().expect("a host and a port").next().expect("an address")
    }

    /// Returns the URL of a PostgreSQL database by another address of its server, without TLS.
    pub fn url_at(&self, addr: SocketAddr) -> String {
        let (user, server) = self.url.rsplit_once('@').expect("a URL with a user");
        let (_, name) = server.split_once('/').expect("a URL with a database");
        format!("{user}@{addr}/{name}?sslmode=disable")
    }

    /// Refuses new connections to a PostgreSQL database, and ends those that are open.
    pub async fn block_connections(&self) {
        self.alter("ALLOW_CONNECTIONS false").await;
    }

    /// Makes a PostgreSQL database read-only or writable by default, and ends its connections.
    pub async fn set_read_only(&self, is_read_only: bool) {
        self.alter(&format!("SET default_transaction_read_only = {is_read_only}")).await;
    }

    /// Changes a PostgreSQL database, and ends its connections.
    async fn alter(&self, change: &str) {
        let Location::Server { admin, name, .. } = &self.location else { panic!("SQLite has no connections to end") };
        execute_postgres(admin, &format!("ALTER DATABASE {name} {change}")).await;
        let end = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'");
        execute_postgres(admin, &end).await;
    }

    /// Accepts connections again after [`Self::block_connections`].
    pub async fn allow_connections(&self) {
        let Location::Server { admin, name, .. } = &self.location else { panic!("SQLite has no connections to block") };
        execute_postgres(admin, &format!("ALTER DATABASE {name} ALLOW_CONNECTIONS true")).await;
    }

    /// Removes the database.
    pub async fn drop(self) {
        match self.location {
            Location::File(folder) => folder.close().expect("the folder can be removed"),
            Location::Server { admin, name, workers } => {
                for server in [admin].iter().chain(&workers) {
                    execute_postgres(server, &format!("DROP DATABASE {name} WITH (FORCE)")).await;
                }
            }
        }
    }
}

/// Migrates a database by the program of another version of Parlor.
async fn migrate_with(program: OsString, url: String) {
    let migrate = move || {
        let path = env::var_os("PATH").unwrap_or_default();
        Command::new(program).arg("migrate").env_clear().env("PATH", path).env("DATABASE_URL", url).output()
    };
    let output = spawn_blocking(migrate).await.expect("no panic").expect("the program runs");
    assert!(output.status.success(), "{MIGRATE_WITH}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Returns true if `PARLOR_TEST_POSTGRES` or `PARLOR_TEST_CITUS` is set, so that tests on PostgreSQL can run.
///
/// Otherwise such tests are skipped, with one message for the whole run.
///
/// # Panics
///
/// Panics if `PARLOR_TEST_POSTGRES` is not set but `PARLOR_TEST_REQUIRE_POSTGRES` is; `tests/run` sets both.
pub fn postgres_is_available() -> bool {
    static NOTICE: Once = Once::new();
    let is_available = env::var_os(POSTGRES).is_some() || citus::coordinator_url().is_some();
    assert!(is_available || env::var_os(REQUIRE_POSTGRES).is_none(), "{POSTGRES} is not set");
    if !is_available {
        NOTICE.call_once(|| {
            // The test harness captures `eprintln!`, but not a direct write.
            let message = format!("{POSTGRES} is not set: tests on PostgreSQL are skipped (tests/run runs them)\n");
            std::io::stderr().write_all(message.as_bytes()).ok();
        });
    }
    is_available
}

/// Returns the URL of this test run's PostgreSQL server.
pub fn postgres_url() -> String {
    env::var(POSTGRES).unwrap_or_else(|_| panic!("{POSTGRES} is not set: tests/run starts a server and sets it"))
}

/// Connects to PostgreSQL, without TLS. The connection ends when the client is dropped.
pub async fn connect_postgres(url: &str) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// Returns the plan of a statement on PostgreSQL; `options` are those of `EXPLAIN`.
pub async fn explain_postgres(client: &Client, options: &str, statement: &str) -> Value {
    let explain = format!("EXPLAIN ({options}, FORMAT JSON) {statement}");
    let rows = client.simple_query(&explain).await.unwrap_or_else(|error| panic!("{error:?}: {explain}"));
    let row = rows.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    });
    let plans: Value = serde_json::from_str(row.expect("a plan")).expect("JSON");
    plans[0]["Plan"].clone()
}

/// Opens an SQLite file with the server's pragmas.
pub fn open_sqlite(path: &Path) -> SqliteConnection {
    let mut connection = SqliteConnection::establish(&path.to_string_lossy()).expect("the file opens");
    connection.batch_execute(SQLITE_PRAGMAS).expect("valid pragmas");
    connection
}

async fn execute_postgres(url: &str, sql: &str) {
    let client = connect_postgres(url).await.expect("PostgreSQL answers");
    client.batch_execute(sql).await.expect(sql);
}

/// Returns the URL of another database of the same server.
fn sibling(url: &str, name: &str) -> String {
    let (server, _) = url.rsplit_once('/').expect("a URL with a database");
    format!("{server}/{name}")
}

fn file(folder: &TempDir) -> PathBuf {
    folder.path().join("parlor.db")
}
