//! The database engines of a run.

use std::env;
use std::path::Path;

use clap::ValueEnum;
use testkit::Database;
use testkit::database::connect_postgres;
use testkit::postgres::PostgresServer;

use crate::tools::Result;

/// The engines that the command line selects.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Choice {
    Sqlite,
    Postgres,
    Both,
}

/// A database engine that a run can use.
pub enum Engine {
    Sqlite,
    /// The server at `PARLOR_TEST_POSTGRES`, by its URL.
    Postgres(String),
    PrivatePostgres(PostgresServer),
}

impl Engine {
    /// Returns the engines to run on.
    ///
    /// An engine that the command line selects must be available. Without a selection, PostgreSQL is skipped with a
    /// note if it is not available.
    pub async fn select(choice: Option<Choice>) -> Result<Vec<Self>> {
        let mut engines = Vec::new();
        if choice != Some(Choice::Postgres) {
            engines.push(Self::Sqlite);
        }
        if choice != Some(Choice::Sqlite) {
            match Self::postgres().await {
                Ok(engine) => engines.push(engine),
                Err(error) if choice.is_none() => println!("- PostgreSQL is skipped: {error}"),
                Err(error) => return Err(error),
            }
        }
        Ok(engines)
    }

    async fn postgres() -> Result<Self> {
        match env::var("PARLOR_TEST_POSTGRES") {
            Ok(url) => {
                connect_postgres(&url).await.map_err(|error| format!("PARLOR_TEST_POSTGRES: {error}"))?;
                Ok(Self::Postgres(url))
            }
            Err(_) if PostgresServer::is_installed() => Ok(Self::PrivatePostgres(PostgresServer::start().await)),
            Err(_) => Err("no initdb in the PATH or below /usr/lib/postgresql".into()),
        }
    }

    pub fn name(&self) -> &'static str {
        if self.is_postgres() { "PostgreSQL" } else { "SQLite" }
    }

    pub fn is_postgres(&self) -> bool {
        self.postgres_url().is_some()
    }

    fn postgres_url(&self) -> Option<&str> {
        match self {
            Self::Sqlite => None,
            Self::Postgres(url) => Some(url),
            Self::PrivatePostgres(server) => Some(server.url()),
        }
    }

    /// Describes the settings that affect the measurements.
    pub async fn describe(&self) -> Result<String> {
        let Some(url) = self.postgres_url() else {
            return Ok("SQLite with the server's pragmas: WAL, synchronous=FULL".into());
        };
        let client = connect_postgres(url).await?;
        let mut settings = Vec::new();
        for name in ["server_version", "fsync", "synchronous_commit", "shared_buffers"] {
            let row = client.query_one(&format!("SHOW {name}"), &[]).await?;
            settings.push(format!("{name}={}", row.get::<_, String>(0)));
        }
        let server = match self {
            Self::PrivatePostgres(_) => "a private server with default settings",
            _ => "the server at PARLOR_TEST_POSTGRES",
        };
        let warning = match settings.contains(&"fsync=off".into()) {
            true => " **Without fsync, the figures are not comparable with those of durable commits.**",
            false => "",
        };
        Ok(format!("PostgreSQL, {server}: {}{warning}", settings.join(", ")))
    }

    /// Runs a measurement with an empty database and an empty folder, and removes both afterwards.
    pub async fn with_database(&self, work: impl AsyncFnOnce(&Database, &Path) -> Result<()>) -> Result<()> {
        let folder = tempfile::tempdir()?;
        let database = self.database().await;
        let result = work(&database, folder.path()).await;
        database.drop().await;
        result
    }

    /// Creates an empty database.
    pub async fn database(&self) -> Database {
        match self.postgres_url() {
            None => Database::create_sqlite(),
            Some(url) => Database::create_postgres(url).await,
        }
    }

    /// Stops a private server.
    pub async fn close(self) {
        if let Self::PrivatePostgres(server) = self {
            server.stop().await;
        }
    }
}
