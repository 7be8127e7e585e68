//! The chats of a person, for who listens to all of them.

use std::sync::Arc;

use crate::domain::ids::ChatId;
use crate::domain::users::Viewer;
use crate::error::Result;
use crate::realtime::dispatch::subscriber::Subscriber;
use crate::storage::members;
use crate::storage::pool::Database;
use crate::tasks::spawn_detached;

/// Listens to all chats that the viewer is in, and says where each stands. The listener follows the viewer
/// already.
pub async fn subscribe_all(
    store: &Database,
    viewer: &Arc<Viewer>,
    listener: &mut Subscriber,
) -> Result<Vec<(ChatId, i64)>> {
    // Listen first, then read: until a reading finds no chat that wasn't listened to.
    loop {
        let (store, viewer) = (store.clone(), viewer.clone());
        let reading = async move {
            let mut conn = store.read().await?;
            members::chat_versions_by_user(&mut conn, viewer.organization(), viewer.id()).await
        };
        let chats = spawn_detached(reading).await?;
        let fresh = chats.iter().filter(|(chat, _)| listener.subscribe_chat(*chat)).count();
        if fresh == 0 {
            return Ok(chats);
        }
    }
}
