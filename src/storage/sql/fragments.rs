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

use crate::domain::pagination::End;
use crate::storage::column_types::{Id, Instant, Key, Time};
use crate::storage::connection::{Conn, Postgres, RunQueryDsl};

/// Locks the rows that a query selects until the transaction ends. A SQLite transaction that
/// writes is alone already.
#[derive(Debug, Clone, Copy, QueryId)]
pub struct Locked<Q>(pub Q);

impl<Q: Query> Query for Locked<Q> {
    type SqlType = Q::SqlType;
}

impl<Q: QueryFragment<Pg>> QueryFragment<Pg> for Locked<Q> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        self.0.walk_ast(out.reborrow())?;
        out.push_sql(" FOR UPDATE");
        Ok(())
    }
}

impl<Q: QueryFragment<Sqlite>> QueryFragment<Sqlite> for Locked<Q> {
    fn walk_ast<'b>(&'b self, out: AstPass<'_, 'b, Sqlite>) -> QueryResult<()> {
        self.0.walk_ast(out)
    }
}

/// Rows or keys of one statement, where their number has no bound of its own: SQLite binds at most
/// 32,766 values.
pub const MOST_ROWS: usize = 2_000;

/// Statements of no more rows than this are prepared once and kept, one for each number; most are. The rest would
/// fill each connection's memory with numbers that hardly come again.
const KEPT_ROWS: usize = 4;

/// Says how long a statement of so many rows is kept.
fn keep<DB: Backend>(out: &mut AstPass<'_, '_, DB>, rows: usize) {
    if rows > KEPT_ROWS {
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
        keep(&mut out, self.rows.len());
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
        keep(&mut out, self.pairs.len());
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
pub struct OneOf<A, T> {
    column: A,
    keys: Vec<T>,
}

pub fn one_of<A, T>(column: A, keys: impl IntoIterator<Item = T>) -> OneOf<A, T> {
    OneOf { column, keys: keys.into_iter().collect() }
}

impl<A, T> Expression for OneOf<A, T> {
    type SqlType = Bool;
}

impl<A: AppearsOnTable<Q>, T, Q> AppearsOnTable<Q> for OneOf<A, T> {}

impl<A, T, Q> SelectableExpression<Q> for OneOf<A, T> where Self: AppearsOnTable<Q> {}

impl<A, T, G> ValidGrouping<G> for OneOf<A, T> {
    type IsAggregate = is_aggregate::No;
}

impl<A, T> QueryId for OneOf<A, T> {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl<A, T> QueryFragment<Pg> for OneOf<A, T>
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

impl<A, T> QueryFragment<Sqlite> for OneOf<A, T>
where
    A: QueryFragment<Sqlite> + Expression,
    Sqlite: HasSqlType<A::SqlType>,
    T: ToSql<A::SqlType, Sqlite>,
{
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Sqlite>) -> QueryResult<()> {
        keep(&mut out, self.keys.len());
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
pub struct All<'a>(Vec<Box<dyn Fragment + 'a>>);

impl<'a> All<'a> {
    pub fn new() -> Self {
        Self::default()
    }

    #[must_use]
    pub fn and(mut self, condition: impl Fragment + 'a) -> Self {
        self.0.push(Box::new(condition));
        self
    }

    #[must_use]
    pub fn and_some<C: Fragment + 'a>(self, condition: Option<C>) -> Self {
        match condition {
            Some(condition) => self.and(condition),
            None => self,
        }
    }
}

impl Expression for All<'_> {
    type SqlType = Bool;
}

impl<Q> AppearsOnTable<Q> for All<'_> {}

impl<Q> SelectableExpression<Q> for All<'_> {}

impl<G> ValidGrouping<G> for All<'_> {
    type IsAggregate = is_aggregate::No;
}

impl QueryId for All<'_> {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl<'a, DB: Backend> QueryFragment<DB> for All<'a>
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
pub struct Directed<E> {
    key: E,
    descending: bool,
}

impl<E> Directed<E> {
    pub fn from(end: End, key: E) -> Self {
        Self { key, descending: end == End::Last }
    }
}

impl<E: Expression> Expression for Directed<E> {
    type SqlType = diesel::expression::expression_types::NotSelectable;
}

impl<E: AppearsOnTable<Q> + Expression, Q> AppearsOnTable<Q> for Directed<E> {}

