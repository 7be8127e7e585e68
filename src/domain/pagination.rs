//! Pages of a list, following the GraphQL Cursor Connections Specification of Relay.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::domain::text;
use crate::error::{Error, Result};

/// The number of items of a page for which the client sets none.
pub const DEFAULT_PAGE_SIZE: usize = 30;
/// The maximum number of items of a page.
///
/// A larger number is an error rather than cut silently.
pub const MAX_PAGE_SIZE: usize = 100;

/// The pagination arguments of a connection field.
#[derive(Debug, Clone, Default)]
pub struct PageArgs {
    pub first: Option<i32>,
    pub after: Option<String>,
    pub last: Option<i32>,
    pub before: Option<String>,
}

/// A list at the root of the schema, which the cursors of its pages name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RootList {
    Calls,
    Chats,
    FoundMessages,
    Notifications,
    Reports,
    Users,
}

/// The end of a list at which a page starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PageEnd {
    First,
    Last,
}

/// The part of a list that a page shows: up to `limit` items from one end of a range of keys.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PageWindow<K> {
    pub after: Option<K>,
    pub before: Option<K>,
    pub end: PageEnd,
    pub limit: usize,
}

/// The items of a page in the order of the list, and whether there are more on either side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    pub items: Vec<T>,
    pub has_previous: bool,
    pub has_next: bool,
}

impl PageArgs {
    /// Returns the part of a list that the arguments select.
    ///
    /// It starts at `default_end` if the arguments don't name an end. A cursor is the encoded pair of the list and a
    /// key in it, so that a cursor of another list is no position in this one.
    ///
    /// # Errors
    ///
    /// Returns [`Error::BadUserInput`] if `first` and `last` are combined, a number is out of range, or a cursor is not
    /// of this list.
    pub fn window<L: Cursor + PartialEq, K: Cursor>(&self, list: &L, default_end: PageEnd) -> Result<PageWindow<K>> {
        if self.first.is_some() && self.last.is_some() {
            return Err(Error::bad_input("last", "must not be combined with first"));
        }
        let (end, field, limit) = match (self.first, self.last) {
            (Some(first), _) => (PageEnd::First, "first", Some(first)),
            (_, Some(last)) => (PageEnd::Last, "last", Some(last)),
            _ if self.after.is_some() => (PageEnd::First, "first", None),
            _ if self.before.is_some() => (PageEnd::Last, "last", None),
            _ => (default_end, "first", None),
        };
        let limit = match limit {
            None => DEFAULT_PAGE_SIZE,
            Some(limit) => usize::try_from(limit)
                .ok()
                .filter(|limit| *limit <= MAX_PAGE_SIZE)
                .ok_or_else(|| Error::bad_input(field, format!("must be from 0 to {MAX_PAGE_SIZE}")))?,
        };
        let decode = |cursor: &str| {
            let (cursor_list, key) = <(L, K)>::decode(cursor)?;
            (cursor_list == *list).then_some(key)
        };
        let key = |field, cursor: &Option<String>| {
            let decoded = cursor.as_deref().map(|cursor| decode(cursor).ok_or(field));
            decoded.transpose().map_err(|field| Error::bad_input(field, "must be a cursor of this list"))
        };
        Ok(PageWindow { after: key("after", &self.after)?, before: key("before", &self.before)?, end, limit })
    }
}

impl<K> PageWindow<K> {
    /// Returns the number of rows to load: one more than the page shows, to detect more.
    pub fn fetch_limit(&self) -> i64 {
        self.limit as i64 + 1
    }

    /// Returns the page of rows that were loaded from the window's end.
    pub fn to_page<T>(&self, mut fetched: Vec<T>) -> Page<T> {
        let has_more = fetched.len() > self.limit;
        fetched.truncate(self.limit);
        match self.end {
            PageEnd::First => Page { items: fetched, has_previous: self.after.is_some(), has_next: has_more },
            PageEnd::Last => {
                fetched.reverse();
                Page { items: fetched, has_previous: has_more, has_next: self.before.is_some() }
            }
        }
    }
}

impl<T> Page<T> {
    pub fn empty() -> Self {
        Self { items: Vec::new(), has_previous: false, has_next: false }
    }

    /// Returns the `count` items around the first item of `from`, of which about half come before it.
    ///
    /// `before` has up to `count` items before that item, and `from` has up to `count` items. If one side has too few,
    /// the other one fills up.
    pub fn around(mut before: Self, mut from: Self, count: usize) -> Self {
        let older = count.saturating_sub(1) / 2;
        let newer = (count - older).max(count.saturating_sub(before.items.len())).min(from.items.len());
        let dropped = before.items.len().saturating_sub(count.saturating_sub(newer));
        let (has_previous, has_next) = (before.has_previous || dropped > 0, from.has_next || newer < from.items.len());
        from.items.truncate(newer);
        before.items.drain(..dropped);
        before.items.append(&mut from.items);
        Self { items: before.items, has_previous, has_next }
    }
}

