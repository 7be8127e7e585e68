//! The start of a chat's feed: what the client asks for, and what the database makes of it.

use crate::access::MemberAccess;
use crate::domain::cursors::FeedCursor;
use crate::domain::ids::ChatId;
use crate::domain::messages::Message;
use crate::error::Result;
use crate::realtime::feeds::catch_up::{FeedDeps, ResetReason};
use crate::realtime::feeds::change_log;
use crate::storage::messages;

/// Where a feed starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChatFeedStart {
    /// With the next change.
    Now,
    /// With this number of the newest messages, the oldest of them first.
    Latest(usize),
    /// With all changes since a cursor, as the client sent it.
    After(String),
}

/// A chat's version, and how a feed starts there.
pub(super) struct InitialSnapshot {
    pub(super) version: i64,
    pub(super) state: InitialState,
}

pub(super) enum InitialState {
    /// The feed delivers these messages and is caught up.
    CaughtUp(Vec<Message>),
    /// The feed continues from the client's cursor.
    Behind(FeedCursor),
    /// The client has to load the chat again.
    Reset(ResetReason),
}

/// Reads how a feed starts.
///
/// # Errors
///
/// Returns the errors of [`MemberAccess::require`] and of the database.
pub(super) async fn load_initial_snapshot(
    deps: FeedDeps,
    chat: ChatId,
    start: ChatFeedStart,
) -> Result<InitialSnapshot> {
    let FeedDeps { database, limits, viewer } = deps;
    let _permit = limits.acquire_permit().await?;
    let mut conn = database.read().await?;
    conn.snapshot(async move |conn| {
        let row = MemberAccess::require(conn, &viewer, chat).await?.chat;
        let state = match start {
            ChatFeedStart::Now => InitialState::CaughtUp(Vec::new()),
            ChatFeedStart::Latest(count) => InitialState::CaughtUp(messages::newest(conn, chat, count).await?),
            ChatFeedStart::After(cursor) => {
                let cursor = FeedCursor::decode(&cursor, chat).filter(|cursor| cursor.version <= row.version);
                match cursor {
                    None => InitialState::Reset(ResetReason::CursorInvalid),
                    Some(cursor)
                        if change_log::exceeds_limit(conn, &row, cursor.version, limits.max_changes).await? =>
                    {
                        InitialState::Reset(ResetReason::TooFarBehind)
                    }
                    Some(cursor) => InitialState::Behind(cursor),
                }
            }
        };
        Ok(InitialSnapshot { version: row.version, state })
    })
    .await
}
