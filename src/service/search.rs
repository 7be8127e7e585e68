//! Full-text search in messages.

use crate::domain::message_queries::{CreatedAtKey, MessageSearch};
use crate::domain::messages::Message;
use crate::domain::pagination::{Page, PageArgs, PageEnd};
use crate::domain::rights::require_permission;
use crate::domain::users::{Permission, Viewer};
use crate::error::Result;
use crate::service::context::AppContext;
use crate::storage::search;

/// Returns a page of the matching messages in chats of the viewer, the newest first.
///
/// # Errors
///
/// Returns [`Error::Forbidden`](crate::error::Error::Forbidden) if the viewer's token lacks the permission `chat.view`,
/// and [`Error::BadUserInput`](crate::error::Error::BadUserInput) if an argument of the page is not valid.
pub async fn messages(
    app: &AppContext,
    viewer: &Viewer,
    search: &MessageSearch,
    args: &PageArgs,
) -> Result<Page<Message>> {
    require_permission(&viewer.permissions, Permission::ChatView)?;
    let window = args.window::<CreatedAtKey>(PageEnd::First)?;
    let mut conn = app.database.read().await?;
    let fetched = search::page(&mut conn, viewer.organization(), viewer.id(), search, &window).await?;
    Ok(window.to_page(fetched))
}
