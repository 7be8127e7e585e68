//! SQL without its static type.
//!
//! Every diesel query has a type of its own, and diesel-async's code that runs a query is generic over that type on
//! both engines. With the type erased, this code is compiled once per type of row instead of once per query.

use std::marker::PhantomData;

use diesel::pg::Pg;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::result::QueryResult;
use diesel::sqlite::Sqlite;

/// A statement, or a part of one, that can write itself for both engines.
pub trait EngineSql: Send {
    /// Writes the SQL of PostgreSQL.
    ///
    /// # Errors
    ///
    /// Returns an error if a value cannot be serialised.
    fn walk_postgres<'b>(&'b self, out: AstPass<'_, 'b, Pg>) -> QueryResult<()>;

    /// Writes the SQL of SQLite.
    ///
    /// # Errors
    ///
    /// Returns an error if a value cannot be serialised.
    fn walk_sqlite<'b>(&'b self, out: AstPass<'_, 'b, Sqlite>) -> QueryResult<()>;
}

impl<T: QueryFragment<Pg> + QueryFragment<Sqlite> + Send> EngineSql for T {
    fn walk_postgres<'b>(&'b self, out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        self.walk_ast(out)
    }

    fn walk_sqlite<'b>(&'b self, out: AstPass<'_, 'b, Sqlite>) -> QueryResult<()> {
        self.walk_ast(out)
    }
}

/// A statement, or a part of one, of any static type; a query's rows have the SQL type `ST`.
///
/// It has no static id, so prepared statements are cached by their SQL text. diesel-async builds that text for each
/// run anyway.
pub struct ErasedSql<'q, ST> {
    sql: Box<dyn EngineSql + 'q>,
    sql_type: PhantomData<fn() -> ST>,
}

impl<'q, ST> ErasedSql<'q, ST> {
    /// Erases the type of `sql`.
    pub fn new(sql: impl EngineSql + 'q) -> Self {
        Self { sql: Box::new(sql), sql_type: PhantomData }
    }
}

impl<ST> Query for ErasedSql<'_, ST> {
    type SqlType = ST;
}

impl<ST> QueryId for ErasedSql<'_, ST> {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl<ST> QueryFragment<Pg> for ErasedSql<'_, ST> {
    fn walk_ast<'b>(&'b self, out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        self.sql.walk_postgres(out)
    }
}

impl<ST> QueryFragment<Sqlite> for ErasedSql<'_, ST> {
    fn walk_ast<'b>(&'b self, out: AstPass<'_, 'b, Sqlite>) -> QueryResult<()> {
        self.sql.walk_sqlite(out)
    }
}
