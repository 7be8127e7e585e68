//! Conditions on keys, whose first column is always the bucket.
//!
//! A distributed database runs a statement where the rows of the buckets are that it names.

use diesel::backend::Backend;
use diesel::dsl;
use diesel::expression::{AppearsOnTable, Expression, SelectableExpression, ValidGrouping, is_aggregate};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::query_builder::{AstPass, QueryFragment, QueryId};
use diesel::result::QueryResult;
use diesel::serialize::ToSql;
use diesel::sql_types::{Array, Bool, HasSqlType, Integer};
use diesel::sqlite::Sqlite;

use crate::domain::ids::ChatId;
use crate::storage::column_types::{SqlUuid, UuidValue, chat_key};
use crate::storage::sql::statement_cache::disable_cache_above;

/// The condition `bucket = … AND id = …`.
pub type OfKey<B, C> = dsl::And<dsl::Eq<B, i32>, dsl::Eq<C, UuidValue>, Bool>;

/// Returns the condition that the columns of a bucket and an id have the values of a key.
pub fn of_key<B, C>(columns: (B, C), key: (i32, UuidValue)) -> OfKey<B, C>
where
    B: Expression<SqlType = Integer>,
    C: Expression<SqlType = SqlUuid>,
{
    columns.0.eq(key.0).and(columns.1.eq(key.1))
}

/// Returns the condition that a row belongs to a chat.
pub fn of_chat<B, C>(columns: (B, C), chat: ChatId) -> OfKey<B, C>
where
    B: Expression<SqlType = Integer>,
    C: Expression<SqlType = SqlUuid>,
{
    of_key(columns, chat_key(chat))
}

/// Two or three columns of a key, of which the first is the bucket.
pub trait KeyColumns {
    type Bucket: Expression<SqlType = Integer>;
    /// The columns of the list of keys.
    const LISTED: &'static str;

    fn bucket(&self) -> &Self::Bucket;
}

impl<A: Expression<SqlType = Integer>, B> KeyColumns for (A, B) {
    type Bucket = A;
    const LISTED: &'static str = "column1, column2";

    fn bucket(&self) -> &A {
        &self.0
    }
}

impl<A: Expression<SqlType = Integer>, B, C> KeyColumns for (A, B, C) {
    type Bucket = A;
    const LISTED: &'static str = "column1, column2, column3";

    fn bucket(&self) -> &A {
        &self.0
    }
}

/// The values of the columns of a key, of which the first is the number of the bucket.
pub trait KeyValues {
    fn bucket(&self) -> i32;
}

impl<B> KeyValues for (i32, B) {
    fn bucket(&self) -> i32 {
        self.0
    }
}

impl<B, C> KeyValues for (i32, B, C) {
    fn bucket(&self) -> i32 {
        self.0
    }
}

/// The values of a key that a backend can bind as those of the columns `C`.
pub trait BindKey<C, DB: Backend>: KeyValues {
    /// Writes the placeholders of the values and binds the values to them.
    ///
    /// # Errors
    ///
    /// Returns an error if a value cannot be serialised.
    fn push_values<'b>(&'b self, out: &mut AstPass<'_, 'b, DB>) -> QueryResult<()>;
}

impl<A, B, T, DB> BindKey<(A, B), DB> for (i32, T)
where
    DB: Backend + HasSqlType<Integer> + HasSqlType<B::SqlType>,
    B: Expression,
    i32: ToSql<Integer, DB>,
    T: ToSql<B::SqlType, DB>,
{
    fn push_values<'b>(&'b self, out: &mut AstPass<'_, 'b, DB>) -> QueryResult<()> {
        out.push_bind_param::<Integer, _>(&self.0)?;
        out.push_sql(", ");
        out.push_bind_param::<B::SqlType, _>(&self.1)
    }
}

impl<A, B, C, T, U, DB> BindKey<(A, B, C), DB> for (i32, T, U)
where
    DB: Backend + HasSqlType<Integer> + HasSqlType<B::SqlType> + HasSqlType<C::SqlType>,
    B: Expression,
    C: Expression,
    i32: ToSql<Integer, DB>,
    T: ToSql<B::SqlType, DB>,
    U: ToSql<C::SqlType, DB>,
{
    fn push_values<'b>(&'b self, out: &mut AstPass<'_, 'b, DB>) -> QueryResult<()> {
        out.push_bind_param::<Integer, _>(&self.0)?;
        out.push_sql(", ");
        out.push_bind_param::<B::SqlType, _>(&self.1)?;
        out.push_sql(", ");
        out.push_bind_param::<C::SqlType, _>(&self.2)
    }
}

