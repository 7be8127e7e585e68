//! Queries without their static type.
//!
//! A diesel query has a type of its own, and diesel-async's code that runs a query is generic over that type on both
//! engines. With the type erased this code is compiled once per type of row, which saves a fifth of the build.

use std::marker::PhantomData;

use diesel::pg::Pg;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::result::QueryResult;
use diesel::sqlite::Sqlite;

/// A statement that can write itself for both engines.
pub trait EngineStatement: Send {
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

impl<T: QueryFragment<Pg> + QueryFragment<Sqlite> + Send> EngineStatement for T {
    fn walk_postgres<'b>(&'b self, out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        self.walk_ast(out)
    }

    fn walk_sqlite<'b>(&'b self, out: AstPass<'_, 'b, Sqlite>) -> QueryResult<()> {
        self.walk_ast(out)
    }
}

/// A statement of any type whose rows have the SQL type `ST`.
///
/// It has no static id, so prepared statements are cached by their SQL text. diesel-async builds that text for each
/// run anyway.
pub struct ErasedQuery<'q, ST> {
    statement: Box<dyn EngineStatement + 'q>,
    sql_type: PhantomData<fn() -> ST>,
}

impl<'q, ST> ErasedQuery<'q, ST> {
    pub fn new(statement: impl EngineStatement + 'q) -> Self {
        Self { statement: Box::new(statement), sql_type: PhantomData }
    }
}

impl<ST> Query for ErasedQuery<'_, ST> {
    type SqlType = ST;
}

impl<ST> QueryId for ErasedQuery<'_, ST> {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl<ST> QueryFragment<Pg> for ErasedQuery<'_, ST> {
    fn walk_ast<'b>(&'b self, out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        self.statement.walk_postgres(out)
    }
}

impl<ST> QueryFragment<Sqlite> for ErasedQuery<'_, ST> {
    fn walk_ast<'b>(&'b self, out: AstPass<'_, 'b, Sqlite>) -> QueryResult<()> {
        self.statement.walk_sqlite(out)
    }
}
