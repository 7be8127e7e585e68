//! Several queries of one shape as one statement.

use diesel::backend::Backend;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::result::QueryResult;

use crate::error;
use crate::storage::connection::{Conn, LoadQuery, RunQueryDsl};
use crate::storage::read_budget::{LargeRow, MAX_LARGE_ROWS, charge_rows};

/// The maximum number of queries in one [`UnionAll`]: SQLite accepts 500 terms in a compound SELECT.
const MAX_QUERIES: usize = 400;

/// Queries that are joined by `UNION ALL`.
///
/// It reads one page of each of many lists, each by an index range of its own.
pub struct UnionAll<Q>(Vec<Q>);

/// Joins queries, in their order, into as few statements as can hold them.
pub fn union_all<Q>(queries: impl IntoIterator<Item = Q>) -> Vec<UnionAll<Q>> {
    // Small rows do not count.
    union_all_large(queries.into_iter().map(|query| (0, query)))
}

/// Joins queries of large rows, each with the number of rows that it can return, in their order.
///
/// A statement returns at most [`MAX_LARGE_ROWS`] rows, unless a single query does.
pub fn union_all_large<Q>(queries: impl IntoIterator<Item = (i64, Q)>) -> Vec<UnionAll<Q>> {
    let mut statements: Vec<UnionAll<Q>> = Vec::new();
    let mut rows_in_statement = 0;
    for (rows, query) in queries {
        let rows = usize::try_from(rows).unwrap_or(usize::MAX);
        match statements.last_mut() {
            Some(UnionAll(batch)) if batch.len() < MAX_QUERIES && rows_in_statement + rows <= MAX_LARGE_ROWS => {
                batch.push(query);
                rows_in_statement += rows;
            }
            _ => {
                statements.push(UnionAll(vec![query]));
                rows_in_statement = rows;
            }
        }
    }
    statements
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
) -> error::Result<Vec<Vec<U>>>
where
    U: Send + 'q,
    Q: Send,
    UnionAll<Q>: LoadQuery<'q, (i64, U)>,
{
    let mut rows_by_query: Vec<Vec<U>> = std::iter::repeat_with(Vec::new).take(queries).collect();
    for statement in statements {
        distribute(statement.load(conn).await?, &mut rows_by_query);
    }
    Ok(rows_by_query)
}

/// Runs joined queries of large rows, as [`load_union`] does, and charges their rows.
///
/// The rows of each statement are charged before the next one runs.
///
/// # Errors
///
/// Returns the error of the first statement that fails, and [`Error::OverLimit`](error::Error::OverLimit) if the rows
/// exceed the read budget of the operation.
pub async fn load_union_large<'q, Q, U>(
    conn: &mut Conn,
    queries: usize,
    statements: Vec<UnionAll<Q>>,
) -> error::Result<Vec<Vec<U>>>
where
    U: LargeRow + Send + 'q,
    Q: Send,
    UnionAll<Q>: LoadQuery<'q, (i64, U)>,
{
    let mut rows_by_query: Vec<Vec<U>> = std::iter::repeat_with(Vec::new).take(queries).collect();
    for statement in statements {
        let rows: Vec<(i64, U)> = statement.load(conn).await?;
        charge_rows(&rows)?;
        distribute(rows, &mut rows_by_query);
    }
    Ok(rows_by_query)
}

/// Appends each row to the rows of its query.
fn distribute<U>(rows: Vec<(i64, U)>, rows_by_query: &mut [Vec<U>]) {
    for (number, row) in rows {
        if let Some(rows) = usize::try_from(number).ok().and_then(|number| rows_by_query.get_mut(number)) {
            rows.push(row);
        }
    }
}

impl<U: LargeRow> LargeRow for (i64, U) {
    fn text_bytes(&self) -> usize {
        self.1.text_bytes()
    }
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

    use super::{MAX_QUERIES, union_all, union_all_large};
    use crate::storage::read_budget::MAX_LARGE_ROWS;
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

    #[test]
    fn large_queries_are_joined_up_to_the_rows_of_one_statement() {
        let lengths = |rows: &[i64]| -> Vec<usize> {
            let queries = rows.iter().map(|rows| (*rows, organizations::table.select(organizations::id)));
            union_all_large(queries).iter().map(|statement| statement.0.len()).collect()
        };
        let most = MAX_LARGE_ROWS as i64;
        assert!(lengths(&[]).is_empty());
        assert_eq!(lengths(&[1, most - 1, 1]), [2, 1]);
        assert_eq!(lengths(&[most + 1, 1, most]), [1, 1, 1]);
        assert_eq!(lengths(&vec![1; MAX_QUERIES + 1]), [MAX_QUERIES, 1]);
    }
}
