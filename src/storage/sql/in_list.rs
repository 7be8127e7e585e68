//! `column IN (…)` as a prepared statement on both engines.

use diesel::expression::{AppearsOnTable, Expression, SelectableExpression, ValidGrouping, is_aggregate};
use diesel::pg::Pg;
use diesel::query_builder::{AstPass, QueryFragment, QueryId};
use diesel::result::QueryResult;
use diesel::serialize::ToSql;
use diesel::sql_types::{Array, Bool, HasSqlType};
use diesel::sqlite::Sqlite;

use crate::storage::sql::statement_cache::disable_cache_above;

/// The condition that a column has one of several values, which no row meets if there are no values.
///
/// It is used for the most frequent lookups in place of diesel's `eq_any`, which SQLite prepares again each time.
pub struct InList<A, T> {
    column: A,
    keys: Vec<T>,
}

/// Returns the condition that `column` has one of the values `keys`.
pub fn in_list<A, T>(column: A, keys: impl IntoIterator<Item = T>) -> InList<A, T> {
    InList { column, keys: keys.into_iter().collect() }
}

impl<A, T> Expression for InList<A, T> {
    type SqlType = Bool;
}

impl<A: AppearsOnTable<Q>, T, Q> AppearsOnTable<Q> for InList<A, T> {}

impl<A, T, Q> SelectableExpression<Q> for InList<A, T> where Self: AppearsOnTable<Q> {}

impl<A, T, G> ValidGrouping<G> for InList<A, T> {
    type IsAggregate = is_aggregate::No;
}

impl<A, T> QueryId for InList<A, T> {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl<A, T> QueryFragment<Pg> for InList<A, T>
where
    A: QueryFragment<Pg> + Expression<SqlType: 'static>,
    Pg: HasSqlType<Array<A::SqlType>>,
    Vec<T>: ToSql<Array<A::SqlType>, Pg>,
{
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        self.column.walk_ast(out.reborrow())?;
        out.push_sql(" = ANY(");
        out.push_bind_param::<Array<A::SqlType>, _>(&self.keys)?;
        out.push_sql(")");
        Ok(())
    }
}

impl<A, T> QueryFragment<Sqlite> for InList<A, T>
where
    A: QueryFragment<Sqlite> + Expression,
    Sqlite: HasSqlType<A::SqlType>,
    T: ToSql<A::SqlType, Sqlite>,
{
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Sqlite>) -> QueryResult<()> {
        disable_cache_above(&mut out, self.keys.len());
        self.column.walk_ast(out.reborrow())?;
        out.push_sql(" IN (");
        for (index, key) in self.keys.iter().enumerate() {
            if index > 0 {
                out.push_sql(", ");
            }
            out.push_bind_param::<A::SqlType, _>(key)?;
        }
        out.push_sql(")");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::in_list;
    use crate::storage::schema::users;
    use crate::storage::sql::debug_sql::{postgres_sql, sqlite_sql};

    #[test]
    fn keys_are_one_array_on_postgres_and_a_list_on_sqlite() {
        let query = in_list(users::id, ["alice", "bob"]);
        assert_eq!(postgres_sql(&query), r#""users"."id" = ANY($1)"#);
        assert_eq!(sqlite_sql(&query), "`users`.`id` IN (?, ?)");
        assert_eq!(sqlite_sql(&in_list(users::id, Vec::<&str>::new())), "`users`.`id` IN ()");
    }
}