/// The sort key of a list, written as text that is opaque to clients.
///
/// It stays valid when items are added.
pub trait Cursor: Sized + Serialize + DeserializeOwned {
    /// Returns the text form.
    ///
    /// # Panics
    ///
    /// Panics if the key can't be written as JSON, which plain data always can.
    fn encode(&self) -> String {
        let json = serde_json::to_vec(self).expect("a key is plain data");
        BASE64.encode(json)
    }

    /// Parses the text form.
    ///
    /// Returns `None` for any other text.
    fn decode(cursor: &str) -> Option<Self> {
        let json: Value = serde_json::from_slice(&BASE64.decode(cursor).ok()?).ok()?;
        // PostgreSQL rejects a parameter with the NUL character, which no key has.
        if text::has_nul(&json) { None } else { serde_json::from_value(json).ok() }
    }
}

impl<K: Serialize + DeserializeOwned> Cursor for K {}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: RootList = RootList::Chats;

    fn page_args(first: Option<i32>, after: Option<i64>, last: Option<i32>, before: Option<i64>) -> PageArgs {
        let cursor = |key: Option<i64>| key.map(|key| (LIST, key).encode());
        PageArgs { first, after: cursor(after), last, before: cursor(before) }
    }

    #[test]
    fn arguments_select_the_end_and_the_limit() {
        let window = |args: PageArgs| {
            args.window::<RootList, i64>(&LIST, PageEnd::Last).map(|window| (window.end, window.limit))
        };
        assert_eq!(window(page_args(None, None, None, None)).unwrap(), (PageEnd::Last, DEFAULT_PAGE_SIZE));
        assert_eq!(window(page_args(Some(5), None, None, None)).unwrap(), (PageEnd::First, 5));
        assert_eq!(window(page_args(None, Some(9), None, None)).unwrap(), (PageEnd::First, DEFAULT_PAGE_SIZE));
        assert_eq!(window(page_args(None, Some(9), Some(0), Some(12))).unwrap(), (PageEnd::Last, 0));
        assert!(window(page_args(Some(1), None, Some(1), None)).is_err());
        assert!(window(page_args(Some(-1), None, None, None)).is_err());
        assert!(window(page_args(None, None, Some(101), None)).is_err());
        let foreign = PageArgs { after: Some("x".into()), ..PageArgs::default() };
        assert!(foreign.window::<RootList, i64>(&LIST, PageEnd::First).is_err());
        let nul = PageArgs { after: Some((LIST, "b\0".to_owned()).encode()), ..PageArgs::default() };
        assert!(nul.window::<RootList, String>(&LIST, PageEnd::First).is_err());
    }

    #[test]
    fn cursor_of_another_list_is_no_position() {
        let after = |list: &str| PageArgs { after: Some((list.to_owned(), 7).encode()), ..PageArgs::default() };
        let window = |args: PageArgs| args.window::<String, i64>(&"walk".to_owned(), PageEnd::First);
        assert_eq!(window(after("walk")).unwrap().after, Some(7));
        assert!(window(after("run")).is_err());
        let unnamed = PageArgs { after: Some(7.encode()), ..PageArgs::default() };
        assert!(window(unnamed).is_err(), "a cursor that names no list");
    }

    #[test]
    fn page_is_filled_up_from_the_other_side() {
        let page = |items: &[i64], has_previous, has_next| Page { items: items.to_vec(), has_previous, has_next };
        for (before, from, count, expected) in [
            (
                page(&[1, 2, 3, 4], true, true),
                page(&[5, 6, 7, 8, 9], true, true),
                5,
                page(&[3, 4, 5, 6, 7], true, true),
            ),
            (page(&[1, 2, 3, 4], true, true), page(&[5], true, false), 5, page(&[1, 2, 3, 4, 5], true, false)),
            (page(&[], false, true), page(&[5, 6, 7, 8], true, true), 4, page(&[5, 6, 7, 8], false, true)),
            (page(&[1], false, true), page(&[5, 6], true, false), 4, page(&[1, 5, 6], false, false)),
            (page(&[1, 2, 3], false, true), page(&[5, 6, 7, 8], true, false), 4, page(&[3, 5, 6, 7], true, true)),
        ] {
            assert_eq!(Page::around(before, from, count), expected);
        }
    }

    #[test]
    fn page_has_more_when_one_row_beyond_the_limit_was_loaded() {
        let window = PageWindow { after: None, before: Some(9), end: PageEnd::Last, limit: 2 };
        let page = window.to_page(vec![8, 7, 6]);
        assert_eq!(page, Page { items: vec![7, 8], has_previous: true, has_next: true });
    }
}
