//! The start of a chat's feed: what the client asks for, and what the database makes of it.

use chrono::TimeDelta;

use crate::access::MemberAccess;
use crate::domain::cursors::FeedCursor;
use crate::domain::ids::ChatId;
use crate::domain::members::Member;
use crate::domain::messages::Message;
use crate::error::Result;
use crate::realtime::feeds::catch_up::{FeedDeps, ResetReason};
use crate::realtime::feeds::change_log;
use crate::storage::messages;

/// The longest time by which the time of a cursor may be later than its change.
///
/// The clock of the node that published the change may be ahead, and changes are published after their commit.
const MEMBERSHIP_MARGIN: TimeDelta = TimeDelta::seconds(5);

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
    pub(super) membership: Member,
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
    let FeedDeps { database, limits, epoch, viewer } = deps;
    let (_permit, mut conn) = limits.read(&database, &viewer).await?;
    conn.snapshot(async move |conn| {
        let MemberAccess { chat: row, membership } = MemberAccess::require(conn, &viewer, chat).await?;
        let state = match start {
            ChatFeedStart::Now => InitialState::CaughtUp(Vec::new()),
            ChatFeedStart::Latest(count) => InitialState::CaughtUp(messages::newest(conn, &membership, count).await?),
            ChatFeedStart::After(cursor) => {
                let cursor = FeedCursor::decode(&cursor, epoch, chat).filter(|cursor| cursor.version <= row.version);
                match cursor {
                    None => InitialState::Reset(ResetReason::CursorInvalid),
                    Some(cursor) if precedes_membership(&cursor, &membership) => {
                        InitialState::Reset(ResetReason::AccessChanged)
                    }
                    Some(cursor)
                        if change_log::exceeds_limit(conn, &row, cursor.version, limits.max_changes).await? =>
                    {
                        InitialState::Reset(ResetReason::TooFarBehind)
                    }
                    Some(cursor) => InitialState::Behind(cursor),
                }
            }
        };
        Ok(InitialSnapshot { version: row.version, membership, state })
    })
    .await
}

/// Returns whether a cursor may be from before a membership.
///
/// The client lost access to the chat in between.
///
/// A change of the membership after the cursor may also be one of the role; the times tell them apart, except for a
/// cursor that is about as old as the membership.
fn precedes_membership(cursor: &FeedCursor, membership: &Member) -> bool {
    let known_version = cursor.snapshot_version.unwrap_or(cursor.version);
    known_version < membership.version && cursor.as_of < membership.joined_at + MEMBERSHIP_MARGIN
}
