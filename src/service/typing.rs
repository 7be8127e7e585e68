//! Saying that one is typing.

use chrono::{DateTime, Utc};

use crate::access::ChatAccess;
use crate::domain::chats::ChatAction;
use crate::domain::ids::{ChatId, MemberId, UserId};
use crate::domain::rights::require_permission;
use crate::domain::users::{Permission, Viewer};
use crate::error::Result;
use crate::service::context::AppContext;

/// The viewer is typing in a chat in which they may post, or is no more in one that they are in. Gives
/// when it ends by itself; none where nobody is told of it.
pub async fn set(app: &AppContext, viewer: &Viewer, id: ChatId, typing: bool) -> Result<Option<DateTime<Utc>>> {
    require_permission(&viewer.permissions, Permission::ChatView)?;
    let mut conn = app.database.read().await?;
    let now = app.clock.now();
    let access = ChatAccess::require_member(&mut conn, viewer, id, now).await?;
    drop(conn);
    if typing {
        access.rights(viewer, now).can(ChatAction::Post)?;
    }
    app.rate_limits.check_signal(viewer)?;
    if !typing {
        app.typing.stop_typing(&MemberId { chat: id, user: viewer.id().clone() });
        return Ok(None);
    }
    let is_told = access.chat.has_typing(app.config.limits.max_typing_members);
    Ok(is_told.then(|| app.typing.start_typing(id, viewer.id())))
}

/// Who is typing in a chat, by when they began; for members alone.
pub fn typing_users(app: &AppContext, chat: ChatId) -> Vec<UserId> {
    app.typing.typing_users(chat)
}
