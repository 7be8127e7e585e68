//! The two database engines, and which of them a run can use.

mod cluster;
mod database;

use std::env;
use std::path::Path;

use clap::ValueEnum;
use tempfile::tempdir;

use crate::tools::Result;
use cluster::Cluster;
pub use database::{Database, open};

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Choice {
    Sqlite,
    Postgres,
    Both,
}

pub enum Engine {
    Sqlite,
    Postgres(Cluster),
}

impl Engine {
    /// The engines to run on. One that was asked for must be there; else it is left out, and said so.
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
        let cluster = match env::var("PARLOR_TEST_POSTGRES") {
            Ok(url) => Cluster::at(&url).await?,
            Err(_) => Cluster::private().await?,
        };
        Ok(Self::Postgres(cluster))
    }

    pub fn name(&self) -> &'static str {
        match self {
            Self::Sqlite => "SQLite",
            Self::Postgres(_) => "PostgreSQL",
        }
    }

    /// What of its settings the figures depend on.
    pub async fn describe(&self) -> Result<String> {
        match self {
            Self::Sqlite => Ok("SQLite, as the server sets it: WAL, synchronous=FULL".into()),
            Self::Postgres(cluster) => cluster.describe().await,
        }
    }

    /// Does some work on an empty database and in an empty folder, which are gone after it.
    pub async fn with_database(
        &self,
        name: &str,
        work: impl AsyncFnOnce(&Database, &Path) -> Result<()>,
    ) -> Result<()> {
        let folder = tempdir()?;
        let database = self.database(folder.path(), name).await?;
        let result = work(&database, folder.path()).await;
        database.drop().await?;
        result
    }

    /// An empty database of its own: a file in `folder`, or one of the cluster.
    pub async fn database(&self, folder: &Path, name: &str) -> Result<Database> {
        match self {
            Self::Sqlite => Ok(Database::sqlite(folder.join(format!("{name}.db")))),
            Self::Postgres(cluster) => Database::postgres(cluster.url(), name).await,
        }
    }

    pub async fn close(self) -> Result<()> {
        match self {
            Self::Sqlite => Ok(()),
            Self::Postgres(cluster) => cluster.close().await,
        }
    }
}
