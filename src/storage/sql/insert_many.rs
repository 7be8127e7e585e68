//! `INSERT` of many rows in one statement.

use diesel::Table;
use diesel::backend::Backend;
use diesel::insertable::Insertable;
use diesel::query_builder::{AstPass, QueryFragment, QueryId, ValuesClause};
use diesel::result::QueryResult;

use crate::storage::sql::statement_cache::disable_cache_above;

/// One `INSERT` of at least one row.
///
/// Diesel has no such statement for SQLite over an async connection.
pub struct InsertMany<Tab: Table, V> {
    into: Tab::FromClause,
    rows: Vec<ValuesClause<V, Tab>>,
}

/// Returns a statement that inserts all `rows`; running it without rows is an error.
pub fn insert_many<Tab, T, V>(table: Tab, rows: impl IntoIterator<Item = T>) -> InsertMany<Tab, V>
where
    Tab: Table,
    T: Insertable<Tab, Values = ValuesClause<V, Tab>>,
{
    InsertMany { into: table.from_clause(), rows: rows.into_iter().map(Insertable::values).collect() }
}

impl<Tab, V, DB> QueryFragment<DB> for InsertMany<Tab, V>
where
    DB: Backend,
    Tab: Table,
    Tab::FromClause: QueryFragment<DB>,
    ValuesClause<V, Tab>: QueryFragment<DB>,
    V: QueryFragment<DB>,
{
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, DB>) -> QueryResult<()> {
        disable_cache_above(&mut out, self.rows.len());
        let Some((first, rest)) = self.rows.split_first() else {
            return Err(diesel::result::Error::QueryBuilderError("no rows to insert".into()));
        };
        out.push_sql("INSERT INTO ");
        self.into.walk_ast(out.reborrow())?;
        out.push_sql(" ");
        first.walk_ast(out.reborrow())?;
        for row in rest {
            out.push_sql(", (");
            row.values.walk_ast(out.reborrow())?;
            out.push_sql(")");
        }
        Ok(())
    }
}

impl<Tab: Table, V> QueryId for InsertMany<Tab, V> {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

#[cfg(test)]
mod tests {
    use diesel::prelude::*;

    use super::insert_many;
    use crate::storage::schema::mentions;
    use crate::storage::sql::debug_sql::{postgres_sql, sqlite_sql};

    #[test]
    fn rows_share_one_list_of_columns() {
        let rows =
            [("alice", 1_i64), ("bob", 2)].map(|(user, seq)| (mentions::user_id.eq(user), mentions::seq.eq(seq)));
        let query = insert_many(mentions::table, rows);
        assert_eq!(postgres_sql(&query), r#"INSERT INTO "mentions" ("user_id", "seq") VALUES ($1, $2), ($3, $4)"#);
        assert_eq!(sqlite_sql(&query), "INSERT INTO `mentions` (`user_id`, `seq`) VALUES (?, ?), (?, ?)");
    }
}
