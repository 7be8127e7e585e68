//! The part of the migration `buckets` that SQL cannot express: hashes of rows from before buckets.
//!
//! Chats of two users, of a resource or with a nonce get the ids by which the server finds them now. All other ids keep
//! their time and their order. After the migration has copied the rows, messages get the hashes of their nonces.

use diesel::connection::{LoadConnection, SimpleConnection};
use diesel::prelude::*;
use diesel::query_builder::SqlQuery;
use diesel::query_dsl::LoadQuery;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Nullable, Text};
use uuid::Uuid;

use crate::domain::buckets::{Bucket, has_bucket};
use crate::domain::ids::{ChatId, Nonce, OrganizationId};
use crate::error::{Error, Result};
use crate::storage::messages::nonce_hash;

/// The version of the migration that needs the new ids.
pub const MIGRATION: &str = "00000000000016";

/// The rows that are read and written at once.
const BATCH: usize = 1_000;

/// The tables whose ids change, and the columns of each that the new id follows from.
const TABLES: [(&str, &str); 4] = [
    ("chats", "direct_key, created_by, nonce, resource_type, resource_id"),
    ("calls", NO_KEY),
    ("notifications", NO_KEY),
    ("reports", NO_KEY),
];

/// The columns of an id that follows from nothing but the old id.
const NO_KEY: &str =
    "NULL AS direct_key, NULL AS created_by, NULL AS nonce, NULL AS resource_type, NULL AS resource_id";

/// The SQL of an engine for ids.
pub struct IdDialect {
    /// Creates the table of the new ids, and keeps other processes from adding rows.
    create: &'static str,
    /// Returns the text of a column of ids.
    text: fn(&str) -> String,
    /// Returns an id as a literal.
    literal: fn(Uuid) -> String,
}

pub const POSTGRES: IdDialect = IdDialect {
    create: "LOCK TABLE chats, calls, notifications, reports IN ACCESS EXCLUSIVE MODE; \
             CREATE TABLE bucketed_ids (old_id uuid NOT NULL PRIMARY KEY, bucket integer NOT NULL, id uuid NOT NULL)",
    text: |column| format!("CAST({column} AS text)"),
    literal: |id| format!("'{id}'::uuid"),
};

pub const SQLITE: IdDialect = IdDialect {
    create: "CREATE TABLE bucketed_ids \
             (old_id BLOB NOT NULL PRIMARY KEY, bucket INTEGER NOT NULL, id BLOB NOT NULL) STRICT, WITHOUT ROWID",
    text: |column| format!("hex({column})"),
    literal: |id| format!("x'{}'", id.simple()),
};

/// A row whose id changes.
#[derive(QueryableByName)]
pub struct UnbucketedRow {
    #[diesel(sql_type = Text)]
    old_id: String,
    #[diesel(sql_type = Text)]
    organization_id: String,
    #[diesel(sql_type = Nullable<Text>)]
    direct_key: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    created_by: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    nonce: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    resource_type: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    resource_id: Option<String>,
}

impl UnbucketedRow {
    /// Returns the old id, the bucket and the new id.
    fn ids(&self) -> Result<(Uuid, Bucket, Uuid)> {
        let old: Uuid = self.old_id.parse().map_err(Error::internal)?;
        let organization: OrganizationId = self.organization_id.parse().map_err(Error::internal)?;
        let bucket = organization.bucket();
        let id = match self.key() {
            Some(key) => ChatId::derive(&organization, &key).0,
            // The migration ran before, and was reverted.
            None if has_bucket(old) => old,
            None => bucket.uuid_from_v7(old),
        };
        Ok((old, bucket, id))
    }

    /// Returns the key of a chat that is the only one with that key.
    fn key(&self) -> Option<Vec<&[u8]>> {
        let key = if let Some(pair) = &self.direct_key {
            let (user, other) = pair.split_once('\n')?;
            vec!["direct", user, other]
        } else if let (Some(kind), Some(id)) = (&self.resource_type, &self.resource_id) {
            vec!["resource", kind, id]
        } else {
            vec!["nonce", self.created_by.as_deref()?, self.nonce.as_deref()?]
        };
        Some(key.into_iter().map(str::as_bytes).collect())
    }
}