/// The condition `(bucket, …) IN (SELECT … FROM (VALUES (…), …))`.
///
/// If there are no keys, no row meets it. The shorter `IN (VALUES …)` makes SQLite read the whole table. On PostgreSQL
/// the condition names the bucket too, or several as an array: a distributed database does not look for them in the
/// list of keys.
pub struct KeysIn<C, K> {
    columns: C,
    keys: Vec<K>,
    buckets: Vec<i32>,
}

/// Returns the condition that the columns have the values of one of the keys.
pub fn keys_in<C: KeyColumns, K: KeyValues>(columns: C, keys: impl IntoIterator<Item = K>) -> KeysIn<C, K> {
    let keys: Vec<K> = keys.into_iter().collect();
    let mut buckets: Vec<i32> = keys.iter().map(KeyValues::bucket).collect();
    buckets.sort_unstable();
    buckets.dedup();
    KeysIn { columns, keys, buckets }
}

impl<C, K> Expression for KeysIn<C, K> {
    type SqlType = Bool;
}

impl<C: AppearsOnTable<Q>, K, Q> AppearsOnTable<Q> for KeysIn<C, K> {}

impl<C, K, Q> SelectableExpression<Q> for KeysIn<C, K> where Self: AppearsOnTable<Q> {}

impl<C, K, G> ValidGrouping<G> for KeysIn<C, K> {
    type IsAggregate = is_aggregate::No;
}

impl<C, K> QueryId for KeysIn<C, K> {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl<C: KeyColumns, K> KeysIn<C, K> {
    /// Writes the condition on all columns for at least one key.
    fn walk_keys<'b, DB: Backend>(&'b self, mut out: AstPass<'_, 'b, DB>) -> QueryResult<()>
    where
        C: QueryFragment<DB>,
        K: BindKey<C, DB>,
    {
        out.push_sql("(");
        self.columns.walk_ast(out.reborrow())?;
        out.push_sql(") IN (SELECT ");
        out.push_sql(C::LISTED);
        out.push_sql(" FROM (VALUES ");
        for (index, key) in self.keys.iter().enumerate() {
            out.push_sql(if index == 0 { "(" } else { ", (" });
            key.push_values(&mut out)?;
            out.push_sql(")");
        }
        out.push_sql(") AS keys)");
        Ok(())
    }
}

impl<C, K> QueryFragment<Pg> for KeysIn<C, K>
where
    C: KeyColumns<Bucket: QueryFragment<Pg>> + QueryFragment<Pg>,
    K: BindKey<C, Pg>,
{
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        disable_cache_above(&mut out, self.keys.len());
        if self.keys.is_empty() {
            out.push_sql("1 = 0");
            return Ok(());
        }
        out.push_sql("(");
        self.columns.bucket().walk_ast(out.reborrow())?;
        if let [bucket] = self.buckets.as_slice() {
            out.push_sql(" = ");
            out.push_bind_param::<Integer, _>(bucket)?;
        } else {
            out.push_sql(" = ANY(");
            out.push_bind_param::<Array<Integer>, _>(&self.buckets)?;
            out.push_sql(")");
        }
        out.push_sql(" AND ");
        self.walk_keys(out.reborrow())?;
        out.push_sql(")");
        Ok(())
    }
}

impl<C, K> QueryFragment<Sqlite> for KeysIn<C, K>
where
    C: KeyColumns + QueryFragment<Sqlite>,
    K: BindKey<C, Sqlite>,
{
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Sqlite>) -> QueryResult<()> {
        disable_cache_above(&mut out, self.keys.len());
        if self.keys.is_empty() {
            out.push_sql("1 = 0");
            return Ok(());
        }
        self.walk_keys(out)
    }
}

/// The condition `bucket >= 0`, which every row meets.
///
/// It says that a statement means to read every bucket, and therefore every machine of a distributed database.
pub struct AllBuckets<B>(B);

/// Returns the condition that a row belongs to any bucket.
pub fn all_buckets<B: Expression<SqlType = Integer>>(bucket: B) -> AllBuckets<B> {
    AllBuckets(bucket)
}

impl<B> Expression for AllBuckets<B> {
    type SqlType = Bool;
}

impl<B: AppearsOnTable<Q>, Q> AppearsOnTable<Q> for AllBuckets<B> {}

impl<B, Q> SelectableExpression<Q> for AllBuckets<B> where Self: AppearsOnTable<Q> {}

impl<B, G> ValidGrouping<G> for AllBuckets<B> {
    type IsAggregate = is_aggregate::No;
}

impl<B> QueryId for AllBuckets<B> {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl<B: QueryFragment<Pg>> QueryFragment<Pg> for AllBuckets<B> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        self.0.walk_ast(out.reborrow())?;
        out.push_sql(" >= 0");
        Ok(())
    }
}

