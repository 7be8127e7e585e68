//! A chat's history, written into the database without the server.

use crate::tools::Result;
use testkit::Database;

/// The number of rows in one transaction.
const BATCH: i64 = 50_000;

/// Messages to append to the chat with a title.
pub struct HistorySeed<'a> {
    pub title: &'a str,
    pub count: i64,
    /// The number of members, who are the senders in turn.
    pub users: usize,
    /// The text of message number `n`, as an SQL expression for both engines.
    pub text: &'a str,
}

impl HistorySeed<'_> {
    /// Appends the messages as the server stores them, except that the full-text index does not have them.
    ///
    /// The server must not run, because it keeps the chat's state in memory.
    pub async fn insert(&self, database: &Database) -> Result<()> {
        let Self { title, count, users, text } = *self;
        let chat = format!("FROM chats WHERE title = '{title}'");
        let first = database.query_number(&format!("SELECT version + 1 {chat}")).await;
        for start in (first..first + count).step_by(BATCH as usize) {
            let end = (start + BATCH).min(first + count) - 1;
            let columns = "bucket, chat_id, seq, version, kind, sender_id, nonce, fingerprint, text, created_at";
            let values = format!("bucket, id, n, n, 'text', 'user' || (n % {users}), 'past-' || n, NULL, {text}");
            let grow = format!(
                "UPDATE chats SET version = {end}, last_seq = {end}, last_message_seq = {end} WHERE title = '{title}'"
            );
            let sqlite = format!(
                "BEGIN IMMEDIATE;
                 WITH RECURSIVE numbers (n) AS \
                 (SELECT {start} UNION ALL SELECT n + 1 FROM numbers WHERE n < {end})
                 INSERT INTO messages ({columns})
                 SELECT {values}, created_at + n FROM numbers CROSS JOIN (SELECT * {chat});
                 {grow}; COMMIT"
            );
            let postgres = format!(
                "BEGIN;
                 INSERT INTO messages ({columns})
                 SELECT {values}, created_at + n * interval '1 microsecond'
                 FROM generate_series({start}, {end}) AS n CROSS JOIN (SELECT * {chat}) AS chat;
                 {grow}; COMMIT"
            );
            database.execute_by_engine(&sqlite, &postgres).await;
        }
        Ok(())
    }
}
