//! The full-text index of messages: a table of FTS5 on SQLite, and a `tsvector` in each message's row on PostgreSQL.
//!
//! A table of its own would take half as much again on PostgreSQL, for its keys, their index and its rows' headers.

use diesel::backend::Backend;
use diesel::expression::Expression;
use diesel::insertable::{InsertValues, Insertable};
use diesel::pg::Pg;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId, ValuesClause};
use diesel::result::QueryResult;
use diesel::serialize::ToSql;
use diesel::sql_types::{BigInt, Bool, HasSqlType, Integer, Nullable, Text};
use diesel::sqlite::Sqlite;

use crate::storage::column_types::{SqlUuid, UuidValue};
use crate::storage::schema::messages;
use crate::storage::sql::values_statement::ValuesStatement;

/// The key of a message's row: the bucket, the chat and the sequence number.
type MessageKey = (i32, UuidValue, i64);

/// The words of a new message in PostgreSQL's spelling, which are a column of its row there.
///
/// It writes nothing on SQLite, where [`IndexFullText`] follows.
#[derive(Debug, Clone, Default)]
pub struct NewWords(pub Option<String>);

impl Insertable<messages::table> for NewWords {
    type Values = ValuesClause<Self, messages::table>;

    fn values(self) -> Self::Values {
        let mut values = Self::Values::default();
        values.values = self;
        values
    }
}

impl QueryId for NewWords {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl QueryFragment<Pg> for NewWords {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_bind_param::<Nullable<Text>, _>(&self.0)?;
        out.push_sql("::tsvector");
        Ok(())
    }
}

impl QueryFragment<Sqlite> for NewWords {
    fn walk_ast<'b>(&'b self, _: AstPass<'_, 'b, Sqlite>) -> QueryResult<()> {
        Ok(())
    }
}

impl InsertValues<Pg, messages::table> for NewWords {
    fn column_names(&self, mut out: AstPass<'_, '_, Pg>) -> QueryResult<()> {
        out.push_identifier("words")
    }
}

impl InsertValues<Sqlite, messages::table> for NewWords {
    fn column_names(&self, _: AstPass<'_, '_, Sqlite>) -> QueryResult<()> {
        Ok(())
    }
}

/// Adds the words of stored messages of one bucket to the full-text index.
pub struct IndexFullText {
    values: ValuesStatement,
    bucket: i32,
}

impl IndexFullText {
    /// Returns the statement for the keys of messages and their words in the engine's own spelling.
    pub fn new(bucket: i32, rows: impl IntoIterator<Item = (MessageKey, String)>) -> Self {
        let values = rows
            .into_iter()
            .map(|((bucket, chat, seq), words)| vec![bucket.into(), chat.into(), seq.into(), words.into()]);
        Self { values: ValuesStatement::new("", values, ""), bucket }
    }
}

impl QueryId for IndexFullText {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl QueryFragment<Pg> for IndexFullText {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("UPDATE messages SET words = fresh.column4::tsvector FROM ");
        self.values.walk_ast(out.reborrow())?;
        out.push_sql(
            " AS fresh WHERE messages.chat_id = fresh.column2 AND messages.seq = fresh.column3 \
             AND messages.bucket = ",
        );
        out.push_bind_param::<Integer, _>(&self.bucket)
    }
}

impl QueryFragment<Sqlite> for IndexFullText {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Sqlite>) -> QueryResult<()> {
        out.push_sql("INSERT INTO message_words (rowid, words) SELECT messages.pk, fresh.column4 FROM ");
        self.values.walk_ast(out.reborrow())?;
        out.push_sql(
            " AS fresh JOIN messages ON messages.bucket = fresh.column1 AND messages.chat_id = fresh.column2 \
             AND messages.seq = fresh.column3",
        );
        Ok(())
    }
}

/// Removes the words of one message, given by its key, from the full-text index.
#[derive(Debug, Clone, Copy)]
pub struct DeleteFullText(pub MessageKey);

