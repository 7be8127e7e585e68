//! The two database engines, and which of them a run can use.

use std::env;
use std::path::Path;

use clap::ValueEnum;
use testkit::Database;
use testkit::database::connect_postgres;
use testkit::postgres::PostgresServer;

use crate::tools::Result;

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Choice {
    Sqlite,
    Postgres,
    Both,
}

pub enum Engine {
    Sqlite,
    /// The server at `PARLOR_TEST_POSTGRES`, by its address.
    Postgres(String),
    PrivatePostgres(PostgresServer),
}

impl Engine {
    /// Returns the engines to run on. An engine that was asked for must be available; another is left out with a note.
    pub async fn chosen(choice: Option<Choice>) -> Result<Vec<Self>> {
        let mut engines = Vec::new();
        if choice != Some(Choice::Postgres) {
            engines.push(Self::Sqlite);
        }
        if choice != Some(Choice::Sqlite) {
            match Self::postgres().await {
                Ok(engine) => engines.push(engine),
                Err(error) if choice.is_none() => println!("- PostgreSQL left out: {error}"),
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
            Err(_) => Err("no initdb found in the PATH or in the usual folder".into()),
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

    /// Describes the settings that the figures depend on.
    pub async fn describe(&self) -> Result<String> {
        let Some(url) = self.postgres_url() else {
            return Ok("SQLite, as the server sets it: WAL, synchronous=FULL".into());
        };
        let client = connect_postgres(url).await?;
        let mut settings = Vec::new();
        for name in ["server_version", "fsync", "synchronous_commit", "shared_buffers"] {
            let row = client.query_one(&format!("SHOW {name}"), &[]).await?;
            settings.push(format!("{name}={}", row.get::<_, String>(0)));
        }
        let server = match self {
            Self::PrivatePostgres(_) => "a private server with its defaults",
            _ => "the server at PARLOR_TEST_POSTGRES",
        };
        let warning = match settings.contains(&"fsync=off".into()) {
            true => " **Without fsync its figures don't compare with anything durable.**",
            false => "",
        };
        Ok(format!("PostgreSQL, {server}: {}{warning}", settings.join(", ")))
    }

    /// Runs a measurement on an empty database and in an empty folder, which are removed after it.
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

    pub async fn close(self) {
        if let Self::PrivatePostgres(server) = self {
            server.stop().await;
        }
    }
}