impl<E: SelectableExpression<Q> + Expression, Q> SelectableExpression<Q> for Directed<E> {}

impl<E: ValidGrouping<G>, G> ValidGrouping<G> for Directed<E> {
    type IsAggregate = E::IsAggregate;
}

impl<E> QueryId for Directed<E> {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl<E: QueryFragment<DB>, DB: Backend> QueryFragment<DB> for Directed<E> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, DB>) -> QueryResult<()> {
        self.key.walk_ast(out.reborrow())?;
        out.push_sql(if self.descending { " DESC" } else { " ASC" });
        Ok(())
    }
}

/// Several queries of one shape as one statement (`UNION ALL`): a page of each of many lists, each
/// by its own index range.
pub struct Each<Q>(Vec<Q>);

/// Most queries of one [`Each`]: SQLite takes 500 terms of a compound SELECT.
const MOST_EACH: usize = 400;

/// As few statements as hold these queries, in their order.
pub fn each<Q>(queries: impl IntoIterator<Item = Q>) -> Vec<Each<Q>> {
    let mut queries = queries.into_iter();
    let statements = std::iter::from_fn(|| {
        let some: Vec<Q> = queries.by_ref().take(MOST_EACH).collect();
        (!some.is_empty()).then_some(Each(some))
    });
    statements.collect()
}

/// Runs such statements; each row says by its number of which query it is.
pub async fn load_each<'q, Q, U>(conn: &mut Conn, queries: usize, statements: Vec<Each<Q>>) -> QueryResult<Vec<Vec<U>>>
where
    U: Send,
    Q: Send,
    Each<Q>: LoadQuery<'q, Postgres, (i64, U)> + LoadQuery<'q, crate::storage::connection::Sqlite, (i64, U)> + 'q,
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

impl<Q: Query> Query for Each<Q> {
    type SqlType = Q::SqlType;
}

impl<Q> QueryId for Each<Q> {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl<Q: QueryFragment<DB>, DB: Backend> QueryFragment<DB> for Each<Q> {
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
pub enum Bind {
    Id(Key),
    Text(String),
    Number(i64),
    Flag(bool),
    Time(Option<Time>),
}

/// A backend that can take every [`Bind`].
pub trait Binds: Backend + HasSqlType<Id> + HasSqlType<Instant> + HasSqlType<Bool> {
    fn push<'b>(out: &mut AstPass<'_, 'b, Self>, bind: &'b Bind) -> QueryResult<()>;
}

impl<DB> Binds for DB
where
    DB: Backend + HasSqlType<Id> + HasSqlType<Instant> + HasSqlType<Bool>,
    Key: ToSql<Id, DB>,
    Time: ToSql<Instant, DB>,
    String: ToSql<Text, DB>,
    i64: ToSql<BigInt, DB>,
    bool: ToSql<Bool, DB>,
    Option<Time>: ToSql<Nullable<Instant>, DB>,
{
    fn push<'b>(out: &mut AstPass<'_, 'b, Self>, bind: &'b Bind) -> QueryResult<()> {
        match bind {
            Bind::Id(key) => out.push_bind_param::<Id, _>(key),
            Bind::Text(text) => out.push_bind_param::<Text, _>(text),
            Bind::Number(number) => out.push_bind_param::<BigInt, _>(number),
            Bind::Flag(flag) => out.push_bind_param::<Bool, _>(flag),
            Bind::Time(time) => out.push_bind_param::<Nullable<Instant>, _>(time),
        }
    }
}

/// A statement around `(VALUES …)`, whose columns SQL calls `column1`, `column2` and so on.
#[derive(Debug, Clone)]
pub struct WithRows {
    pub(super) before: &'static str,
    pub(super) rows: Vec<Vec<Bind>>,
    pub(super) after: &'static str,
}

