//! Bans of users from chats: the list of a chat's bans, and their end.

use std::collections::HashMap;

use crate::access::ChatAccess;
use crate::domain::bans::{Ban, BansQuery};
use crate::domain::chats::Chat;
use crate::domain::ids::{ChatId, UserId};
use crate::domain::pagination::Page;
use crate::domain::rights::DenialReason;
use crate::domain::users::Viewer;
use crate::error::Result;
use crate::service::chat_transaction::ChatTransaction;
use crate::service::context::AppContext;
use crate::storage::bans;
use crate::storage::connection::Conn;

/// Returns pages of bans of those queries whose chat the viewer may ban users from.
///
/// # Errors
///
/// Fails only if the database does.
pub async fn pages(app: &AppContext, viewer: &Viewer, queries: &[BansQuery]) -> Result<HashMap<BansQuery, Page<Ban>>> {
    let mut conn = app.database.read().await?;
    let chats: Vec<ChatId> = queries.iter().map(|query| query.chat).collect();
    let moderated = ChatAccess::find_moderated(&mut conn, viewer, &chats, app.clock.now()).await?;
    let queries: Vec<BansQuery> = queries.iter().filter(|query| moderated.contains(&query.chat)).cloned().collect();
    let fetched = bans::pages(&mut conn, &queries).await?;
    let pages: Vec<_> = queries.iter().zip(fetched).map(|(query, rows)| query.window.to_page(rows)).collect();
    Ok(queries.into_iter().zip(pages).collect())
}

/// Ends the ban of a user; nothing changes if the user is not banned.
///
/// # Errors
///
/// Returns [`Error::NotFound`](crate::error::Error::NotFound) if the chat does not exist for the viewer, and
/// [`Error::Forbidden`](crate::error::Error::Forbidden) if the viewer may not ban users from it.
pub async fn unban(app: &AppContext, viewer: &Viewer, id: ChatId, user: UserId) -> Result<Chat> {
    app.rate_limits.check_write(viewer)?;
    let mut conn = app.database.write().await?;
    let outcome = conn
        .transaction(async move |conn| {
            let mut transaction = ChatTransaction::lock_to_remove_members(conn, viewer, id, &app.clock).await?;
            transaction.rights(viewer).can_ban()?;
            lift(conn, &mut transaction, &[user]).await?;
            transaction.commit_changes(conn).await
        })
        .await?;
    Ok(app.publish_outcome(outcome))
}

/// Bans a user inside a transaction; an earlier ban stays as it is.
///
/// The chat takes a version, so that its feeds deliver it and clients read its bans again.
///
/// # Errors
///
/// Fails only if the database does.
pub async fn insert(
    conn: &mut Conn,
    transaction: &mut ChatTransaction,
    user: UserId,
    reason: Option<String>,
    banned_by: &UserId,
) -> Result<()> {
    let ban =
        Ban { chat: transaction.chat().id, user, banned_by: banned_by.clone(), banned_at: transaction.now, reason };
    if bans::insert(conn, &transaction.chat().organization, &ban).await? {
        transaction.record_chat_change();
    }
    Ok(())
}

/// Ends the bans of users inside a transaction.
///
/// The chat takes a version, so that its feeds deliver it and clients read its bans again.
///
/// # Errors
///
/// Fails only if the database does.
pub async fn lift(conn: &mut Conn, transaction: &mut ChatTransaction, users: &[UserId]) -> Result<()> {
    if bans::delete(conn, transaction.chat().id, users).await? > 0 {
        transaction.record_chat_change();
    }
    Ok(())
}

/// Ends the bans of users whom the viewer is adding, which requires the right to ban users.
///
/// # Errors
///
/// Returns [`Error::Forbidden`](crate::error::Error::Forbidden) if a user is banned and the viewer may not ban users.
pub async fn lift_to_add(
    conn: &mut Conn,
    transaction: &mut ChatTransaction,
    viewer: &Viewer,
    users: &[UserId],
) -> Result<()> {
    let banned = bans::banned_users(conn, transaction.chat().id, users).await?;
    if !banned.is_empty() && transaction.rights(viewer).can_ban().is_err() {
        return Err(DenialReason::BannedUser.into());
    }
    lift(conn, transaction, &banned).await
}

/// Checks that the viewer is not banned from the chat of a transaction.
///
/// # Errors
///
/// Returns [`Error::Forbidden`](crate::error::Error::Forbidden) if they are.
pub async fn require_not_banned(conn: &mut Conn, transaction: &ChatTransaction, viewer: &Viewer) -> Result<()> {
    let banned = bans::banned_users(conn, transaction.chat().id, std::slice::from_ref(viewer.id())).await?;
    if banned.is_empty() { Ok(()) } else { Err(DenialReason::Banned.into()) }
}
