//! Searching what was said.

use crate::domain::messages::Message;
use crate::domain::pagination::{End, Page, PageArgs};
use crate::domain::rights::require;
use crate::domain::users::{Permission, Viewer};
use crate::error::Result;
use crate::service::context::App;
use crate::storage::search;
use crate::storage::search::{ByTime, Search};

/// Messages that are found in the chats that the viewer is in now, newest first.
pub async fn messages(app: &App, viewer: &Viewer, search: &Search, args: &PageArgs) -> Result<Page<Message>> {
    require(&viewer.permissions, Permission::ChatView)?;
    let window = args.window::<ByTime>(End::First)?;
    let mut conn = app.store.read().await?;
    let fetched = search::page(&mut conn, viewer.organization(), viewer.id(), search, &window).await?;
    Ok(window.page(fetched))
}
