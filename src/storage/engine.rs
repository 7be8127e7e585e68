//! The engines, and the databases that an address can name.

use std::path::PathBuf;

use crate::storage::postgres_endpoint::PgEndpoint;

/// A database engine and the database that a `DATABASE_URL` names.
#[derive(Debug, Clone)]
pub enum Engine {
    Postgres(Box<PgEndpoint>),
    Sqlite(PathBuf),
}

impl Engine {
    /// Parses `postgres://…`, `postgresql://…` or `sqlite://PATH`.
    ///
    /// # Errors
    ///
    /// Returns what is wrong with the URL, as a predicate of which the setting is the subject.
    pub fn parse(url: &str) -> Result<Self, String> {
        match url.split_once("://") {
            Some(("postgres" | "postgresql", _)) => {
                PgEndpoint::parse(url).map(|endpoint| Self::Postgres(Box::new(endpoint)))
            }
            Some(("sqlite", "")) => Err("names no file after sqlite://".into()),
            // Each connection would open a separate database.
            Some(("sqlite", path)) if path.starts_with(":memory:") || path.starts_with("file:") => {
                Err("must name a file after sqlite://".into())
            }
            Some(("sqlite", path)) => Ok(Self::Sqlite(path.into())),
            _ => Err("must begin with sqlite:// or postgres://".into()),
        }
    }
}
