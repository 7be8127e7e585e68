//! SQL that diesel can't write for both engines, one small type each.

use std::marker::PhantomData;

use diesel::Table;
use diesel::backend::Backend;
use diesel::expression::{AppearsOnTable, Expression, SelectableExpression, ValidGrouping, is_aggregate};
use diesel::insertable::Insertable;
use diesel::pg::Pg;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId, ValuesClause};
use diesel::result::QueryResult;
use diesel::serialize::ToSql;
use diesel::sql_types::{BigInt, Bool, HasSqlType, Text};
use diesel::sqlite::Sqlite;

use super::types::{Id, Instant, Key, Time};
use crate::domain::pages::End;

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
        out.unsafe_to_cache_prepared();
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

/// `(a, b) IN (VALUES (…), …)`: rows by the two columns of their key. No pairs is no rows.
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
        out.unsafe_to_cache_prepared();
        if self.pairs.is_empty() {
            out.push_sql("1 = 0");
            return Ok(());
        }
        out.push_sql("(");
        self.columns.0.walk_ast(out.reborrow())?;
        out.push_sql(", ");
        self.columns.1.walk_ast(out.reborrow())?;
        out.push_sql(") IN (VALUES ");
        for (index, (one, other)) in self.pairs.iter().enumerate() {
            out.push_sql(if index == 0 { "(" } else { ", (" });
            out.push_bind_param::<A::SqlType, _>(one)?;
            out.push_sql(", ");
            out.push_bind_param::<B::SqlType, _>(other)?;
            out.push_sql(")");
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
pub struct Each<Q>(pub Vec<Q>);

/// Most queries of one [`Each`]: SQLite takes 500 terms of a compound SELECT.
pub const MOST_EACH: usize = 400;

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

/// What a group of sends leaves in the rows of its chats and members: one UPDATE of many rows, each
/// with values of its own.
pub struct AfterSends<K> {
    rows: Vec<(Key, K, i64, Time)>,
    _key: PhantomData<K>,
}

/// The last place and time of each chat that a group of sends grew.
pub fn grow_chats(rows: impl IntoIterator<Item = (Key, i64, Time)>) -> AfterSends<()> {
    let rows = rows.into_iter().map(|(chat, seq, at)| (chat, (), seq, at)).collect();
    AfterSends { rows, _key: PhantomData }
}

/// The last place and time at which each member posted: a send reads up to itself.
pub fn note_posts(rows: impl IntoIterator<Item = (Key, String, i64, Time)>) -> AfterSends<String> {
    let rows = rows.into_iter().collect();
    AfterSends { rows, _key: PhantomData }
}

impl<K> QueryId for AfterSends<K> {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl<DB> QueryFragment<DB> for AfterSends<()>
where
    DB: Backend + HasSqlType<Id> + HasSqlType<Instant>,
    Key: ToSql<Id, DB>,
    Time: ToSql<Instant, DB>,
    i64: ToSql<BigInt, DB>,
{
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, DB>) -> QueryResult<()> {
        out.unsafe_to_cache_prepared();
        out.push_sql(
            "UPDATE chats SET version = sent.column2, last_seq = sent.column2, last_activity_at = sent.column3 FROM (VALUES ",
        );
        for (index, (chat, (), seq, at)) in self.rows.iter().enumerate() {
            out.push_sql(if index == 0 { "(" } else { ", (" });
            out.push_bind_param::<Id, _>(chat)?;
            out.push_sql(", ");
            out.push_bind_param::<BigInt, _>(seq)?;
            out.push_sql(", ");
            out.push_bind_param::<Instant, _>(at)?;
            out.push_sql(")");
        }
        out.push_sql(") AS sent WHERE chats.id = sent.column1");
        Ok(())
    }
}

impl<DB> QueryFragment<DB> for AfterSends<String>
where
    DB: Backend + HasSqlType<Id> + HasSqlType<Instant>,
    Key: ToSql<Id, DB>,
    Time: ToSql<Instant, DB>,
    String: ToSql<Text, DB>,
    i64: ToSql<BigInt, DB>,
{
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, DB>) -> QueryResult<()> {
        out.unsafe_to_cache_prepared();
        out.push_sql(
            "UPDATE members SET last_read_seq = posted.column3, last_read_at = posted.column4, \
             last_posted_at = posted.column4 FROM (VALUES ",
        );
        for (index, (chat, user, seq, at)) in self.rows.iter().enumerate() {
            out.push_sql(if index == 0 { "(" } else { ", (" });
            out.push_bind_param::<Id, _>(chat)?;
            out.push_sql(", ");
            out.push_bind_param::<Text, _>(user)?;
            out.push_sql(", ");
            out.push_bind_param::<BigInt, _>(seq)?;
            out.push_sql(", ");
            out.push_bind_param::<Instant, _>(at)?;
            out.push_sql(")");
        }
        out.push_sql(") AS posted WHERE members.chat_id = posted.column1 AND members.user_id = posted.column2");
        Ok(())
    }
}