impl QueryId for DeleteFullText {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl DeleteFullText {
    fn walk<'b, DB>(&'b self, mut out: AstPass<'_, 'b, DB>, before: &str, after: &str) -> QueryResult<()>
    where
        DB: Backend + HasSqlType<SqlUuid>,
        i32: ToSql<Integer, DB>,
        UuidValue: ToSql<SqlUuid, DB>,
        i64: ToSql<BigInt, DB>,
    {
        let (bucket, chat, seq) = &self.0;
        out.push_sql(before);
        out.push_sql("bucket = ");
        out.push_bind_param::<Integer, _>(bucket)?;
        out.push_sql(" AND chat_id = ");
        out.push_bind_param::<SqlUuid, _>(chat)?;
        out.push_sql(" AND seq = ");
        out.push_bind_param::<BigInt, _>(seq)?;
        out.push_sql(after);
        Ok(())
    }
}

impl QueryFragment<Pg> for DeleteFullText {
    fn walk_ast<'b>(&'b self, out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        self.walk(out, "UPDATE messages SET words = NULL WHERE ", "")
    }
}

impl QueryFragment<Sqlite> for DeleteFullText {
    fn walk_ast<'b>(&'b self, out: AstPass<'_, 'b, Sqlite>) -> QueryResult<()> {
        self.walk(out, "DELETE FROM message_words WHERE rowid = (SELECT pk FROM messages WHERE ", ")")
    }
}

/// Removes the words of many messages of one bucket from the full-text index.
pub struct DeleteFullTexts {
    keys: ValuesStatement,
    bucket: i32,
}

impl DeleteFullTexts {
    /// Returns the statement for messages, given by their keys, at least one.
    pub fn new(bucket: i32, keys: impl IntoIterator<Item = MessageKey>) -> Self {
        let values = keys.into_iter().map(|(bucket, chat, seq)| vec![bucket.into(), chat.into(), seq.into()]);
        // Without the list of columns, SQLite would read the whole table.
        let before = "(bucket, chat_id, seq) IN (SELECT column1, column2, column3 FROM ";
        Self { keys: ValuesStatement::new(before, values, " AS keys)"), bucket }
    }
}

impl QueryId for DeleteFullTexts {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl QueryFragment<Pg> for DeleteFullTexts {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("UPDATE messages SET words = NULL WHERE bucket = ");
        out.push_bind_param::<Integer, _>(&self.bucket)?;
        out.push_sql(" AND ");
        self.keys.walk_ast(out)
    }
}

impl QueryFragment<Sqlite> for DeleteFullTexts {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Sqlite>) -> QueryResult<()> {
        out.push_sql("DELETE FROM message_words WHERE rowid IN (SELECT pk FROM messages WHERE ");
        self.keys.walk_ast(out.reborrow())?;
        out.push_sql(")");
        Ok(())
    }
}

/// The query for whether the full-text index has anything: one row if it has, and none if it is empty.
///
/// It reads every bucket.
#[derive(Debug, Clone, Copy)]
pub struct AnyFullText;

impl Query for AnyFullText {
    type SqlType = Integer;
}

impl QueryId for AnyFullText {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl QueryFragment<Pg> for AnyFullText {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("SELECT 1 FROM messages WHERE bucket >= 0 AND words IS NOT NULL LIMIT 1");
        Ok(())
    }
}

impl QueryFragment<Sqlite> for AnyFullText {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Sqlite>) -> QueryResult<()> {
        out.push_sql("SELECT 1 FROM message_words LIMIT 1");
        Ok(())
    }
}

/// The condition that the full-text index has all words of a search for a row of `messages`.
#[derive(Debug, Clone)]
pub struct MatchesFullText {
    /// The search in PostgreSQL's syntax.
    pub tsquery: String,
    /// The search in the syntax of SQLite's FTS5.
    pub fts5: String,
}

impl Expression for MatchesFullText {
    type SqlType = Bool;
}

impl QueryId for MatchesFullText {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl QueryFragment<Pg> for MatchesFullText {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.unsafe_to_cache_prepared();
        out.push_sql("messages.words @@ ");
        out.push_bind_param::<Text, _>(&self.tsquery)?;
        out.push_sql("::tsquery");
        Ok(())
    }
}

impl QueryFragment<Sqlite> for MatchesFullText {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Sqlite>) -> QueryResult<()> {
        out.unsafe_to_cache_prepared();
        out.push_sql("messages.pk IN (SELECT rowid FROM message_words WHERE message_words MATCH ");
        out.push_bind_param::<Text, _>(&self.fts5)?;
        out.push_sql(")");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use diesel::prelude::*;
    use uuid::Uuid;

