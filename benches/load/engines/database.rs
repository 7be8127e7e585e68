//! A database of a run's own, reached past the server: to fill it, to count in it, to drop it.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process;

use diesel::connection::SimpleConnection;
use diesel::sql_types::BigInt;
use diesel::{Connection, QueryableByName, RunQueryDsl, SqliteConnection};
use reqwest::Url;
use tokio::task::spawn_blocking;
use tokio_postgres::{Client, NoTls};

use crate::tools::{PATIENCE, Result, within};

/// What the server sets on each of its connections.
const SQLITE_PRAGMAS: &str = "PRAGMA busy_timeout=5000; PRAGMA journal_mode=WAL; \
    PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON; PRAGMA cache_size=-16000; \
    PRAGMA mmap_size=268435456; PRAGMA temp_store=MEMORY;";

pub enum Database {
    Sqlite(PathBuf),
    Postgres { admin: Url, name: String },
}

impl Database {
    /// The file is made by who opens it first.
    pub fn sqlite(path: PathBuf) -> Self {
        Self::Sqlite(path)
    }

    pub async fn postgres(admin: &Url, name: &str) -> Result<Self> {
        let name = format!("parlor_load_{}_{name}", process::id());
        connect(admin).await?.batch_execute(&format!("CREATE DATABASE {name}")).await?;
        Ok(Self::Postgres { admin: admin.clone(), name })
    }

    /// As `DATABASE_URL` has it.
    pub fn url(&self) -> String {
        match self {
            Self::Sqlite(path) => format!("sqlite://{}", path.display()),
            Self::Postgres { admin, name } => {
                let mut url = admin.clone();
                url.set_path(name);
                url.into()
            }
        }
    }

    /// Runs statements, which may have to be spelled differently for the two engines.
    pub async fn execute(&self, sqlite: String, postgres: String) -> Result<()> {
        match self {
            Self::Sqlite(path) => {
                let path = path.clone();
                spawn_blocking(move || Ok(open(&path)?.batch_execute(&sqlite)?)).await?
            }
            Self::Postgres { .. } => Ok(self.client().await?.batch_execute(&postgres).await?),
        }
    }

    /// Lets PostgreSQL do now what it would do by itself after so many new rows.
    pub async fn settle(&self) -> Result<()> {
        self.execute(String::new(), "VACUUM ANALYZE".into()).await
    }

    /// The one number that a query gives.
    pub async fn number(&self, query: &str) -> Result<i64> {
        #[derive(QueryableByName)]
        struct Row {
            #[diesel(sql_type = BigInt)]
            number: i64,
        }
        let query = format!("SELECT CAST(({query}) AS BIGINT) AS number");
        match self {
            Self::Sqlite(path) => {
                let path = path.clone();
                let load = move || Ok(diesel::sql_query(query).get_result::<Row>(&mut open(&path)?)?);
                spawn_blocking(load).await?.map(|row| row.number)
            }
            Self::Postgres { .. } => Ok(self.client().await?.query_one(&query, &[]).await?.get(0)),
        }
    }

    /// A connection to a PostgreSQL database.
    pub async fn client(&self) -> Result<Client> {
        connect(&Url::parse(&self.url())?).await
    }

    /// Leaves nothing of it behind.
    pub async fn drop(self) -> Result<()> {
        match self {
            // Its folder goes, and it with it.
            Self::Sqlite(_) => Ok(()),
            Self::Postgres { admin, name } => {
                let drop = format!("DROP DATABASE {name} WITH (FORCE)");
                Ok(connect(&admin).await?.batch_execute(&drop).await?)
            }
        }
    }
}

/// A connection to an SQLite file, set as the server sets its own.
pub fn open(path: &Path) -> Result<SqliteConnection> {
    let path = path.to_str().ok_or("the folder's name is not UTF-8")?;
    let mut connection = SqliteConnection::establish(path)?;
    connection.batch_execute(SQLITE_PRAGMAS)?;
    Ok(connection)
}

pub async fn connect(url: &Url) -> Result<Client> {
    within(PATIENCE, "connecting to PostgreSQL", async {
        // What it says of itself is less than what it says of its cause.
        let refused = |error: tokio_postgres::Error| error.source().map_or(error.to_string(), ToString::to_string);
        let (client, connection) = tokio_postgres::connect(url.as_str(), NoTls).await.map_err(refused)?;
        // Ends when the client is dropped.
        tokio::spawn(connection);
        Ok(client)
    })
    .await
}