/// Fills a table with the new id of each row.
///
/// It runs in the transaction of the migration, which reads the table and drops it.
///
/// # Errors
///
/// Returns an error if a statement fails, or if an id is not valid.
pub fn prepare<C>(conn: &mut C, dialect: &IdDialect) -> Result<()>
where
    C: LoadConnection + SimpleConnection,
    for<'q> SqlQuery: LoadQuery<'q, C, UnbucketedRow>,
{
    conn.batch_execute(dialect.create).map_err(Error::internal)?;
    for (table, key) in TABLES {
        let mut last = Uuid::nil();
        loop {
            let (text, after) = ((dialect.text)("id"), (dialect.literal)(last));
            let rows = format!(
                "SELECT {text} AS old_id, organization_id, {key} FROM {table} WHERE id > {after} \
                 ORDER BY id LIMIT {BATCH}"
            );
            let rows: Vec<UnbucketedRow> = sql_query(rows).load(conn).map_err(Error::internal)?;
            let ids = rows.iter().map(UnbucketedRow::ids).collect::<Result<Vec<_>>>()?;
            let Some((newest, ..)) = ids.last() else { break };
            last = *newest;
            let values = ids.iter().map(|(old, bucket, id)| {
                format!("({}, {}, {})", (dialect.literal)(*old), bucket.number(), (dialect.literal)(*id))
            });
            let values: Vec<String> = values.collect();
            let insert = format!("INSERT INTO bucketed_ids (old_id, bucket, id) VALUES {}", values.join(", "));
            conn.batch_execute(&insert).map_err(Error::internal)?;
        }
    }
    Ok(())
}

/// A message with a nonce.
#[derive(QueryableByName)]
pub struct NonceRow {
    #[diesel(sql_type = Text)]
    chat_id: String,
    #[diesel(sql_type = BigInt)]
    seq: i64,
    #[diesel(sql_type = Text)]
    nonce: String,
}

/// Writes the hashes of all nonces, by which repeated sends find the copied messages.
///
/// It runs in the transaction of the migration, after it.
///
/// # Errors
///
/// Returns an error if a statement fails, or if a nonce is not valid.
pub fn hash_nonces<C>(conn: &mut C, dialect: &IdDialect) -> Result<()>
where
    C: LoadConnection + SimpleConnection,
    for<'q> SqlQuery: LoadQuery<'q, C, NonceRow>,
{
    let key = |chat: ChatId, seq: i64| format!("{}, {}, {seq}", chat.bucket().number(), (dialect.literal)(chat.0));
    let mut last = "-1, NULL, 0".to_owned();
    loop {
        let chat_id = (dialect.text)("chat_id");
        let rows = format!(
            "SELECT {chat_id} AS chat_id, seq, nonce FROM messages WHERE (bucket, chat_id, seq) > ({last}) \
             AND nonce IS NOT NULL ORDER BY bucket, messages.chat_id, seq LIMIT {BATCH}"
        );
        let rows: Vec<NonceRow> = sql_query(rows).load(conn).map_err(Error::internal)?;
        let mut values = Vec::with_capacity(rows.len());
        for row in &rows {
            let chat = ChatId(row.chat_id.parse().map_err(Error::internal)?);
            last = key(chat, row.seq);
            values.push(format!("({last}, {})", nonce_hash(chat, &Nonce::parse(&row.nonce)?)));
        }
        if values.is_empty() {
            return Ok(());
        }
        let update = format!(
            "UPDATE messages SET nonce_hash = hashed.column4 FROM (VALUES {}) AS hashed WHERE bucket = hashed.column1 \
             AND chat_id = hashed.column2 AND seq = hashed.column3",
            values.join(", ")
        );
        conn.batch_execute(&update).map_err(Error::internal)?;
    }
}
