//! Opening feeds for those who may read them.

use std::sync::Arc;

use super::access::Access;
use crate::app::App;
use crate::domain::ids::ChatId;
use crate::domain::rights::require;
use crate::domain::users::{Permission, Viewer};
use crate::error::{Error, Result};
use crate::live::{ChatFeed, Inbox, Start};

/// The feed of a chat that the viewer is in. It listens from here on, before it reads.
pub async fn chat(app: &App, viewer: Arc<Viewer>, chat: ChatId, start: Start) -> Result<ChatFeed> {
    let mut listener = app.hub.listen();
    listener.attach(chat);
    let mut conn = app.store.read().await?;
    let access = Access::find(&mut conn, &viewer, &[chat]).await?.remove(&chat).ok_or(Error::NotFound("chat"))?;
    access.rights(&viewer, app.clock.now()).membership()?;
    Ok(ChatFeed::new(app.store.clone(), app.catch_ups.clone(), viewer, listener, chat, start))
}

/// New messages of all chats that the viewer is in.
pub fn inbox(app: &App, viewer: Arc<Viewer>) -> Result<Inbox> {
    require(&viewer.permissions, Permission::ChatView)?;
    let mut listener = app.hub.listen();
    listener.follow(viewer.organization(), viewer.id());
    Ok(Inbox::new(app.store.clone(), app.catch_ups.clone(), viewer, listener))
}
