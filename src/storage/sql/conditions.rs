//! Conditions that are chosen at run time.

use diesel::backend::Backend;
use diesel::expression::{AppearsOnTable, Expression, SelectableExpression, ValidGrouping, is_aggregate};
use diesel::query_builder::{AstPass, QueryFragment, QueryId};
use diesel::result::QueryResult;
use diesel::sql_types::Bool;

use crate::storage::erased_sql::{EngineSql, ErasedSql};

/// The conjunction of any number of conditions, which every row meets if there are none.
///
/// Diesel's `into_boxed` serves the same purpose, but ties a query to one engine.
#[derive(Default)]
pub struct Conditions<'a>(Vec<ErasedSql<'a, Bool>>);

impl<'a> Conditions<'a> {
    /// Returns a conjunction without conditions.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a condition.
    #[must_use]
    pub fn and(mut self, condition: impl EngineSql + 'a) -> Self {
        self.0.push(ErasedSql::new(condition));
        self
    }

    /// Adds a condition if there is one.
    #[must_use]
    pub fn and_option<C: EngineSql + 'a>(self, condition: Option<C>) -> Self {
        match condition {
            Some(condition) => self.and(condition),
            None => self,
        }
    }
}

impl Expression for Conditions<'_> {
    type SqlType = Bool;
}

impl<Q> AppearsOnTable<Q> for Conditions<'_> {}

impl<Q> SelectableExpression<Q> for Conditions<'_> {}

impl<G> ValidGrouping<G> for Conditions<'_> {
    type IsAggregate = is_aggregate::No;
}

impl QueryId for Conditions<'_> {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl<'a, DB: Backend> QueryFragment<DB> for Conditions<'a>
where
    ErasedSql<'a, Bool>: QueryFragment<DB>,
{
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, DB>) -> QueryResult<()> {
        out.push_sql("(1 = 1");
        for condition in &self.0 {
            out.push_sql(" AND (");
            condition.walk_ast(out.reborrow())?;
            out.push_sql(")");
        }
        out.push_sql(")");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use diesel::prelude::*;

    use super::Conditions;
    use crate::storage::schema::members;
    use crate::storage::sql::debug_sql::{postgres_sql, sqlite_sql};

    #[test]
    fn absent_conditions_are_left_out() {
        let conditions = Conditions::new()
            .and(members::pinned)
            .and_option(None::<members::marked_unread>)
            .and_option(Some(members::left_at.is_null()));
        let postgres = r#"(1 = 1 AND ("members"."pinned") AND (("members"."left_at" IS NULL)))"#;
        assert_eq!(postgres_sql(&conditions), postgres);
        assert_eq!(sqlite_sql(&conditions), postgres.replace('"', "`"));
        assert_eq!(sqlite_sql(&Conditions::new()), "(1 = 1)");
    }
}