impl QueryId for WithRows {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl<DB: Binds> QueryFragment<DB> for WithRows {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, DB>) -> QueryResult<()> {
        keep(&mut out, self.rows.len());
        out.push_sql(self.before);
        out.push_sql("(VALUES ");
        for (index, row) in self.rows.iter().enumerate() {
            out.push_sql(if index == 0 { "(" } else { ", (" });
            for (place, bind) in row.iter().enumerate() {
                if place > 0 {
                    out.push_sql(", ");
                }
                DB::push(&mut out, bind)?;
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
pub fn grow_chats(rows: impl IntoIterator<Item = (Key, i64, i64, Time, Time)>) -> WithRows {
    let row = |(chat, version, seq, active_at, changed_at)| {
        let times = [Bind::Time(Some(active_at)), Bind::Time(Some(changed_at))];
        [Bind::Id(chat), Bind::Number(version), Bind::Number(seq)].into_iter().chain(times).collect()
    };
    WithRows {
        before: "UPDATE chats SET version = sent.column2, last_seq = sent.column3, last_activity_at = sent.column4, \
                 changed_at = sent.column5 FROM ",
        rows: rows.into_iter().map(row).collect(),
        after: " AS sent WHERE chats.id = sent.column1",
    }
}

/// Where members stand who posted: chat, person, last read place and its time, whether they marked
/// the chat unread, and when they posted.
pub fn note_posts(rows: impl IntoIterator<Item = (Key, String, i64, Option<Time>, bool, Time)>) -> WithRows {
    let row = |(chat, user, seq, read_at, unread, at)| {
        let read = [Bind::Number(seq), Bind::Time(read_at), Bind::Flag(unread)];
        [Bind::Id(chat), Bind::Text(user)].into_iter().chain(read).chain([Bind::Time(Some(at))]).collect()
    };
    WithRows {
        before: "UPDATE members SET last_read_seq = posted.column3, last_read_at = posted.column4, \
                 marked_unread = posted.column5, last_posted_at = posted.column6, moved_at = posted.column6, \
                 shown_at = posted.column6 FROM ",
        rows: rows.into_iter().map(row).collect(),
        after: " AS posted WHERE members.chat_id = posted.column1 AND members.user_id = posted.column2",
    }
}

/// The roots of threads that grew: chat, place, version, number of replies.
pub fn grow_threads(rows: impl IntoIterator<Item = (Key, i64, i64, i64)>) -> WithRows {
    let row = |(chat, seq, version, replies)| {
        vec![Bind::Id(chat), Bind::Number(seq), Bind::Number(version), Bind::Number(replies)]
    };
    WithRows {
        before: "UPDATE messages SET version = grown.column3, reply_count = grown.column4 FROM ",
        rows: rows.into_iter().map(row).collect(),
        after: " AS grown WHERE messages.chat_id = grown.column1 AND messages.seq = grown.column2",
    }
}

/// When people were last there: organisation, person, moment.
pub fn note_last_seen(rows: impl IntoIterator<Item = (String, String, Time)>) -> WithRows {
    let row = |(organization, user, at)| vec![Bind::Text(organization), Bind::Text(user), Bind::Time(Some(at))];
    WithRows {
        before: "UPDATE users SET last_seen_at = seen.column3 FROM ",
        rows: rows.into_iter().map(row).collect(),
        after: " AS seen WHERE users.organization_id = seen.column1 AND users.id = seen.column2 \
                AND (users.last_seen_at IS NULL OR users.last_seen_at < seen.column3)",
    }
}

/// Keeps whose chats are about to be deleted: chat, and the moment. Who had left before was without it
/// since then.
pub fn keep_removals(rows: impl IntoIterator<Item = (Key, Time)>) -> WithRows {
    let row = |(chat, at)| vec![Bind::Id(chat), Bind::Time(Some(at))];
    WithRows {
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
    use crate::storage::column_types::Key;
    use crate::storage::schema::reactions;

    #[derive(QueryableByName)]
    struct Step {
        #[diesel(sql_type = Text)]
        detail: String,
    }

    #[test]
    fn sqlite_finds_pairs_by_their_index() {
        let mut conn = SqliteConnection::establish(":memory:").unwrap();
        conn.batch_execute(include_str!("../../../migrations/sqlite/00000000000001_foundation/up.sql")).unwrap();
        let pairs = [(Key(Uuid::nil()), 1_i64), (Key(Uuid::max()), 2)];
        let query = reactions::table.filter(pairs_in((reactions::chat_id, reactions::seq), pairs)).count();
        let sql = diesel::debug_query::<Sqlite, _>(&query).to_string();
        let (sql, _) = sql.split_once(" -- binds").unwrap();
        let steps: Vec<Step> = diesel::sql_query(format!("EXPLAIN QUERY PLAN {sql}")).load(&mut conn).unwrap();
        let steps: Vec<_> = steps.into_iter().map(|step| step.detail).collect();
        assert!(steps.iter().any(|step| step.starts_with("SEARCH reactions")), "{steps:?}");
    }
}
