//! Several queries of one shape as one statement.

use diesel::backend::Backend;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::result::QueryResult;

use crate::storage::connection::{Conn, LoadQuery, RunQueryDsl};

/// The maximum number of queries in one [`UnionAll`]: SQLite accepts 500 terms in a compound SELECT.
const MAX_QUERIES: usize = 400;

/// Queries that are joined by `UNION ALL`.
///
/// It reads one page of each of many lists, each by an index range of its own.
pub struct UnionAll<Q>(Vec<Q>);

/// Joins queries, in their order, into as few statements as can hold them.
pub fn union_all<Q>(queries: impl IntoIterator<Item = Q>) -> Vec<UnionAll<Q>> {
    let mut queries = queries.into_iter();
    let statements = std::iter::from_fn(|| {
        let batch: Vec<Q> = queries.by_ref().take(MAX_QUERIES).collect();
        (!batch.is_empty()).then_some(UnionAll(batch))
    });
    statements.collect()
}

/// Runs joined queries and returns the rows of each query.
///
/// The first column of each row has to be the number of its query, counted from 0 to `queries`.
///
/// # Errors
///
/// Returns the error of the first statement that fails.
pub async fn load_union<'q, Q, U>(
    conn: &mut Conn,
    queries: usize,
    statements: Vec<UnionAll<Q>>,
) -> QueryResult<Vec<Vec<U>>>
where
    U: Send + 'q,
    Q: Send,
    UnionAll<Q>: LoadQuery<'q, (i64, U)>,
{
    let mut rows_by_query: Vec<Vec<U>> = std::iter::repeat_with(Vec::new).take(queries).collect();
    for statement in statements {
        for (number, row) in statement.load(conn).await? {
            if let Some(rows) = usize::try_from(number).ok().and_then(|number| rows_by_query.get_mut(number)) {
                rows.push(row);
            }
        }
    }
    Ok(rows_by_query)
}

impl<Q: Query> Query for UnionAll<Q> {
    type SqlType = Q::SqlType;
}

impl<Q> QueryId for UnionAll<Q> {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl<Q: QueryFragment<DB>, DB: Backend> QueryFragment<DB> for UnionAll<Q> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, DB>) -> QueryResult<()> {
        out.unsafe_to_cache_prepared();
        for (index, query) in self.0.iter().enumerate() {
            out.push_sql(if index == 0 { "SELECT * FROM (" } else { " UNION ALL SELECT * FROM (" });
            query.walk_ast(out.reborrow())?;
            out.push_sql(") AS part");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use diesel::prelude::*;

    use super::{MAX_QUERIES, union_all};
    use crate::storage::schema::organizations;
    use crate::storage::sql::debug_sql::sqlite_sql;

    #[test]
    fn queries_are_joined_into_as_few_statements_as_possible() {
        let query = || organizations::table.select(organizations::id);
        let statements = union_all(std::iter::repeat_with(query).take(MAX_QUERIES + 2));
        let [_, last] = statements.as_slice() else { panic!("{} statements", statements.len()) };
        assert_eq!(
            sqlite_sql(last),
            "SELECT * FROM (SELECT `organizations`.`id` FROM `organizations`) AS part \
             UNION ALL SELECT * FROM (SELECT `organizations`.`id` FROM `organizations`) AS part"
        );
        assert!(union_all(std::iter::empty::<organizations::table>()).is_empty());
    }
}
