//! The least that storing messages costs: the engine's own inserts of many rows, one transaction each,
//! by one writer that does nothing else.
//!
//! The rows are those that the server writes, into the tables that its own migrations made, with all
//! their indexes. What else a send does (rights, positions, the chat's counter) isn't done.

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

/// When the first row is from, in microseconds since 1970.
const EPOCH: i64 = 1_700_000_000_000_000;

/// Makes numbers look like hashes: the golden ratio's digits.
const SCATTER: u128 = 0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835;

/// An engine's own rate, in a fresh database.
pub struct RawInserts {
    database: Database,
    rows: Rows,
}

impl RawInserts {
    pub async fn new(engine: &Engine, folder: &Path, chats: usize) -> Result<Self> {
        let database = engine.database().await;
        Parlor::migrate(&database, folder)?;
        database.execute_by_engine(&sqlite::chats(chats), &postgres::chats(chats)).await;
        Ok(Self { database, rows: Rows { chats, next: 0 } })
    }

    /// Writes for so long, going on from where it was, `TOGETHER` rows in each transaction. Gives the
    /// rows written a second.
    pub async fn write<const TOGETHER: usize>(&mut self, duration: Duration) -> Result<f64> {
        let mut rows = self.rows;
        let (rows, time) = match self.database.engine {
            testkit::Engine::Sqlite => {
                let path = self.database.sqlite_path();
                let write = move || {
                    let time = sqlite::write::<TOGETHER>(&path, &mut rows, duration)?;
                    Ok::<_, Error>((rows, time))
                };
                spawn_blocking(write).await??
            }
            testkit::Engine::Postgres => {
                let client = self.database.postgres_client().await;
                let time = postgres::write::<TOGETHER>(&client, &mut rows, duration).await?;
                (rows, time)
            }
        };
        let written = rows.next - self.rows.next;
        self.rows = rows;
        Ok(written as f64 / time.as_secs_f64())
    }

    pub async fn close(self) {
        self.database.drop().await;
    }
}

/// The rows to write, without end: in turns to each chat, from 256 people.
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
    /// Microseconds since 1970.
    created_at: i64,
}

impl Iterator for Rows {
    type Item = Row;

    fn next(&mut self) -> Option<Row> {
        let number = self.next;
        self.next += 1;
        let place = i64::try_from(number).ok()?;
        Some(Row {
            chat: u128::to_be_bytes((number % self.chats) as u128),
            seq: i64::try_from(number / self.chats).ok()? + 1,
            sender: format!("user{}", number % 256),
            nonce: format!("{number:016x}"),
            fingerprint: (number as u128).wrapping_mul(SCATTER).to_be_bytes(),
            text: TEXT,
            created_at: EPOCH + place,
        })
    }
}
