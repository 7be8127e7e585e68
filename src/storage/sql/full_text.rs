//! The full-text index of messages: FTS5 on SQLite, `tsvector` on PostgreSQL.

use diesel::backend::Backend;
use diesel::expression::Expression;
use diesel::pg::Pg;
use diesel::query_builder::{AstPass, QueryFragment, QueryId};
use diesel::result::QueryResult;
use diesel::serialize::ToSql;
use diesel::sql_types::{BigInt, Bool, HasSqlType, Text};
use diesel::sqlite::Sqlite;

use crate::storage::column_types::{SqlUuid, UuidValue};
use crate::storage::sql::values_statement::ValuesStatement;

/// Adds the words of messages to the full-text index.
pub struct IndexFullText(ValuesStatement);

impl IndexFullText {
    /// Returns the statement for messages: chat, sequence number, and words in the engine's own spelling.
    pub fn new(rows: impl IntoIterator<Item = (UuidValue, i64, String)>) -> Self {
        let values = rows.into_iter().map(|(chat, seq, words)| vec![chat.into(), seq.into(), words.into()]);
        Self(ValuesStatement::new("", values, ""))
    }
}

impl QueryId for IndexFullText {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl QueryFragment<Pg> for IndexFullText {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql(
            "INSERT INTO message_words (chat_id, seq, words) SELECT column1, column2, column3::tsvector FROM ",
        );
        self.0.walk_ast(out.reborrow())?;
        out.push_sql(" AS fresh");
        Ok(())
    }
}

impl QueryFragment<Sqlite> for IndexFullText {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Sqlite>) -> QueryResult<()> {
        out.push_sql("INSERT INTO message_words (rowid, words) SELECT messages.pk, fresh.column3 FROM ");
        self.0.walk_ast(out.reborrow())?;
        out.push_sql(" AS fresh JOIN messages ON messages.chat_id = fresh.column1 AND messages.seq = fresh.column2");
        Ok(())
    }
}

/// Removes the words of one message, given by chat and sequence number, from the full-text index.
#[derive(Debug, Clone, Copy)]
pub struct DeleteFullText(pub UuidValue, pub i64);

impl QueryId for DeleteFullText {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl DeleteFullText {
    fn walk<'b, DB>(&'b self, mut out: AstPass<'_, 'b, DB>, before: &str, after: &str) -> QueryResult<()>
    where
        DB: Backend + HasSqlType<SqlUuid>,
        UuidValue: ToSql<SqlUuid, DB>,
        i64: ToSql<BigInt, DB>,
    {
        out.push_sql(before);
        out.push_sql("chat_id = ");
        out.push_bind_param::<SqlUuid, _>(&self.0)?;
        out.push_sql(" AND seq = ");
        out.push_bind_param::<BigInt, _>(&self.1)?;
        out.push_sql(after);
        Ok(())
    }
}

impl QueryFragment<Pg> for DeleteFullText {
    fn walk_ast<'b>(&'b self, out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        self.walk(out, "DELETE FROM message_words WHERE ", "")
    }
}

impl QueryFragment<Sqlite> for DeleteFullText {
    fn walk_ast<'b>(&'b self, out: AstPass<'_, 'b, Sqlite>) -> QueryResult<()> {
        self.walk(out, "DELETE FROM message_words WHERE rowid = (SELECT pk FROM messages WHERE ", ")")
    }
}

/// Removes the words of many messages from the full-text index.
pub struct DeleteFullTexts(ValuesStatement);

impl DeleteFullTexts {
    /// Returns the statement for messages, given by chat and sequence number, at least one.
    pub fn new(keys: impl IntoIterator<Item = (UuidValue, i64)>) -> Self {
        let values = keys.into_iter().map(|(chat, seq)| vec![chat.into(), seq.into()]);
        Self(ValuesStatement::new("", values, ""))
    }
}

impl QueryId for DeleteFullTexts {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl QueryFragment<Pg> for DeleteFullTexts {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("DELETE FROM message_words WHERE (chat_id, seq) IN ");
        self.0.walk_ast(out)
    }
}

impl QueryFragment<Sqlite> for DeleteFullTexts {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Sqlite>) -> QueryResult<()> {
        out.push_sql("DELETE FROM message_words WHERE rowid IN (SELECT pk FROM messages WHERE (chat_id, seq) IN ");
        self.0.walk_ast(out.reborrow())?;
        out.push_sql(")");
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
        out.push_sql("(messages.chat_id, messages.seq) IN (SELECT chat_id, seq FROM message_words WHERE words @@ ");
        out.push_bind_param::<Text, _>(&self.tsquery)?;
        out.push_sql("::tsquery)");
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
    use uuid::Uuid;

    use super::{DeleteFullText, DeleteFullTexts, IndexFullText, MatchesFullText};
    use crate::storage::column_types::UuidValue;
    use crate::storage::sql::debug_sql::{postgres_sql, sqlite_sql};

    #[test]
    fn words_are_indexed_by_key_on_postgres_and_by_row_id_on_sqlite() {
        let query = IndexFullText::new([(UuidValue(Uuid::nil()), 1, "word".to_owned())]);
        assert_eq!(
            postgres_sql(&query),
            "INSERT INTO message_words (chat_id, seq, words) SELECT column1, column2, column3::tsvector \
             FROM (VALUES ($1, $2, $3)) AS fresh"
        );
        assert_eq!(
            sqlite_sql(&query),
            "INSERT INTO message_words (rowid, words) SELECT messages.pk, fresh.column3 FROM (VALUES (?, ?, ?)) \
             AS fresh JOIN messages ON messages.chat_id = fresh.column1 AND messages.seq = fresh.column2"
        );
    }

    #[test]
    fn words_are_removed_by_key_on_postgres_and_by_row_id_on_sqlite() {
        let query = DeleteFullText(UuidValue(Uuid::nil()), 1);
        assert_eq!(postgres_sql(&query), "DELETE FROM message_words WHERE chat_id = $1 AND seq = $2");
        assert_eq!(
            sqlite_sql(&query),
            "DELETE FROM message_words WHERE rowid = (SELECT pk FROM messages WHERE chat_id = ? AND seq = ?)"
        );
    }

    #[test]
    fn words_of_many_messages_are_removed_by_one_statement() {
        let query = DeleteFullTexts::new([(UuidValue(Uuid::nil()), 1), (UuidValue(Uuid::nil()), 2)]);
        assert_eq!(
            postgres_sql(&query),
            "DELETE FROM message_words WHERE (chat_id, seq) IN (VALUES ($1, $2), ($3, $4))"
        );
        assert_eq!(
            sqlite_sql(&query),
            "DELETE FROM message_words WHERE rowid IN (SELECT pk FROM messages WHERE (chat_id, seq) IN \
             (VALUES (?, ?), (?, ?)))"
        );
    }

    #[test]
    fn search_matches_in_the_syntax_of_each_engine() {
        let query = MatchesFullText { tsquery: "'word'".into(), fts5: "\"word\"".into() };
        assert_eq!(
            postgres_sql(&query),
            "(messages.chat_id, messages.seq) IN (SELECT chat_id, seq FROM message_words WHERE words @@ $1::tsquery)"
        );
        assert_eq!(sqlite_sql(&query), "messages.pk IN (SELECT rowid FROM message_words WHERE message_words MATCH ?)");
    }
}
