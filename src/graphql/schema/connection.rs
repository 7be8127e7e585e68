//! Connections, as the Relay cursor connections specification has them.

use async_graphql::connection::{self, Edge, EmptyFields};
use async_graphql::{ObjectType, OutputType};

use crate::domain::pagination::{DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE, Page};
use crate::error::{Error, Result};

pub type Connection<T, Extra = EmptyFields> = connection::Connection<String, T, Extra>;

/// The connection of a page: `cursor` is a place in the list, `node` what stands there.
pub fn connection<T, N>(page: Page<T>, cursor: impl Fn(&T) -> String, node: impl Fn(T) -> N) -> Connection<N>
where
    N: OutputType + ObjectType,
{
    connection_with(page, EmptyFields, cursor, node)
}

/// The same with fields of its own.
pub fn connection_with<T, N, Extra>(
    page: Page<T>,
    extra: Extra,
    cursor: impl Fn(&T) -> String,
    node: impl Fn(T) -> N,
) -> Connection<N, Extra>
where
    N: OutputType + ObjectType,
    Extra: ObjectType,
{
    let mut connection = connection::Connection::with_additional_fields(page.has_previous, page.has_next, extra);
    connection.edges = page.items.into_iter().map(|item| Edge::new(cursor(&item), node(item))).collect();
    connection
}

/// How many items a plain list is asked for.
pub fn limit(first: Option<i32>) -> Result<usize> {
    let limit = first.map_or(Some(DEFAULT_PAGE_SIZE), |first| usize::try_from(first).ok());
    limit
        .filter(|limit| *limit <= MAX_PAGE_SIZE)
        .ok_or_else(|| Error::bad_input("first", format!("must be from 0 to {MAX_PAGE_SIZE}")))
}

/// What a page may cost: the fields of an item, as often as items are asked for.
pub fn cost(first: Option<i32>, last: Option<i32>, child: usize) -> usize {
    let items = first.or(last).and_then(|number| usize::try_from(number).ok()).unwrap_or(DEFAULT_PAGE_SIZE);
    1 + items * child
}
