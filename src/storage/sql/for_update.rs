//! `SELECT … FOR UPDATE` on PostgreSQL.

use diesel::pg::Pg;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::result::QueryResult;
use diesel::sqlite::Sqlite;

/// A query that locks the rows it selects until the transaction ends.
///
/// SQLite needs no lock: its transactions that write already exclude each other.
#[derive(Debug, Clone, Copy)]
pub struct ForUpdate<Q> {
    query: Q,
    /// The end of the statement on PostgreSQL.
    lock: &'static str,
}

/// Locks the rows of a query, and waits for those that another transaction has locked.
pub fn for_update<Q>(query: Q) -> ForUpdate<Q> {
    ForUpdate { query, lock: " FOR UPDATE" }
}

/// Locks the rows of a query, and leaves out those that another transaction has locked.
///
/// On SQLite it leaves out none.
pub fn for_update_skip_locked<Q>(query: Q) -> ForUpdate<Q> {
    ForUpdate { query, lock: " FOR UPDATE SKIP LOCKED" }
}

impl<Q: Query> Query for ForUpdate<Q> {
    type SqlType = Q::SqlType;
}

impl<Q> QueryId for ForUpdate<Q> {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl<Q: QueryFragment<Pg>> QueryFragment<Pg> for ForUpdate<Q> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        self.query.walk_ast(out.reborrow())?;
        out.push_sql(self.lock);
        Ok(())
    }
}

impl<Q: QueryFragment<Sqlite>> QueryFragment<Sqlite> for ForUpdate<Q> {
    fn walk_ast<'b>(&'b self, out: AstPass<'_, 'b, Sqlite>) -> QueryResult<()> {
        self.query.walk_ast(out)
    }
}

#[cfg(test)]
mod tests {
    use diesel::prelude::*;

    use super::{for_update, for_update_skip_locked};
    use crate::storage::schema::organizations;
    use crate::storage::sql::debug_sql::{postgres_sql, sqlite_sql};

    #[test]
    fn rows_are_locked_on_postgres_only() {
        let query = || organizations::table.select(organizations::id);
        let (waiting, skipping) = (for_update(query()), for_update_skip_locked(query()));
        assert_eq!(postgres_sql(&waiting), r#"SELECT "organizations"."id" FROM "organizations" FOR UPDATE"#);
        assert_eq!(sqlite_sql(&waiting), "SELECT `organizations`.`id` FROM `organizations`");
        assert!(postgres_sql(&skipping).ends_with(" FOR UPDATE SKIP LOCKED"));
        assert_eq!(sqlite_sql(&skipping), sqlite_sql(&waiting));
    }
}
