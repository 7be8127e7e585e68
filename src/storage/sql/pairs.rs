//! Lookup of rows by the two columns of their key.

use diesel::backend::Backend;
use diesel::expression::{AppearsOnTable, Expression, SelectableExpression, ValidGrouping, is_aggregate};
use diesel::query_builder::{AstPass, QueryFragment, QueryId};
use diesel::result::QueryResult;
use diesel::serialize::ToSql;
use diesel::sql_types::{Bool, HasSqlType};

use crate::storage::sql::statement_cache::disable_cache_above;

/// The condition `(a, b) IN (SELECT … FROM (VALUES (…), …))`, which no row meets if there are no pairs.
///
/// The shorter `IN (VALUES …)` makes SQLite read the whole table.
pub struct PairsIn<A, B, T, U> {
    columns: (A, B),
    pairs: Vec<(T, U)>,
}

/// Returns the condition that the two columns have one of the `pairs` of values.
pub fn pairs_in<A, B, T, U>(columns: (A, B), pairs: impl IntoIterator<Item = (T, U)>) -> PairsIn<A, B, T, U> {
    PairsIn { columns, pairs: pairs.into_iter().collect() }
}

impl<A, B, T, U> Expression for PairsIn<A, B, T, U> {
    type SqlType = Bool;
}

impl<A, B, T, U, Q> AppearsOnTable<Q> for PairsIn<A, B, T, U>
where
    A: AppearsOnTable<Q>,
    B: AppearsOnTable<Q>,
{
}

impl<A, B, T, U, Q> SelectableExpression<Q> for PairsIn<A, B, T, U> where Self: AppearsOnTable<Q> {}

impl<A, B, T, U, G> ValidGrouping<G> for PairsIn<A, B, T, U> {
    type IsAggregate = is_aggregate::No;
}

impl<A, B, T, U> QueryId for PairsIn<A, B, T, U> {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl<A, B, T, U, DB> QueryFragment<DB> for PairsIn<A, B, T, U>
where
    DB: Backend + HasSqlType<A::SqlType> + HasSqlType<B::SqlType>,
    A: QueryFragment<DB> + Expression,
    B: QueryFragment<DB> + Expression,
    T: ToSql<A::SqlType, DB>,
    U: ToSql<B::SqlType, DB>,
{
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, DB>) -> QueryResult<()> {
        disable_cache_above(&mut out, self.pairs.len());
        if self.pairs.is_empty() {
            out.push_sql("1 = 0");
            return Ok(());
        }
        out.push_sql("(");
        self.columns.0.walk_ast(out.reborrow())?;
        out.push_sql(", ");
        self.columns.1.walk_ast(out.reborrow())?;
        out.push_sql(") IN (SELECT column1, column2 FROM (VALUES ");
        for (index, (first, second)) in self.pairs.iter().enumerate() {
            out.push_sql(if index == 0 { "(" } else { ", (" });
            out.push_bind_param::<A::SqlType, _>(first)?;
            out.push_sql(", ");
            out.push_bind_param::<B::SqlType, _>(second)?;
            out.push_sql(")");
        }
        out.push_sql(") AS pairs)");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use diesel::connection::SimpleConnection;
    use diesel::prelude::*;
    use diesel::sql_types::Text;
    use uuid::Uuid;

    use super::pairs_in;
    use crate::storage::column_types::UuidValue;
    use crate::storage::schema::reactions;
    use crate::storage::sql::debug_sql::{postgres_sql, sqlite_sql};

    #[derive(QueryableByName)]
    struct QueryPlanRow {
        #[diesel(sql_type = Text)]
        detail: String,
    }

    #[test]
    fn sqlite_finds_pairs_by_index() {
        let mut conn = SqliteConnection::establish(":memory:").unwrap();
        conn.batch_execute(include_str!("../../../migrations/sqlite/00000000000001_foundation/up.sql")).unwrap();
        let pairs = [(UuidValue(Uuid::nil()), 1_i64), (UuidValue(Uuid::max()), 2)];
        let query = reactions::table.filter(pairs_in((reactions::chat_id, reactions::seq), pairs)).count();
        let explain = diesel::sql_query(format!("EXPLAIN QUERY PLAN {}", sqlite_sql(&query)));
        let plan: Vec<QueryPlanRow> = explain.load(&mut conn).unwrap();
        let plan: Vec<_> = plan.into_iter().map(|row| row.detail).collect();
        assert!(plan.iter().any(|detail| detail.starts_with("SEARCH reactions")), "{plan:?}");
    }

    #[test]
    fn no_pairs_match_no_row() {
        let none: [(UuidValue, i64); 0] = [];
        assert_eq!(postgres_sql(&pairs_in((reactions::chat_id, reactions::seq), none)), "1 = 0");
    }
}
