//! A database for one story: a file of its own, or one of its own in the cluster of the test run.

use std::sync::atomic::{AtomicU32, Ordering};

use diesel::connection::SimpleConnection;
use diesel::{Connection, SqliteConnection};
use tempfile::TempDir;
use tokio_postgres::NoTls;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    Sqlite,
    Postgres,
}

pub struct Database {
    pub engine: Engine,
    pub url: String,
    /// The folder of the file, or the name of the database.
    place: Place,
}

enum Place {
    Folder(TempDir),
    Name(String),
}

impl Database {
    pub async fn create(engine: Engine) -> Self {
        match engine {
            Engine::Sqlite => {
                let folder = tempfile::tempdir().expect("a temporary folder");
                let url = format!("sqlite://{}/parlor.db", folder.path().display());
                Self { engine, url, place: Place::Folder(folder) }
            }
            Engine::Postgres => {
                static NEXT: AtomicU32 = AtomicU32::new(0);
                let name = format!("parlor_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
                administer(&format!("CREATE DATABASE {name}")).await;
                let url = cluster()
                    .rsplit_once('/')
                    .map(|(base, _)| format!("{base}/{name}"))
                    .expect("an address with a name");
                Self { engine, url, place: Place::Name(name) }
            }
        }
    }

    /// Runs SQL on a connection of its own.
    pub async fn execute(&self, sql: &str) {
        match &self.place {
            Place::Folder(folder) => {
                let file = folder.path().join("parlor.db");
                let mut conn = SqliteConnection::establish(&file.to_string_lossy()).expect("the file opens");
                conn.batch_execute(sql).expect(sql);
            }
            Place::Name(_) => batch(&self.url, sql).await,
        }
    }

    /// Lets nobody into PostgreSQL's database any more, and ends who is there.
    pub async fn shut(&self) {
        let Place::Name(name) = &self.place else { panic!("a file can't be shut") };
        administer(&format!("ALTER DATABASE {name} ALLOW_CONNECTIONS false")).await;
        administer(&format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")).await;
    }

    pub async fn reopen(&self) {
        let Place::Name(name) = &self.place else { panic!("a file can't be shut") };
        administer(&format!("ALTER DATABASE {name} ALLOW_CONNECTIONS true")).await;
    }

    pub async fn drop(self) {
        match self.place {
            Place::Folder(folder) => folder.close().expect("the folder can be removed"),
            Place::Name(name) => administer(&format!("DROP DATABASE {name} WITH (FORCE)")).await,
        }
    }
}

/// The address of the cluster that `tests/run` started.
pub fn cluster() -> String {
    std::env::var("PARLOR_TEST_POSTGRES")
        .expect("PARLOR_TEST_POSTGRES is not set: tests/run starts a cluster and sets it")
}

async fn administer(sql: &str) {
    batch(&cluster(), sql).await;
}

async fn batch(url: &str, sql: &str) {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("the cluster answers");
    tokio::spawn(connection);
    client.batch_execute(sql).await.expect(sql);
}
