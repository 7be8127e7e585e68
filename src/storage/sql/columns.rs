//! The columns of a row type, as a select clause for both engines.

use diesel::expression::Selectable;
use diesel::sqlite::Sqlite;

/// Returns the columns of a row type, in the order of its fields.
///
/// Diesel's `as_select` ties a query to one engine. The derived selection itself is the same tuple of columns
/// whatever the engine, so SQLite's is used for both.
pub fn columns<R: Selectable<Sqlite>>() -> R::SelectExpression {
    R::construct_selection()
}

#[cfg(test)]
mod tests {
    use diesel::prelude::*;

    use super::columns;
    use crate::storage::schema::blocked_words;
    use crate::storage::sql::debug_sql::{postgres_sql, sqlite_sql};

    #[derive(Queryable, Selectable)]
    #[diesel(table_name = blocked_words)]
    #[expect(dead_code, reason = "only the selection is looked at")]
    struct BlockedWordRow {
        word: String,
        action: String,
    }

    #[test]
    fn columns_follow_the_fields_on_both_engines() {
        let query = blocked_words::table.select(columns::<BlockedWordRow>());
        let postgres = r#"SELECT "blocked_words"."word", "blocked_words"."action" FROM "blocked_words""#;
        assert_eq!(postgres_sql(&query), postgres);
        assert_eq!(sqlite_sql(&query), postgres.replace('"', "`"));
    }
}
