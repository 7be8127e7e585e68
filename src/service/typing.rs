//! Saying that one is typing.

use chrono::{DateTime, Utc};

use crate::access::Access;
use crate::domain::chats::ChatAction;
use crate::domain::ids::{ChatId, MemberId, UserId};
use crate::domain::rights::require;
use crate::domain::users::{Permission, Viewer};
use crate::error::Result;
use crate::service::context::App;

/// The viewer is typing in a chat in which they may post, or is no more in one that they are in. Gives
/// when it ends by itself; none where nobody is told of it.
pub async fn set(app: &App, viewer: &Viewer, id: ChatId, typing: bool) -> Result<Option<DateTime<Utc>>> {
    require(&viewer.permissions, Permission::ChatView)?;
    let mut conn = app.store.read().await?;
    let now = app.clock.now();
    let access = Access::of_member(&mut conn, viewer, id, now).await?;
    drop(conn);
    if typing {
        access.rights(viewer, now).can(ChatAction::Post)?;
    }
    app.limits.signal(viewer)?;
    if !typing {
        app.typing.stop(&MemberId { chat: id, user: viewer.id().clone() });
        return Ok(None);
    }
    let is_told = access.chat.has_typing(app.config.limits.typing_members);
    Ok(is_told.then(|| app.typing.begin(id, viewer.id())))
}

/// Who is typing in a chat, by when they began; for members alone.
pub fn now(app: &App, chat: ChatId) -> Vec<UserId> {
    app.typing.now(chat)
}
