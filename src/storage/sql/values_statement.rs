//! Statements around a list of values: updates of many rows by different values, and `INSERT … SELECT`.

use diesel::backend::Backend;
use diesel::query_builder::{AstPass, QueryFragment, QueryId};
use diesel::result::QueryResult;
use diesel::serialize::ToSql;
use diesel::sql_types::{BigInt, Bool, HasSqlType, Integer, Nullable, Text};

use crate::domain::buckets::Bucket;
use crate::storage::column_types::{SqlTimestamp, SqlUuid, TimestampValue, UuidValue};
use crate::storage::sql::statement_cache::disable_cache_above;

/// One value of a [`ValuesStatement`].
#[derive(Debug, Clone)]
pub enum BindValue {
    Uuid(UuidValue),
    Text(String),
    Integer(i32),
    BigInt(i64),
    Bool(bool),
    Timestamp(Option<TimestampValue>),
}

impl From<UuidValue> for BindValue {
    fn from(value: UuidValue) -> Self {
        Self::Uuid(value)
    }
}

impl From<&str> for BindValue {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

impl From<String> for BindValue {
    fn from(value: String) -> Self {
        Self::Text(value)
    }
}

impl From<i32> for BindValue {
    fn from(value: i32) -> Self {
        Self::Integer(value)
    }
}

impl From<i64> for BindValue {
    fn from(value: i64) -> Self {
        Self::BigInt(value)
    }
}

impl From<bool> for BindValue {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<TimestampValue> for BindValue {
    fn from(value: TimestampValue) -> Self {
        Self::Timestamp(Some(value))
    }
}

impl From<Option<TimestampValue>> for BindValue {
    fn from(value: Option<TimestampValue>) -> Self {
        Self::Timestamp(value)
    }
}

/// A backend that can bind every [`BindValue`].
pub trait BindValues: Backend + HasSqlType<SqlUuid> + HasSqlType<SqlTimestamp> + HasSqlType<Bool> {
    /// Writes the placeholder of a value and binds the value to it.
    ///
    /// # Errors
    ///
    /// Returns an error if the value cannot be serialised.
    fn push_bind<'b>(out: &mut AstPass<'_, 'b, Self>, value: &'b BindValue) -> QueryResult<()>;
}

impl<DB> BindValues for DB
where
    DB: Backend + HasSqlType<SqlUuid> + HasSqlType<SqlTimestamp> + HasSqlType<Bool>,
    UuidValue: ToSql<SqlUuid, DB>,
    TimestampValue: ToSql<SqlTimestamp, DB>,
    String: ToSql<Text, DB>,
    i32: ToSql<Integer, DB>,
    i64: ToSql<BigInt, DB>,
    bool: ToSql<Bool, DB>,
    Option<TimestampValue>: ToSql<Nullable<SqlTimestamp>, DB>,
{
    fn push_bind<'b>(out: &mut AstPass<'_, 'b, Self>, value: &'b BindValue) -> QueryResult<()> {
        match value {
            BindValue::Uuid(uuid) => out.push_bind_param::<SqlUuid, _>(uuid),
            BindValue::Text(text) => out.push_bind_param::<Text, _>(text),
            BindValue::Integer(number) => out.push_bind_param::<Integer, _>(number),
            BindValue::BigInt(number) => out.push_bind_param::<BigInt, _>(number),
            BindValue::Bool(flag) => out.push_bind_param::<Bool, _>(flag),
            BindValue::Timestamp(time) => out.push_bind_param::<Nullable<SqlTimestamp>, _>(time),
        }
    }
}

/// A statement around `(VALUES …)`, whose columns both engines name `column1`, `column2` and so on.
#[derive(Debug, Clone)]
pub struct ValuesStatement {
    before: &'static str,
    rows: Vec<Vec<BindValue>>,
    after: &'static str,
    /// A last value, which follows `after`.
    last: Option<BindValue>,
}

impl ValuesStatement {
    /// Returns the statement that has the SQL `before` and `after` around at least one row of values.
    pub fn new(before: &'static str, rows: impl IntoIterator<Item = Vec<BindValue>>, after: &'static str) -> Self {
        Self { before, rows: rows.into_iter().collect(), after, last: None }
    }

    /// Returns the statement with the number of a bucket after its last SQL, which ends with `bucket = `.
    ///
    /// A distributed database does not look for the bucket in the list of values.
    #[must_use]
    pub fn in_bucket(self, bucket: Bucket) -> Self {
        Self { last: Some(bucket.number().into()), ..self }
    }
}

impl QueryId for ValuesStatement {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl<DB: BindValues> QueryFragment<DB> for ValuesStatement {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, DB>) -> QueryResult<()> {
        disable_cache_above(&mut out, self.rows.len());
        out.push_sql(self.before);
        out.push_sql("(VALUES ");
        for (index, row) in self.rows.iter().enumerate() {
            out.push_sql(if index == 0 { "(" } else { ", (" });
            for (position, value) in row.iter().enumerate() {
                if position > 0 {
                    out.push_sql(", ");
                }
                DB::push_bind(&mut out, value)?;
            }
            out.push_sql(")");
        }
        out.push_sql(")");
        out.push_sql(self.after);
        match &self.last {
            Some(value) => DB::push_bind(&mut out, value),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::ValuesStatement;
    use crate::domain::buckets::Bucket;
    use crate::storage::sql::debug_sql::{postgres_sql, sqlite_sql};

    #[test]
    fn values_stand_between_the_parts_of_the_statement() {
        let rows = [vec!["alice".into(), 1_i64.into()], vec!["bob".into(), 2_i64.into()]];
        let statement = ValuesStatement::new("UPDATE t SET n = v.column2 FROM ", rows, " AS v WHERE t.id = v.column1");
        assert_eq!(
            postgres_sql(&statement),
            "UPDATE t SET n = v.column2 FROM (VALUES ($1, $2), ($3, $4)) AS v WHERE t.id = v.column1"
        );
        assert_eq!(
            sqlite_sql(&statement),
            "UPDATE t SET n = v.column2 FROM (VALUES (?, ?), (?, ?)) AS v WHERE t.id = v.column1"
        );
    }

    #[test]
    fn bucket_is_the_last_value() {
        let statement = ValuesStatement::new("DELETE FROM t USING ", [vec![1_i64.into()]], " AS v WHERE t.bucket = ");
        let sql = postgres_sql(&statement.in_bucket(Bucket::new(7).unwrap()));
        assert_eq!(sql, "DELETE FROM t USING (VALUES ($1)) AS v WHERE t.bucket = $2");
    }
}
