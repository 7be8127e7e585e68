//! Messages of before, written past the server.

use crate::tools::Result;
use testkit::Database;

/// Rows written in one transaction.
const BATCH: i64 = 50_000;

/// Appends messages to a chat by SQL, as they would be if they had been sent, but for the full-text
/// index. `text` is what the message numbered `n` says, in SQL of both engines.
pub async fn seed(database: &Database, title: &str, count: i64, people: usize, text: &str) -> Result<()> {
    let chat = format!("FROM chats WHERE title = '{title}'");
    let first = database.query_number(&format!("SELECT version + 1 {chat}")).await;
    for start in (first..first + count).step_by(BATCH as usize) {
        let end = (start + BATCH).min(first + count) - 1;
        let columns = "chat_id, seq, version, kind, sender_id, nonce, fingerprint, text, created_at";
        let values = format!("id, n, n, 'text', 'user' || (n % {people}), 'past-' || n, NULL, {text}");
        let grow = format!("UPDATE chats SET version = {end}, last_seq = {end} WHERE title = '{title}'");
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
