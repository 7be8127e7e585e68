//! An order whose direction is chosen at run time.

use diesel::backend::Backend;
use diesel::expression::{AppearsOnTable, Expression, SelectableExpression, ValidGrouping};
use diesel::query_builder::{AstPass, QueryFragment, QueryId};
use diesel::result::QueryResult;

use crate::domain::pagination::PageEnd;

/// The order by a key, ascending or descending, so that one query reads a list from either end.
#[derive(Debug, Clone, Copy)]
pub struct OrderFrom<E> {
    key: E,
    descending: bool,
}

impl<E> OrderFrom<E> {
    /// Returns the order that begins at one end of a list that ascends by `key`.
    pub fn new(end: PageEnd, key: E) -> Self {
        Self { key, descending: end == PageEnd::Last }
    }
}

impl<E: Expression> Expression for OrderFrom<E> {
    type SqlType = diesel::expression::expression_types::NotSelectable;
}

impl<E: AppearsOnTable<Q> + Expression, Q> AppearsOnTable<Q> for OrderFrom<E> {}

impl<E: SelectableExpression<Q> + Expression, Q> SelectableExpression<Q> for OrderFrom<E> {}

impl<E: ValidGrouping<G>, G> ValidGrouping<G> for OrderFrom<E> {
    type IsAggregate = E::IsAggregate;
}

impl<E> QueryId for OrderFrom<E> {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl<E: QueryFragment<DB>, DB: Backend> QueryFragment<DB> for OrderFrom<E> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, DB>) -> QueryResult<()> {
        self.key.walk_ast(out.reborrow())?;
        out.push_sql(if self.descending { " DESC" } else { " ASC" });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::OrderFrom;
    use crate::domain::pagination::PageEnd;
    use crate::storage::schema::messages;
    use crate::storage::sql::debug_sql::{postgres_sql, sqlite_sql};

    #[test]
    fn order_descends_from_the_last_end() {
        assert_eq!(postgres_sql(&OrderFrom::new(PageEnd::First, messages::seq)), r#""messages"."seq" ASC"#);
        assert_eq!(sqlite_sql(&OrderFrom::new(PageEnd::Last, messages::seq)), "`messages`.`seq` DESC");
    }
}