impl<B: QueryFragment<Sqlite>> QueryFragment<Sqlite> for AllBuckets<B> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Sqlite>) -> QueryResult<()> {
        // With the sign, SQLite does not prefer an index that begins with the bucket to one that narrows the rows.
        out.push_sql("+");
        self.0.walk_ast(out.reborrow())?;
        out.push_sql(" >= 0");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use diesel::connection::SimpleConnection;
    use diesel::prelude::*;
    use diesel::sql_types::Text;
    use uuid::Uuid;

    use super::{all_buckets, keys_in, of_chat};
    use crate::domain::ids::ChatId;
    use crate::storage::column_types::UuidValue;
    use crate::storage::schema::{calls, chats, reactions};
    use crate::storage::sql::debug_sql::{postgres_sql, sqlite_sql};

    #[derive(QueryableByName)]
    struct QueryPlanRow {
        #[diesel(sql_type = Text)]
        detail: String,
    }

    fn sqlite_plan(sql: &str) -> Vec<String> {
        let mut conn = SqliteConnection::establish(":memory:").unwrap();
        conn.batch_execute(
            "CREATE TABLE reactions (bucket INTEGER, chat_id BLOB, seq INTEGER, emoji TEXT, user_id TEXT, \
             PRIMARY KEY (bucket, chat_id, seq, emoji, user_id)) WITHOUT ROWID; \
             CREATE TABLE calls (bucket INTEGER, id BLOB, due_at INTEGER, PRIMARY KEY (bucket, id)) WITHOUT ROWID; \
             CREATE INDEX calls_due ON calls (due_at) WHERE due_at IS NOT NULL",
        )
        .unwrap();
        let plan: Vec<QueryPlanRow> = diesel::sql_query(format!("EXPLAIN QUERY PLAN {sql}")).load(&mut conn).unwrap();
        plan.into_iter().map(|row| row.detail).collect()
    }

    #[test]
    fn keys_are_looked_up_by_their_columns_and_buckets() {
        let columns = (chats::bucket, chats::id);
        let keys = [(1, UuidValue(Uuid::nil())), (2, UuidValue(Uuid::max()))];
        assert_eq!(
            postgres_sql(&keys_in(columns, keys)),
            r#"("chats"."bucket" = ANY($1) AND ("chats"."bucket", "chats"."id") IN (SELECT column1, column2 FROM (VALUES ($2, $3), ($4, $5)) AS keys))"#
        );
        assert_eq!(
            postgres_sql(&keys_in(columns, [keys[0], (1, UuidValue(Uuid::max()))])),
            r#"("chats"."bucket" = $1 AND ("chats"."bucket", "chats"."id") IN (SELECT column1, column2 FROM (VALUES ($2, $3), ($4, $5)) AS keys))"#
        );
        assert_eq!(
            sqlite_sql(&keys_in(columns, keys)),
            "(`chats`.`bucket`, `chats`.`id`) IN (SELECT column1, column2 FROM (VALUES (?, ?), (?, ?)) AS keys)"
        );
    }

    #[test]
    fn sqlite_finds_keys_by_index() {
        let keys = [(1, UuidValue(Uuid::nil()), 1_i64), (2, UuidValue(Uuid::max()), 2)];
        let condition = keys_in((reactions::bucket, reactions::chat_id, reactions::seq), keys);
        let plan = sqlite_plan(&sqlite_sql(&reactions::table.filter(condition).count()));
        let by_key = "SEARCH reactions USING PRIMARY KEY (bucket=? AND chat_id=? AND seq=?)";
        assert!(plan.iter().any(|detail| detail == by_key), "{plan:?}");
    }

    #[test]
    fn sqlite_reads_all_buckets_by_the_index_of_the_other_condition() {
        let due = calls::table
            .filter(all_buckets(calls::bucket))
            .filter(calls::due_at.assume_not_null().lt(calls::due_at.assume_not_null()));
        assert!(sqlite_sql(&due.select(calls::bucket)).contains("+`calls`.`bucket` >= 0"));
        let plan = sqlite_plan("SELECT bucket FROM calls WHERE +`calls`.`bucket` >= 0 AND due_at <= ?");
        assert!(plan.iter().any(|detail| detail.contains("INDEX calls_due")), "{plan:?}");
    }

    #[test]
    fn no_keys_match_no_row() {
        let none: [(i32, UuidValue, i64); 0] = [];
        let condition = keys_in((reactions::bucket, reactions::chat_id, reactions::seq), none);
        assert_eq!(postgres_sql(&condition), "1 = 0");
    }

    #[test]
    fn rows_of_a_chat_have_its_bucket_and_id() {
        let condition = of_chat((reactions::bucket, reactions::chat_id), ChatId(Uuid::nil()));
        let postgres = r#"(("reactions"."bucket" = $1) AND ("reactions"."chat_id" = $2))"#;
        assert_eq!(postgres_sql(&condition), postgres);
        assert_eq!(sqlite_sql(&condition), postgres.replace('"', "`").replace("$1", "?").replace("$2", "?"));
    }
}
