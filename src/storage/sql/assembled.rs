//! Statements whose text is put together while the server runs, because their tables are values.

use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::result::QueryResult;
use diesel::sql_types::Text;

use crate::storage::sql::values_statement::{BindValue, BindValues};

/// A statement of SQL and bound values; as a query it returns one text per row.
#[derive(Debug, Clone, Default)]
pub struct AssembledSql(Vec<Part>);

#[derive(Debug, Clone)]
enum Part {
    Sql(String),
    Value(BindValue),
}

impl AssembledSql {
    /// Begins a statement.
    pub fn new(sql: impl Into<String>) -> Self {
        Self(vec![Part::Sql(sql.into())])
    }

    /// Adds SQL, which must not contain values from outside.
    #[must_use]
    pub fn sql(mut self, sql: impl Into<String>) -> Self {
        self.0.push(Part::Sql(sql.into()));
        self
    }

    /// Adds a value.
    #[must_use]
    pub fn bind(mut self, value: impl Into<BindValue>) -> Self {
        self.0.push(Part::Value(value.into()));
        self
    }

    /// Adds another statement's parts.
    #[must_use]
    pub fn append(mut self, mut other: Self) -> Self {
        self.0.append(&mut other.0);
        self
    }
}

impl Query for AssembledSql {
    type SqlType = Text;
}

impl QueryId for AssembledSql {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl<DB: BindValues> QueryFragment<DB> for AssembledSql {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, DB>) -> QueryResult<()> {
        out.unsafe_to_cache_prepared();
        for part in &self.0 {
            match part {
                Part::Sql(sql) => out.push_sql(sql),
                Part::Value(value) => DB::push_bind(&mut out, value)?,
            }
        }
        Ok(())
    }
}
