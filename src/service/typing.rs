//! Typing indicators.

use std::collections::HashMap;

use chrono::{DateTime, Utc};

use crate::access::{ChatAccess, ReadScope};
use crate::domain::chats::ChatAction;
use crate::domain::ids::{ChatId, MemberId, UserId};
use crate::domain::rights::require_permission;
use crate::domain::users::{Permission, Viewer};
use crate::error::Result;
use crate::service::context::AppContext;

/// Sets whether the viewer is typing in a chat, and returns when the indicator expires.
///
/// Returns `None` if the indicator was cleared, or if the chat has too many members for typing indicators.
///
/// # Errors
///
/// Returns [`Error::NotFound`](crate::error::Error::NotFound) if the chat does not exist for the viewer,
/// [`Error::Forbidden`](crate::error::Error::Forbidden) if they are not a member or may not post in it, and
/// [`Error::RateLimited`](crate::error::Error::RateLimited) if they send too many signals.
pub async fn set(app: &AppContext, viewer: &Viewer, id: ChatId, typing: bool) -> Result<Option<DateTime<Utc>>> {
    require_permission(&viewer.permissions, Permission::ChatView)?;
    let mut conn = app.database.read().await?;
    let now = app.clock.now();
    let access = ChatAccess::require_member(&mut conn, viewer, id).await?;
    drop(conn);
    if typing {
        access.rights(viewer, now).can(ChatAction::Post)?;
    }
    app.rate_limits.check_signal(viewer)?;
    if !typing {
        app.typing.stop_typing_everywhere(MemberId { chat: id, user: viewer.id().clone() });
        return Ok(None);
    }
    let is_enabled = access.chat.has_typing(app.settings.limits.max_typing_members);
    Ok(is_enabled.then(|| app.typing.start_typing(id, viewer.id())))
}

/// Returns the users who are typing in the given chats, in the order in which they started.
///
/// Chats that `scope` may not read, and chats in which nobody is typing, are left out. The database is read only if
/// a user is typing.
///
/// # Errors
///
/// Fails only if the database does.
pub async fn visible_to(
    app: &AppContext,
    scope: ReadScope<'_>,
    chats: &[ChatId],
) -> Result<HashMap<ChatId, Vec<UserId>>> {
    let mut typing: HashMap<ChatId, Vec<UserId>> =
        chats.iter().map(|chat| (*chat, app.typing.typing_users(*chat))).collect();
    typing.retain(|_, users| !users.is_empty());
    if typing.is_empty() {
        return Ok(typing);
    }
    let chats: Vec<ChatId> = typing.keys().copied().collect();
    let mut conn = app.database.read().await?;
    let readable = ChatAccess::retain_readable(&mut conn, scope, &chats, |chat| *chat).await?;
    typing.retain(|chat, _| readable.contains(chat));
    Ok(typing)
}
