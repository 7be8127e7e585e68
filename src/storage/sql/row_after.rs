//! The condition that a row comes after a position in an order of two columns.

use diesel::backend::Backend;
use diesel::expression::{AppearsOnTable, Expression, SelectableExpression, ValidGrouping, is_aggregate};
use diesel::query_builder::{AstPass, QueryFragment, QueryId};
use diesel::result::QueryResult;
use diesel::serialize::ToSql;
use diesel::sql_types::{Bool, HasSqlType};

/// The condition `(a, b) > (…, …)`.
///
/// Both engines read it as a range of an index, unlike `a > … OR (a = … AND b > …)`.
pub struct RowAfter<A, B, T, U> {
    columns: (A, B),
    position: (T, U),
}

/// Returns the condition that a row comes after a position in the order of two columns.
pub fn row_after<A, B, T, U>(columns: (A, B), position: (T, U)) -> RowAfter<A, B, T, U> {
    RowAfter { columns, position }
}

impl<A, B, T, U> Expression for RowAfter<A, B, T, U> {
    type SqlType = Bool;
}

impl<A, B, T, U, Q> AppearsOnTable<Q> for RowAfter<A, B, T, U>
where
    A: AppearsOnTable<Q>,
    B: AppearsOnTable<Q>,
{
}

impl<A, B, T, U, Q> SelectableExpression<Q> for RowAfter<A, B, T, U> where Self: AppearsOnTable<Q> {}

impl<A, B, T, U, G> ValidGrouping<G> for RowAfter<A, B, T, U> {
    type IsAggregate = is_aggregate::No;
}

impl<A, B, T, U> QueryId for RowAfter<A, B, T, U> {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl<A, B, T, U, DB> QueryFragment<DB> for RowAfter<A, B, T, U>
where
    DB: Backend + HasSqlType<A::SqlType> + HasSqlType<B::SqlType>,
    A: QueryFragment<DB> + Expression,
    B: QueryFragment<DB> + Expression,
    T: ToSql<A::SqlType, DB>,
    U: ToSql<B::SqlType, DB>,
{
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, DB>) -> QueryResult<()> {
        out.push_sql("(");
        self.columns.0.walk_ast(out.reborrow())?;
        out.push_sql(", ");
        self.columns.1.walk_ast(out.reborrow())?;
        out.push_sql(") > (");
        out.push_bind_param::<A::SqlType, _>(&self.position.0)?;
        out.push_sql(", ");
        out.push_bind_param::<B::SqlType, _>(&self.position.1)?;
        out.push_sql(")");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::row_after;
    use crate::storage::column_types::UuidValue;
    use crate::storage::schema::messages;
    use crate::storage::sql::debug_sql::{postgres_sql, sqlite_sql};

    #[test]
    fn rows_are_compared_as_a_whole_on_both_engines() {
        let condition = row_after((messages::chat_id, messages::seq), (UuidValue(Uuid::nil()), 7_i64));
        assert_eq!(postgres_sql(&condition), r#"("messages"."chat_id", "messages"."seq") > ($1, $2)"#);
        assert_eq!(sqlite_sql(&condition), "(`messages`.`chat_id`, `messages`.`seq`) > (?, ?)");
    }
}
