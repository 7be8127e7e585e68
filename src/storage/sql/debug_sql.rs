//! The SQL text of a query on each engine, for the log and for unit tests.

use diesel::debug_query;
use diesel::pg::Pg;
use diesel::query_builder::QueryFragment;
use diesel::sqlite::Sqlite;

/// Returns the SQL that a query has on PostgreSQL, without its bind values.
pub fn postgres_sql<Q: QueryFragment<Pg>>(query: &Q) -> String {
    without_binds(&debug_query::<Pg, _>(query).to_string())
}

/// Returns the SQL that a query has on SQLite, without its bind values.
pub fn sqlite_sql<Q: QueryFragment<Sqlite>>(query: &Q) -> String {
    without_binds(&debug_query::<Sqlite, _>(query).to_string())
}

fn without_binds(text: &str) -> String {
    text.split_once(" -- binds").map_or(text, |(sql, _)| sql).to_owned()
}
