//! The lower bound of storing messages: bare inserts by one writer, without the server.
//!
//! The rows equal those of the server, in tables that its migrations created, with all their indexes. Everything else
//! that a send does is missing: authorisation, read positions, the chat's counter and the full-text index.

mod postgres;
mod sqlite;

use std::path::Path;
use std::time::Duration;

use testkit::Database;
use tokio::task::spawn_blocking;

use crate::client::parlor::Parlor;
use crate::client::sender::TEXT;
use crate::engines::Engine;
use crate::tools::{Error, Result};

/// The time of the first row, in microseconds since 1970.
const FIRST_CREATED_AT: i64 = 1_700_000_000_000_000;

/// A multiplier that makes numbers look like hashes: the digits of the golden ratio.
const SCATTER: u128 = 0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835;

/// A new database, and the rows to insert into it.
pub struct RawInserts {
    database: Database,
    rows: Rows,
}

impl RawInserts {
    /// Creates a database with this number of chats.
    pub async fn new(engine: &Engine, folder: &Path, chats: usize) -> Result<Self> {
        let database = engine.database().await;
        Parlor::migrate(&database, folder)?;
        database.execute_by_engine(&sqlite::chats(chats), &postgres::chats(chats)).await;
        Ok(Self { database, rows: Rows { chats, next: 0 } })
    }

    /// Inserts rows for a duration, `BATCH` of them per transaction, and returns the rows per second.
    pub async fn write<const BATCH: usize>(&mut self, duration: Duration) -> Result<f64> {
        let mut rows = self.rows;
        let (rows, time) = match self.database.engine {
            testkit::Engine::Sqlite => {
                let path = self.database.sqlite_path();
                let write = move || {
                    let time = sqlite::write::<BATCH>(&path, &mut rows, duration)?;
                    Ok::<_, Error>((rows, time))
                };
                spawn_blocking(write).await??
            }
            testkit::Engine::Postgres => {
                let client = self.database.postgres_client().await;
                let time = postgres::write::<BATCH>(&client, &mut rows, duration).await?;
                (rows, time)
            }
        };
        let written = rows.next - self.rows.next;
        self.rows = rows;
        Ok(written as f64 / time.as_secs_f64())
    }

    /// Removes the database.
    pub async fn close(self) {
        self.database.drop().await;
    }
}

/// An endless sequence of rows, for each chat in turn, with 256 senders.
#[derive(Clone, Copy)]
struct Rows {
    chats: usize,
    next: usize,
}

struct Row {
    chat: [u8; 16],
    seq: i64,
    sender: String,
    nonce: String,
    fingerprint: [u8; 16],
    text: &'static str,
    /// The time in microseconds since 1970.
    created_at: i64,
}

impl Iterator for Rows {
    type Item = Row;

    fn next(&mut self) -> Option<Row> {
        let number = self.next;
        self.next += 1;
        let offset = i64::try_from(number).ok()?;
        Some(Row {
            chat: u128::to_be_bytes((number % self.chats) as u128),
            seq: i64::try_from(number / self.chats).ok()? + 1,
            sender: format!("user{}", number % 256),
            nonce: format!("{number:016x}"),
            fingerprint: (number as u128).wrapping_mul(SCATTER).to_be_bytes(),
            text: TEXT,
            created_at: FIRST_CREATED_AT + offset,
        })
    }
}
