//! The current time of the database's machine.

use diesel::expression::{AppearsOnTable, Expression, SelectableExpression, ValidGrouping, is_aggregate};
use diesel::pg::Pg;
use diesel::query_builder::{AstPass, QueryFragment, QueryId};
use diesel::result::QueryResult;
use diesel::sql_types::Nullable;
use diesel::sqlite::Sqlite;

use crate::storage::column_types::SqlTimestamp;

/// The time of PostgreSQL's clock when the row is read.
///
/// It is null on SQLite, which runs in the server's process and has no other clock.
#[derive(Debug, Clone, Copy, QueryId)]
pub struct DatabaseTime;

impl Expression for DatabaseTime {
    type SqlType = Nullable<SqlTimestamp>;
}

impl<Q> AppearsOnTable<Q> for DatabaseTime {}

impl<Q> SelectableExpression<Q> for DatabaseTime {}

impl<G> ValidGrouping<G> for DatabaseTime {
    type IsAggregate = is_aggregate::Never;
}

impl QueryFragment<Pg> for DatabaseTime {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("clock_timestamp()");
        Ok(())
    }
}

impl QueryFragment<Sqlite> for DatabaseTime {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Sqlite>) -> QueryResult<()> {
        out.push_sql("NULL");
        Ok(())
    }
}
