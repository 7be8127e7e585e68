//! `SELECT … FOR UPDATE` on PostgreSQL.

use diesel::pg::Pg;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::result::QueryResult;
use diesel::sqlite::Sqlite;

/// A query that locks the rows it selects until the transaction ends.
///
/// SQLite needs no lock: its transactions that write already exclude each other.
#[derive(Debug, Clone, Copy, QueryId)]
pub struct ForUpdate<Q>(pub Q);

impl<Q: Query> Query for ForUpdate<Q> {
    type SqlType = Q::SqlType;
}

impl<Q: QueryFragment<Pg>> QueryFragment<Pg> for ForUpdate<Q> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        self.0.walk_ast(out.reborrow())?;
        out.push_sql(" FOR UPDATE");
        Ok(())
    }
}

impl<Q: QueryFragment<Sqlite>> QueryFragment<Sqlite> for ForUpdate<Q> {
    fn walk_ast<'b>(&'b self, out: AstPass<'_, 'b, Sqlite>) -> QueryResult<()> {
        self.0.walk_ast(out)
    }
}

/// A query that locks the rows it selects, and leaves out those that another transaction has locked.
///
/// On SQLite it leaves out none.
#[derive(Debug, Clone, Copy, QueryId)]
pub struct SkipLocked<Q>(pub ForUpdate<Q>);

impl<Q: Query> Query for SkipLocked<Q> {
    type SqlType = Q::SqlType;
}

impl<Q: QueryFragment<Pg>> QueryFragment<Pg> for SkipLocked<Q> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        self.0.walk_ast(out.reborrow())?;
        out.push_sql(" SKIP LOCKED");
        Ok(())
    }
}

impl<Q: QueryFragment<Sqlite>> QueryFragment<Sqlite> for SkipLocked<Q> {
    fn walk_ast<'b>(&'b self, out: AstPass<'_, 'b, Sqlite>) -> QueryResult<()> {
        self.0.walk_ast(out)
    }
}

#[cfg(test)]
mod tests {
    use diesel::prelude::*;

    use super::{ForUpdate, SkipLocked};
    use crate::storage::schema::organizations;
    use crate::storage::sql::debug_sql::{postgres_sql, sqlite_sql};

    #[test]
    fn rows_are_locked_on_postgres_only() {
        let query = ForUpdate(organizations::table.select(organizations::id));
        assert_eq!(postgres_sql(&query), r#"SELECT "organizations"."id" FROM "organizations" FOR UPDATE"#);
        assert_eq!(sqlite_sql(&query), "SELECT `organizations`.`id` FROM `organizations`");
        assert!(postgres_sql(&SkipLocked(query)).ends_with(" FOR UPDATE SKIP LOCKED"));
        assert_eq!(sqlite_sql(&SkipLocked(query)), sqlite_sql(&query));
    }
}
