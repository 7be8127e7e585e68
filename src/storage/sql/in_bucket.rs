//! SQL text about the rows of one bucket.

use std::marker::PhantomData;

use diesel::backend::Backend;
use diesel::expression::{
    AppearsOnTable, Expression, SelectableExpression, TypedExpressionType, ValidGrouping, is_aggregate,
};
use diesel::query_builder::{AstPass, QueryFragment, QueryId};
use diesel::result::QueryResult;
use diesel::serialize::ToSql;
use diesel::sql_types::{HasSqlType, Integer};

/// Stands for the number of the bucket in the text of an [`InBucket`].
const BUCKET: &str = ":bucket";

/// An expression of SQL text in which `:bucket` stands for the number of one bucket, which is bound.
///
/// A distributed database finds the shards of a subquery by this number only: it does not follow the equality of a
/// subquery's bucket with that of the row around it.
pub struct InBucket<ST> {
    text: String,
    bucket: i32,
    sql_type: PhantomData<ST>,
}

impl<ST> InBucket<ST> {
    /// Returns the expression for a bucket. The text must not contain values from outside.
    pub fn new(bucket: i32, text: impl Into<String>) -> Self {
        Self { text: text.into(), bucket, sql_type: PhantomData }
    }
}

impl<ST: TypedExpressionType> Expression for InBucket<ST> {
    type SqlType = ST;
}

impl<ST, Q> AppearsOnTable<Q> for InBucket<ST> where Self: Expression {}

impl<ST, Q> SelectableExpression<Q> for InBucket<ST> where Self: Expression {}

impl<ST, G> ValidGrouping<G> for InBucket<ST> {
    type IsAggregate = is_aggregate::Never;
}

impl<ST> QueryId for InBucket<ST> {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl<ST, DB> QueryFragment<DB> for InBucket<ST>
where
    DB: Backend + HasSqlType<Integer>,
    i32: ToSql<Integer, DB>,
{
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, DB>) -> QueryResult<()> {
        for (index, part) in self.text.split(BUCKET).enumerate() {
            if index > 0 {
                out.push_bind_param::<Integer, _>(&self.bucket)?;
            }
            out.push_sql(part);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use diesel::prelude::*;
    use diesel::sql_types::BigInt;

    use super::InBucket;
    use crate::storage::schema::members;
    use crate::storage::sql::debug_sql::{postgres_sql, sqlite_sql};

    #[test]
    fn bucket_is_bound_wherever_the_text_names_it() {
        let query = || members::table.select(InBucket::<BigInt>::new(7, "(SELECT :bucket + :bucket)"));
        assert_eq!(postgres_sql(&query()), r#"SELECT (SELECT $1 + $2) FROM "members""#);
        assert_eq!(sqlite_sql(&query()), "SELECT (SELECT ? + ?) FROM `members`");
    }
}
