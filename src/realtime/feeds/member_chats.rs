//! Subscribes to all chats of a user.

use crate::domain::member_queries::UserChat;
use crate::error::Result;
use crate::realtime::dispatch::subscriber::Subscriber;
use crate::realtime::feeds::catch_up::FeedDeps;
use crate::storage::members;
use crate::tasks::spawn_detached;

/// Subscribes to all chats in which the viewer is a member, and returns them.
///
/// The subscriber must follow the viewer already, so that a chat that they join meanwhile is noticed.
///
/// # Errors
///
/// Fails if the database does.
pub async fn subscribe_all(deps: &FeedDeps, subscriber: &mut Subscriber) -> Result<Vec<UserChat>> {
    // Versions count only if they are read after the subscription: read again until no chat is new.
    loop {
        subscriber.wait_until_active().await;
        let FeedDeps { database, limits, viewer, .. } = deps.clone();
        let read = async move {
            let (_permit, mut conn) = limits.read(&database, &viewer).await?;
            members::chats_by_user(&mut conn, viewer.organization(), viewer.id()).await
        };
        let chats = spawn_detached(read).await?;
        let new_chats = chats.iter().filter(|found| subscriber.subscribe_chat(found.chat)).count();
        if new_chats == 0 {
            return Ok(chats);
        }
    }
}
