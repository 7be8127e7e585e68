//! Bare inserts into SQLite by one prepared statement, on a connection with the server's pragmas.

use std::path::Path;
use std::time::{Duration, Instant};

use diesel::{Insertable, RunQueryDsl};

use super::{Row, Rows};
use testkit::database::open_sqlite;

use crate::tools::Result;

diesel::table! {
    messages (bucket, chat_id, seq) {
        bucket -> Integer,
        chat_id -> Binary,
        seq -> BigInt,
        version -> BigInt,
        kind -> Text,
        sender_id -> Text,
        nonce -> Text,
        fingerprint -> Binary,
        text -> Text,
        created_at -> BigInt,
    }
}

#[derive(Insertable)]
#[diesel(table_name = messages, treat_none_as_default_value = false)]
struct NewMessage {
    bucket: i32,
    chat_id: Vec<u8>,
    seq: i64,
    version: i64,
    kind: &'static str,
    sender_id: String,
    nonce: String,
    fingerprint: Vec<u8>,
    text: &'static str,
    created_at: i64,
}

impl From<Row> for NewMessage {
    fn from(row: Row) -> Self {
        Self {
            bucket: 0,
            chat_id: row.chat.into(),
            seq: row.seq,
            version: row.seq,
            kind: "text",
            sender_id: row.sender,
            nonce: row.nonce,
            fingerprint: row.fingerprint.into(),
            text: row.text,
            created_at: row.created_at,
        }
    }
}

/// Returns the SQL that creates chats of one bucket, whose ids are the numbers from 0.
pub fn chats(count: usize) -> String {
    format!(
        "INSERT INTO organizations (id, created_at) VALUES ('load', 0);
         WITH RECURSIVE numbers (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < {count})
         INSERT INTO chats (bucket, id, organization_id, kind, policy, slow_mode_seconds, created_at,
                            last_activity_at, changed_at, version, details_version, last_seq, member_count)
         SELECT 0, unhex(format('%032x', n)), 'load', 'group', jsonb('{{}}'), 0, 0, 0, 0, 0, 0, 0, 0 FROM numbers;"
    )
}

/// Inserts rows for a duration, and returns the time that passed.
pub fn write<const BATCH: usize>(path: &Path, rows: &mut Rows, duration: Duration) -> Result<Duration> {
    let mut connection = open_sqlite(path);
    let start = Instant::now();
    while start.elapsed() < duration {
        let batch: Vec<NewMessage> = rows.by_ref().take(BATCH).map(NewMessage::from).collect();
        // Diesel caches the statement by type, and an array's length is part of its type.
        let batch: Box<[NewMessage; BATCH]> = batch.into_boxed_slice().try_into().map_err(|_| "too few rows")?;
        diesel::insert_into(messages::table).values(batch).execute(&mut connection)?;
    }
    Ok(start.elapsed())
}
