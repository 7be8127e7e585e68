//! SQL that diesel can't write for both engines, one small type each; for full-text search in `words`.

use diesel::Table;
use diesel::backend::Backend;
use diesel::expression::{AppearsOnTable, Expression, SelectableExpression, ValidGrouping, is_aggregate};
use diesel::insertable::Insertable;
use diesel::pg::Pg;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId, ValuesClause};
use diesel::result::QueryResult;
use diesel::serialize::ToSql;
use diesel::sql_types::{Array, BigInt, Bool, HasSqlType, Nullable, Text};
use diesel::sqlite::Sqlite;
use diesel_async::methods::LoadQuery;

use crate::domain::pagination::PageEnd;
use crate::storage::column_types::{SqlTimestamp, SqlUuid, TimestampValue, UuidValue};
use crate::storage::connection::{Conn, PostgresConn, RunQueryDsl};

/// Locks the rows that a query selects until the transaction ends. A SQLite transaction that
/// writes is alone already.
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

/// Rows or keys of one statement, where their number has no bound of its own: SQLite binds at most
/// 32,766 values.
pub const MAX_ROWS: usize = 2_000;

/// Statements of no more rows than this are prepared once and kept, one for each number; most are. The rest would
/// fill each connection's memory with numbers that hardly come again.
const MAX_CACHED_ROWS: usize = 4;

/// Says how long a statement of so many rows is kept.
fn disable_cache_above<DB: Backend>(out: &mut AstPass<'_, '_, DB>, rows: usize) {
    if rows > MAX_CACHED_ROWS {
        out.unsafe_to_cache_prepared();
    }
}

/// One INSERT of many rows, at least one. Diesel has none for SQLite over an async connection.
pub struct InsertRows<Tab: Table, V> {
    into: Tab::FromClause,
    rows: Vec<ValuesClause<V, Tab>>,
}

pub fn insert_rows<Tab, T, V>(table: Tab, rows: impl IntoIterator<Item = T>) -> InsertRows<Tab, V>
where
    Tab: Table,
    T: Insertable<Tab, Values = ValuesClause<V, Tab>>,
{
    InsertRows { into: table.from_clause(), rows: rows.into_iter().map(Insertable::values).collect() }
}

impl<Tab, V, DB> QueryFragment<DB> for InsertRows<Tab, V>
where
    DB: Backend,
    Tab: Table,
    Tab::FromClause: QueryFragment<DB>,
    ValuesClause<V, Tab>: QueryFragment<DB>,
    V: QueryFragment<DB>,
{
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, DB>) -> QueryResult<()> {
        disable_cache_above(&mut out, self.rows.len());
        let Some((first, rest)) = self.rows.split_first() else {
            return Err(diesel::result::Error::QueryBuilderError("no rows to insert".into()));
        };
        out.push_sql("INSERT INTO ");
        self.into.walk_ast(out.reborrow())?;
        out.push_sql(" ");
        first.walk_ast(out.reborrow())?;
        for row in rest {
            out.push_sql(", (");
            row.values.walk_ast(out.reborrow())?;
            out.push_sql(")");
        }
        Ok(())
    }
}

