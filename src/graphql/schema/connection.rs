//! Connections as the Relay cursor connections specification defines them.

use async_graphql::connection::{self, Edge, EmptyFields};
use async_graphql::{ObjectType, OutputType};

use crate::domain::pagination::{DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE, Page};
use crate::error::{Error, Result};

/// A connection with opaque cursors and, optionally, additional fields.
pub type Connection<T, Extra = EmptyFields> = connection::Connection<String, T, Extra>;

/// Returns the connection of a page: `cursor` and `node` derive the cursor and the node of an item.
pub fn connection<T, N>(page: Page<T>, cursor: impl Fn(&T) -> String, node: impl Fn(T) -> N) -> Connection<N>
where
    N: OutputType + ObjectType,
{
    connection_with(page, EmptyFields, cursor, node)
}

/// Returns the connection of a page with additional fields.
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

/// Returns the maximum length of a list without cursors, from its argument `first`.
///
/// # Errors
///
/// Returns [`Error::BadUserInput`] if `first` is not from 0 to [`MAX_PAGE_SIZE`].
pub fn limit(first: Option<i32>) -> Result<usize> {
    let limit = first.map_or(Some(DEFAULT_PAGE_SIZE), |first| usize::try_from(first).ok());
    limit
        .filter(|limit| *limit <= MAX_PAGE_SIZE)
        .ok_or_else(|| Error::bad_input("first", format!("must be from 0 to {MAX_PAGE_SIZE}")))
}
