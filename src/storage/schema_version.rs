//! The version of the schema, and the oldest versions of Parlor that may use it.
//!
//! A release extends the schema first (*expand*) and removes what no server uses any more in a later one (*contract*).
//! A server of the release before therefore runs on an extended schema. Its own migrations are the schema that it
//! knows; the row of `schema_version` says which one it has to know at least.

use diesel::prelude::*;

use crate::error::{Error, Result as AppResult};
use crate::storage::connection::{Conn, RunQueryDsl};
use crate::storage::schema::schema_version;

/// The row of `schema_version`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SchemaVersion {
    /// The number of the newest migration that was run.
    pub version: u64,
    /// The oldest schema that a server has to know in order to read.
    pub oldest_reader: u64,
    /// The oldest schema that a server has to know in order to write.
    pub oldest_writer: u64,
}

/// The reason why this version of Parlor may not use a schema.
#[derive(Debug, thiserror::Error)]
#[error(
    "the database has the schema {version}: versions of Parlor that know the schema {oldest} or newer may {operation} it, and \
     this one knows {known}; start a newer version"
)]
pub struct TooOld {
    version: u64,
    oldest: u64,
    /// "read" or "write".
    operation: &'static str,
    known: u64,
}

impl SchemaVersion {
    /// The migration that creates the table.
    pub const FIRST: &str = "00000000000017";
    /// Selects the row as one text.
    pub const SELECT: &str =
        "SELECT version || ' ' || oldest_reader || ' ' || oldest_writer AS line FROM schema_version";
    /// Records the newest migration after migrations were run.
    pub const UPDATE: &str =
        "UPDATE schema_version SET version = (SELECT max(CAST(version AS BIGINT)) FROM __diesel_schema_migrations)";

    /// Reads the text of [`SELECT`](Self::SELECT).
    pub fn parse(line: &str) -> Option<Self> {
        let mut numbers = line.split(' ').map(|number| number.parse().ok());
        Some(Self { version: numbers.next()??, oldest_reader: numbers.next()??, oldest_writer: numbers.next()?? })
    }

    /// Checks that a server whose newest migration is `known` may read and write.
    ///
    /// # Errors
    ///
    /// Returns an error if the server is older than the oldest reader or the oldest writer.
    pub fn require_known(self, known: &str) -> Result<(), TooOld> {
        let known = known.parse().unwrap_or(0);
        let Self { version, oldest_reader, oldest_writer } = self;
        for (oldest, operation) in [(oldest_reader, "read"), (oldest_writer, "write")] {
            if known < oldest {
                return Err(TooOld { version, oldest, operation, known });
            }
        }
        Ok(())
    }
}

/// Returns the number of the newest migration that was run.
///
/// # Errors
///
/// Returns an error if the statement fails or the table has no row.
pub async fn load(conn: &mut Conn) -> AppResult<u64> {
    let versions: Vec<i64> = schema_version::table.select(schema_version::version).load(conn).await?;
    let version = versions.first().and_then(|version| u64::try_from(*version).ok());
    version.ok_or_else(|| Error::internal("the database has no version of its schema"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_must_know_the_schema_of_the_oldest_reader_and_the_oldest_writer() {
        let version = SchemaVersion::parse("20 17 18").unwrap();
        assert_eq!(version, SchemaVersion { version: 20, oldest_reader: 17, oldest_writer: 18 });
        for (known, expected) in [
            ("00000000000016", Err("may read it, and this one knows 16")),
            ("00000000000017", Err("may write it, and this one knows 17")),
            ("00000000000018", Ok(())),
            ("00000000000019", Ok(())),
        ] {
            let result = version.require_known(known).map_err(|error| error.to_string());
            match expected {
                Ok(()) => assert_eq!(result, Ok(()), "{known}"),
                Err(words) => assert!(result.as_ref().is_err_and(|error| error.contains(words)), "{known}: {result:?}"),
            }
        }
        for line in ["", "20 17", "20 17 x"] {
            assert_eq!(SchemaVersion::parse(line), None, "{line:?}");
        }
    }
}