impl<Tab: Table, V> QueryId for InsertRows<Tab, V> {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

/// `(a, b) IN (SELECT … FROM (VALUES (…), …))`: rows by the two columns of their key. No pairs is no
/// rows. (`IN (VALUES …)` alone makes SQLite read the whole table.)
pub struct PairsIn<A, B, T, U> {
    columns: (A, B),
    pairs: Vec<(T, U)>,
}

pub fn pairs_in<A, B, T, U>(columns: (A, B), pairs: impl IntoIterator<Item = (T, U)>) -> PairsIn<A, B, T, U> {
    PairsIn { columns, pairs: pairs.into_iter().collect() }
}

impl<A, B, T, U> Expression for PairsIn<A, B, T, U> {
    type SqlType = Bool;
}

impl<A, B, T, U, Q> AppearsOnTable<Q> for PairsIn<A, B, T, U>
where
    A: AppearsOnTable<Q>,
    B: AppearsOnTable<Q>,
{
}

impl<A, B, T, U, Q> SelectableExpression<Q> for PairsIn<A, B, T, U> where Self: AppearsOnTable<Q> {}

impl<A, B, T, U, G> ValidGrouping<G> for PairsIn<A, B, T, U> {
    type IsAggregate = is_aggregate::No;
}

impl<A, B, T, U> QueryId for PairsIn<A, B, T, U> {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl<A, B, T, U, DB> QueryFragment<DB> for PairsIn<A, B, T, U>
where
    DB: Backend + HasSqlType<A::SqlType> + HasSqlType<B::SqlType>,
    A: QueryFragment<DB> + Expression,
    B: QueryFragment<DB> + Expression,
    T: ToSql<A::SqlType, DB>,
    U: ToSql<B::SqlType, DB>,
{
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, DB>) -> QueryResult<()> {
        disable_cache_above(&mut out, self.pairs.len());
        if self.pairs.is_empty() {
            out.push_sql("1 = 0");
            return Ok(());
        }
        out.push_sql("(");
        self.columns.0.walk_ast(out.reborrow())?;
        out.push_sql(", ");
        self.columns.1.walk_ast(out.reborrow())?;
        out.push_sql(") IN (SELECT column1, column2 FROM (VALUES ");
        for (index, (one, other)) in self.pairs.iter().enumerate() {
            out.push_sql(if index == 0 { "(" } else { ", (" });
            out.push_bind_param::<A::SqlType, _>(one)?;
            out.push_sql(", ");
            out.push_bind_param::<B::SqlType, _>(other)?;
            out.push_sql(")");
        }
        out.push_sql(") AS pairs)");
        Ok(())
    }
}

/// `a IN (…)`, as diesel's `eq_any`, for the look-ups that are made most: SQLite keeps the statement too. No keys is
/// no rows.
pub struct InList<A, T> {
    column: A,
    keys: Vec<T>,
}

pub fn in_list<A, T>(column: A, keys: impl IntoIterator<Item = T>) -> InList<A, T> {
    InList { column, keys: keys.into_iter().collect() }
}

impl<A, T> Expression for InList<A, T> {
    type SqlType = Bool;
}

impl<A: AppearsOnTable<Q>, T, Q> AppearsOnTable<Q> for InList<A, T> {}

impl<A, T, Q> SelectableExpression<Q> for InList<A, T> where Self: AppearsOnTable<Q> {}

impl<A, T, G> ValidGrouping<G> for InList<A, T> {
    type IsAggregate = is_aggregate::No;
}

impl<A, T> QueryId for InList<A, T> {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl<A, T> QueryFragment<Pg> for InList<A, T>
where
    A: QueryFragment<Pg> + Expression<SqlType: 'static>,
    Pg: HasSqlType<Array<A::SqlType>>,
    Vec<T>: ToSql<Array<A::SqlType>, Pg>,
{
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        self.column.walk_ast(out.reborrow())?;
        out.push_sql(" = ANY(");
        out.push_bind_param::<Array<A::SqlType>, _>(&self.keys)?;
        out.push_sql(")");
        Ok(())
    }
}

impl<A, T> QueryFragment<Sqlite> for InList<A, T>
where
    A: QueryFragment<Sqlite> + Expression,
    Sqlite: HasSqlType<A::SqlType>,
    T: ToSql<A::SqlType, Sqlite>,
{
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Sqlite>) -> QueryResult<()> {
        disable_cache_above(&mut out, self.keys.len());
        self.column.walk_ast(out.reborrow())?;
        out.push_sql(" IN (");
        for (index, key) in self.keys.iter().enumerate() {
            if index > 0 {
                out.push_sql(", ");
            }
            out.push_bind_param::<A::SqlType, _>(key)?;
        }
        out.push_sql(")");
        Ok(())
    }
}

/// A piece of SQL that both engines can read.
pub trait Fragment: QueryFragment<Pg> + QueryFragment<Sqlite> + Send {}

impl<T: QueryFragment<Pg> + QueryFragment<Sqlite> + Send> Fragment for T {}

/// Conditions chosen at run time, all of which hold. (`into_boxed` would tie a query to one engine.)
#[derive(Default)]
pub struct Conditions<'a>(Vec<Box<dyn Fragment + 'a>>);

impl<'a> Conditions<'a> {
    pub fn new() -> Self {
        Self::default()
    }

    #[must_use]
    pub fn and(mut self, condition: impl Fragment + 'a) -> Self {
        self.0.push(Box::new(condition));
        self
    }

    #[must_use]
    pub fn and_option<C: Fragment + 'a>(self, condition: Option<C>) -> Self {
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
    dyn Fragment + 'a: QueryFragment<DB>,
{
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, DB>) -> QueryResult<()> {
        out.push_sql("(1 = 1");
        for condition in &self.0 {
            out.push_sql(" AND (");
            QueryFragment::<DB>::walk_ast(&**condition, out.reborrow())?;
            out.push_sql(")");
        }
        out.push_sql(")");
        Ok(())
    }
}

/// An order whose direction is chosen at run time: a list is read from either end by one query.
#[derive(Debug, Clone, Copy)]
pub struct OrderFrom<E> {
    key: E,
    descending: bool,
}

