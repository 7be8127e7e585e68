//! The full-text index of messages: FTS5's on SQLite, `tsvector` on PostgreSQL.

use diesel::backend::Backend;
use diesel::expression::Expression;
use diesel::pg::Pg;
use diesel::query_builder::{AstPass, QueryFragment, QueryId};
use diesel::result::QueryResult;
use diesel::serialize::ToSql;
use diesel::sql_types::{BigInt, Bool, HasSqlType, Text};
use diesel::sqlite::Sqlite;

use crate::storage::column_types::{Id, Key};
use crate::storage::sql::fragments::{Bind, WithRows};

/// Puts the words of messages into the full-text index: chat, place, and the words as the engine
/// takes them.
pub struct IndexWords(WithRows);

impl IndexWords {
    pub fn new(rows: impl IntoIterator<Item = (Key, i64, String)>) -> Self {
        let row = |(chat, seq, words)| vec![Bind::Id(chat), Bind::Number(seq), Bind::Text(words)];
        Self(WithRows { before: "", rows: rows.into_iter().map(row).collect(), after: "" })
    }
}

impl QueryId for IndexWords {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl QueryFragment<Pg> for IndexWords {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql(
            "INSERT INTO message_words (chat_id, seq, words) SELECT column1, column2, column3::tsvector FROM ",
        );
        self.0.walk_ast(out.reborrow())?;
        out.push_sql(" AS fresh");
        Ok(())
    }
}

impl QueryFragment<Sqlite> for IndexWords {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Sqlite>) -> QueryResult<()> {
        out.push_sql("INSERT INTO message_words (rowid, words) SELECT messages.pk, fresh.column3 FROM ");
        self.0.walk_ast(out.reborrow())?;
        out.push_sql(" AS fresh JOIN messages ON messages.chat_id = fresh.column1 AND messages.seq = fresh.column2");
        Ok(())
    }
}

/// Takes the words of one message out of the full-text index.
#[derive(Debug, Clone, Copy)]
pub struct ForgetWords(pub Key, pub i64);

impl QueryId for ForgetWords {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl ForgetWords {
    fn walk<'b, DB>(&'b self, mut out: AstPass<'_, 'b, DB>, before: &str, after: &str) -> QueryResult<()>
    where
        DB: Backend + HasSqlType<Id>,
        Key: ToSql<Id, DB>,
        i64: ToSql<BigInt, DB>,
    {
        out.push_sql(before);
        out.push_sql("chat_id = ");
        out.push_bind_param::<Id, _>(&self.0)?;
        out.push_sql(" AND seq = ");
        out.push_bind_param::<BigInt, _>(&self.1)?;
        out.push_sql(after);
        Ok(())
    }
}

impl QueryFragment<Pg> for ForgetWords {
    fn walk_ast<'b>(&'b self, out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        self.walk(out, "DELETE FROM message_words WHERE ", "")
    }
}

impl QueryFragment<Sqlite> for ForgetWords {
    fn walk_ast<'b>(&'b self, out: AstPass<'_, 'b, Sqlite>) -> QueryResult<()> {
        self.walk(out, "DELETE FROM message_words WHERE rowid = (SELECT pk FROM messages WHERE ", ")")
    }
}

/// A condition of `messages`: the full-text index has all that is searched for.
#[derive(Debug, Clone)]
pub struct HasWords {
    pub tsquery: String,
    pub fts5: String,
}

impl Expression for HasWords {
    type SqlType = Bool;
}

impl QueryId for HasWords {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl QueryFragment<Pg> for HasWords {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.unsafe_to_cache_prepared();
        out.push_sql("(messages.chat_id, messages.seq) IN (SELECT chat_id, seq FROM message_words WHERE words @@ ");
        out.push_bind_param::<Text, _>(&self.tsquery)?;
        out.push_sql("::tsquery)");
        Ok(())
    }
}

impl QueryFragment<Sqlite> for HasWords {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Sqlite>) -> QueryResult<()> {
        out.unsafe_to_cache_prepared();
        out.push_sql("messages.pk IN (SELECT rowid FROM message_words WHERE message_words MATCH ");
        out.push_bind_param::<Text, _>(&self.fts5)?;
        out.push_sql(")");
        Ok(())
    }
}