    use super::{AnyFullText, DeleteFullText, DeleteFullTexts, IndexFullText, MatchesFullText, NewWords};
    use crate::storage::column_types::UuidValue;
    use crate::storage::schema::messages;
    use crate::storage::sql::debug_sql::{postgres_sql, sqlite_sql};
    use crate::storage::sql::insert_many::insert_many;

    #[test]
    fn words_are_indexed_in_the_row_on_postgres_and_by_row_id_on_sqlite() {
        let query = IndexFullText::new(7, [((7, UuidValue(Uuid::nil()), 1), "word".to_owned())]);
        assert_eq!(
            postgres_sql(&query),
            "UPDATE messages SET words = fresh.column4::tsvector FROM (VALUES ($1, $2, $3, $4)) AS fresh \
             WHERE messages.chat_id = fresh.column2 AND messages.seq = fresh.column3 AND messages.bucket = $5"
        );
        assert_eq!(
            sqlite_sql(&query),
            "INSERT INTO message_words (rowid, words) SELECT messages.pk, fresh.column4 FROM (VALUES (?, ?, ?, ?)) \
             AS fresh JOIN messages ON messages.bucket = fresh.column1 AND messages.chat_id = fresh.column2 \
             AND messages.seq = fresh.column3"
        );
    }

    #[test]
    fn words_of_new_messages_are_a_column_on_postgres_alone() {
        let rows = [Some("'word':1".to_owned()), None].map(|words| (messages::seq.eq(1), NewWords(words)));
        let query = insert_many(messages::table, rows);
        assert_eq!(
            postgres_sql(&query),
            r#"INSERT INTO "messages" ("seq", "words") VALUES ($1, $2::tsvector), ($3, $4::tsvector)"#
        );
        assert_eq!(sqlite_sql(&query), "INSERT INTO `messages` (`seq`) VALUES (?), (?)");
    }

    #[test]
    fn words_are_removed_from_the_row_on_postgres_and_by_row_id_on_sqlite() {
        let query = DeleteFullText((7, UuidValue(Uuid::nil()), 1));
        assert_eq!(
            postgres_sql(&query),
            "UPDATE messages SET words = NULL WHERE bucket = $1 AND chat_id = $2 AND seq = $3"
        );
        assert_eq!(
            sqlite_sql(&query),
            "DELETE FROM message_words WHERE rowid = \
             (SELECT pk FROM messages WHERE bucket = ? AND chat_id = ? AND seq = ?)"
        );
    }

    #[test]
    fn words_of_many_messages_are_removed_by_one_statement() {
        let query = DeleteFullTexts::new(7, [(7, UuidValue(Uuid::nil()), 1), (7, UuidValue(Uuid::nil()), 2)]);
        assert_eq!(
            postgres_sql(&query),
            "UPDATE messages SET words = NULL WHERE bucket = $1 AND (bucket, chat_id, seq) IN \
             (SELECT column1, column2, column3 FROM (VALUES ($2, $3, $4), ($5, $6, $7)) AS keys)"
        );
        assert_eq!(
            sqlite_sql(&query),
            "DELETE FROM message_words WHERE rowid IN (SELECT pk FROM messages WHERE (bucket, chat_id, seq) IN \
             (SELECT column1, column2, column3 FROM (VALUES (?, ?, ?), (?, ?, ?)) AS keys))"
        );
    }

    #[test]
    fn emptiness_of_the_index_is_read_from_all_buckets() {
        assert_eq!(
            postgres_sql(&AnyFullText),
            "SELECT 1 FROM messages WHERE bucket >= 0 AND words IS NOT NULL LIMIT 1"
        );
        assert_eq!(sqlite_sql(&AnyFullText), "SELECT 1 FROM message_words LIMIT 1");
    }

    #[test]
    fn search_matches_in_the_syntax_of_each_engine() {
        let query = MatchesFullText { tsquery: "'word'".into(), fts5: "\"word\"".into() };
        assert_eq!(postgres_sql(&query), "messages.words @@ $1::tsquery");
        assert_eq!(sqlite_sql(&query), "messages.pk IN (SELECT rowid FROM message_words WHERE message_words MATCH ?)");
    }
}