impl<E> OrderFrom<E> {
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

/// Several queries of one shape as one statement (`UNION ALL`): a page of each of many lists, each
/// by its own index range.
pub struct UnionAll<Q>(Vec<Q>);

/// Most queries of one [`Each`]: SQLite takes 500 terms of a compound SELECT.
const MAX_UNION: usize = 400;

/// As few statements as hold these queries, in their order.
pub fn union_all<Q>(queries: impl IntoIterator<Item = Q>) -> Vec<UnionAll<Q>> {
    let mut queries = queries.into_iter();
    let statements = std::iter::from_fn(|| {
        let some: Vec<Q> = queries.by_ref().take(MAX_UNION).collect();
        (!some.is_empty()).then_some(UnionAll(some))
    });
    statements.collect()
}

/// Runs such statements; each row says by its number of which query it is.
pub async fn load_union<'q, Q, U>(
    conn: &mut Conn,
    queries: usize,
    statements: Vec<UnionAll<Q>>,
) -> QueryResult<Vec<Vec<U>>>
where
    U: Send,
    Q: Send,
    UnionAll<Q>:
        LoadQuery<'q, PostgresConn, (i64, U)> + LoadQuery<'q, crate::storage::connection::SqliteConn, (i64, U)> + 'q,
{
    let mut found: Vec<Vec<U>> = std::iter::repeat_with(Vec::new).take(queries).collect();
    for statement in statements {
        for (number, row) in statement.load(conn).await? {
            if let Some(rows) = usize::try_from(number).ok().and_then(|number| found.get_mut(number)) {
                rows.push(row);
            }
        }
    }
    Ok(found)
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

/// One value of a row of values.
#[derive(Debug, Clone)]
pub enum BindValue {
    Uuid(UuidValue),
    Text(String),
    BigInt(i64),
    Bool(bool),
    Timestamp(Option<TimestampValue>),
}

/// A backend that can take every [`Bind`].
pub trait BindValues: Backend + HasSqlType<SqlUuid> + HasSqlType<SqlTimestamp> + HasSqlType<Bool> {
    fn push_bind<'b>(out: &mut AstPass<'_, 'b, Self>, bind: &'b BindValue) -> QueryResult<()>;
}

impl<DB> BindValues for DB
where
    DB: Backend + HasSqlType<SqlUuid> + HasSqlType<SqlTimestamp> + HasSqlType<Bool>,
    UuidValue: ToSql<SqlUuid, DB>,
    TimestampValue: ToSql<SqlTimestamp, DB>,
    String: ToSql<Text, DB>,
    i64: ToSql<BigInt, DB>,
    bool: ToSql<Bool, DB>,
    Option<TimestampValue>: ToSql<Nullable<SqlTimestamp>, DB>,
{
    fn push_bind<'b>(out: &mut AstPass<'_, 'b, Self>, bind: &'b BindValue) -> QueryResult<()> {
        match bind {
            BindValue::Uuid(key) => out.push_bind_param::<SqlUuid, _>(key),
            BindValue::Text(text) => out.push_bind_param::<Text, _>(text),
            BindValue::BigInt(number) => out.push_bind_param::<BigInt, _>(number),
            BindValue::Bool(flag) => out.push_bind_param::<Bool, _>(flag),
            BindValue::Timestamp(time) => out.push_bind_param::<Nullable<SqlTimestamp>, _>(time),
        }
    }
}

/// A statement around `(VALUES …)`, whose columns SQL calls `column1`, `column2` and so on.
#[derive(Debug, Clone)]
pub struct ValuesStatement {
    pub(super) before: &'static str,
    pub(super) rows: Vec<Vec<BindValue>>,
    pub(super) after: &'static str,
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
            for (place, bind) in row.iter().enumerate() {
                if place > 0 {
                    out.push_sql(", ");
                }
                DB::push_bind(&mut out, bind)?;
            }
            out.push_sql(")");
        }
        out.push_sql(")");
        out.push_sql(self.after);
        Ok(())
    }
}

/// Where chats stand after a group of sends: id, version, newest place, times of the last activity and
/// of the last change.
pub fn update_chat_counters(
    rows: impl IntoIterator<Item = (UuidValue, i64, i64, TimestampValue, TimestampValue)>,
) -> ValuesStatement {
    let row = |(chat, version, seq, active_at, changed_at)| {
        let times = [BindValue::Timestamp(Some(active_at)), BindValue::Timestamp(Some(changed_at))];
        [BindValue::Uuid(chat), BindValue::BigInt(version), BindValue::BigInt(seq)].into_iter().chain(times).collect()
    };
    ValuesStatement {
        before: "UPDATE chats SET version = sent.column2, last_seq = sent.column3, last_activity_at = sent.column4, \
                 changed_at = sent.column5 FROM ",
        rows: rows.into_iter().map(row).collect(),
        after: " AS sent WHERE chats.id = sent.column1",
    }
}

