//! Bare inserts into PostgreSQL by one prepared `INSERT .. SELECT unnest(..)`.

use std::time::{Duration, Instant, SystemTime};

use bytes::BytesMut;
use tokio_postgres::Client;
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};

use super::{Row, Rows};
use crate::tools::Result;

const INSERT: &str = "INSERT INTO messages \
    (bucket, chat_id, seq, version, kind, sender_id, nonce, fingerprint, text, created_at) \
    SELECT 0, chat, seq, seq, 'text', sender, nonce, fingerprint, text, created_at \
    FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::text[], $5::bytea[], $6::text[], $7::timestamptz[]) \
    AS rows (chat, seq, sender, nonce, fingerprint, text, created_at)";

/// A UUID as its bytes, which is the binary format of PostgreSQL.
#[derive(Debug)]
struct Id([u8; 16]);

impl ToSql for Id {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull> {
        out.extend_from_slice(&self.0);
        Ok(IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::UUID
    }

    to_sql_checked!();
}

/// Returns the SQL that creates chats of one bucket, whose ids are the numbers from 0.
pub fn chats(count: usize) -> String {
    format!(
        "INSERT INTO organizations (id, created_at) VALUES ('load', now());
         INSERT INTO chats (bucket, id, organization_id, kind, policy, slow_mode_seconds, created_at,
                            last_activity_at, changed_at, version, details_version, last_seq, member_count)
         SELECT 0, lpad(to_hex(n), 32, '0')::uuid, 'load', 'group', '{{}}', 0, now(), now(), now(), 0, 0, 0, 0
         FROM generate_series(0, {count} - 1) AS n;"
    )
}

/// Inserts rows for a duration, and returns the time that passed.
pub async fn write<const BATCH: usize>(client: &Client, rows: &mut Rows, duration: Duration) -> Result<Duration> {
    let insert = client.prepare(INSERT).await?;
    let start = Instant::now();
    while start.elapsed() < duration {
        let batch: Vec<Row> = rows.by_ref().take(BATCH).collect();
        let chats: Vec<Id> = batch.iter().map(|row| Id(row.chat)).collect();
        let seqs: Vec<i64> = batch.iter().map(|row| row.seq).collect();
        let senders: Vec<&str> = batch.iter().map(|row| row.sender.as_str()).collect();
        let nonces: Vec<&str> = batch.iter().map(|row| row.nonce.as_str()).collect();
        let fingerprints: Vec<&[u8]> = batch.iter().map(|row| &row.fingerprint[..]).collect();
        let texts: Vec<&str> = batch.iter().map(|row| row.text).collect();
        let times: Vec<SystemTime> = batch.iter().map(|row| time(row.created_at)).collect();
        client.execute(&insert, &[&chats, &seqs, &senders, &nonces, &fingerprints, &texts, &times]).await?;
    }
    Ok(start.elapsed())
}

fn time(micros: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_micros(micros.unsigned_abs())
}