/// Where members stand who posted: chat, person, last read place and its time, whether they marked
/// the chat unread, and when they posted.
pub fn update_last_posts(
    rows: impl IntoIterator<Item = (UuidValue, String, i64, Option<TimestampValue>, bool, TimestampValue)>,
) -> ValuesStatement {
    let row = |(chat, user, seq, read_at, unread, at)| {
        let read = [BindValue::BigInt(seq), BindValue::Timestamp(read_at), BindValue::Bool(unread)];
        [BindValue::Uuid(chat), BindValue::Text(user)]
            .into_iter()
            .chain(read)
            .chain([BindValue::Timestamp(Some(at))])
            .collect()
    };
    ValuesStatement {
        before: "UPDATE members SET last_read_seq = posted.column3, last_read_at = posted.column4, \
                 marked_unread = posted.column5, last_posted_at = posted.column6, moved_at = posted.column6, \
                 shown_at = posted.column6 FROM ",
        rows: rows.into_iter().map(row).collect(),
        after: " AS posted WHERE members.chat_id = posted.column1 AND members.user_id = posted.column2",
    }
}

/// The roots of threads that grew: chat, place, version, number of replies.
pub fn update_thread_counts(rows: impl IntoIterator<Item = (UuidValue, i64, i64, i64)>) -> ValuesStatement {
    let row = |(chat, seq, version, replies)| {
        vec![BindValue::Uuid(chat), BindValue::BigInt(seq), BindValue::BigInt(version), BindValue::BigInt(replies)]
    };
    ValuesStatement {
        before: "UPDATE messages SET version = grown.column3, reply_count = grown.column4 FROM ",
        rows: rows.into_iter().map(row).collect(),
        after: " AS grown WHERE messages.chat_id = grown.column1 AND messages.seq = grown.column2",
    }
}

/// When people were last there: organisation, person, moment.
pub fn update_last_seen(rows: impl IntoIterator<Item = (String, String, TimestampValue)>) -> ValuesStatement {
    let row = |(organization, user, at)| {
        vec![BindValue::Text(organization), BindValue::Text(user), BindValue::Timestamp(Some(at))]
    };
    ValuesStatement {
        before: "UPDATE users SET last_seen_at = seen.column3 FROM ",
        rows: rows.into_iter().map(row).collect(),
        after: " AS seen WHERE users.organization_id = seen.column1 AND users.id = seen.column2 \
                AND (users.last_seen_at IS NULL OR users.last_seen_at < seen.column3)",
    }
}

/// Keeps whose chats are about to be deleted: chat, and the moment. Who had left before was without it
/// since then.
pub fn insert_removals(rows: impl IntoIterator<Item = (UuidValue, TimestampValue)>) -> ValuesStatement {
    let row = |(chat, at)| vec![BindValue::Uuid(chat), BindValue::Timestamp(Some(at))];
    ValuesStatement {
        before: "INSERT INTO removals (organization_id, user_id, removed_at, chat_id) \
                 SELECT members.organization_id, members.user_id, COALESCE(members.left_at, gone.column2), \
                 members.chat_id FROM members JOIN ",
        rows: rows.into_iter().map(row).collect(),
        after: " AS gone ON members.chat_id = gone.column1",
    }
}

#[cfg(test)]
mod tests {
    use diesel::connection::SimpleConnection;
    use diesel::prelude::*;
    use diesel::sql_types::Text;
    use diesel::sqlite::Sqlite;
    use uuid::Uuid;

    use super::pairs_in;
    use crate::storage::column_types::UuidValue;
    use crate::storage::schema::reactions;

    #[derive(QueryableByName)]
    struct QueryPlanRow {
        #[diesel(sql_type = Text)]
        detail: String,
    }

    #[test]
    fn sqlite_finds_pairs_by_their_index() {
        let mut conn = SqliteConnection::establish(":memory:").unwrap();
        conn.batch_execute(include_str!("../../../migrations/sqlite/00000000000001_foundation/up.sql")).unwrap();
        let pairs = [(UuidValue(Uuid::nil()), 1_i64), (UuidValue(Uuid::max()), 2)];
        let query = reactions::table.filter(pairs_in((reactions::chat_id, reactions::seq), pairs)).count();
        let sql = diesel::debug_query::<Sqlite, _>(&query).to_string();
        let (sql, _) = sql.split_once(" -- binds").unwrap();
        let steps: Vec<QueryPlanRow> = diesel::sql_query(format!("EXPLAIN QUERY PLAN {sql}")).load(&mut conn).unwrap();
        let steps: Vec<_> = steps.into_iter().map(|step| step.detail).collect();
        assert!(steps.iter().any(|step| step.starts_with("SEARCH reactions")), "{steps:?}");
    }
}
