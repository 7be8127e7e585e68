//! Reactions.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::domain::chat_events::MessageChange;
use crate::domain::ids::{MessageId, UserId};
use crate::domain::message_queries::ReactorsQuery;
use crate::domain::messages::Message;
use crate::domain::notifications::NotificationKind;
use crate::domain::reactions::{MAX_EMOJI_PER_MESSAGE, ReactionCount, normalize_emoji};
use crate::domain::users::Viewer;
use crate::error::{Error, Result};
use crate::service::chat_transaction::ChatTransaction;
use crate::service::context::AppContext;
use crate::storage::connection::Conn;
use crate::storage::{notifications, reactions};

/// Adds or takes back the viewer's reaction. What is so already changes nothing.
pub async fn set(app: &AppContext, viewer: &Viewer, id: MessageId, text: &str, on: bool) -> Result<Arc<Message>> {
    let emoji = normalize_emoji(text)?;
    app.rate_limits.check_reaction(viewer)?;
    let mut conn = app.database.write().await?;
    let (told, message) = conn
        .transaction(async move |conn| {
            let (mut writing, message) = ChatTransaction::lock_message(conn, app, viewer, id).await?;
            writing.rights(viewer).can_react(&message)?;
            if on && reactions::count_other_emoji(conn, id, emoji).await? >= MAX_EMOJI_PER_MESSAGE {
                return Err(Error::bad_input(
                    "emoji",
                    format!("there are {MAX_EMOJI_PER_MESSAGE} emoji on this message already"),
                ));
            }
            let changed = match on {
                true => reactions::insert(conn, id, emoji, viewer.id(), writing.now).await?,
                false => reactions::delete(conn, id, emoji, viewer.id()).await?,
            };
            if !changed {
                return Ok((writing.commit_changes(conn).await?, Arc::new(message)));
            }
            notify_sender(conn, &mut writing, &message, viewer, on).await?;
            let message = writing.write_message(conn, message, MessageChange::Reactions).await?;
            Ok((writing.commit_changes(conn).await?, message))
        })
        .await?;
    app.publish_outcome(told);
    Ok(message)
}

/// The sender is told once of each person's reactions; what was taken back unread tells nothing.
async fn notify_sender(
    conn: &mut Conn,
    writing: &mut ChatTransaction,
    message: &Message,
    viewer: &Viewer,
    on: bool,
) -> Result<()> {
    let Some(sender) = message.sender.clone().filter(|sender| sender != viewer.id()) else { return Ok(()) };
    let kind = NotificationKind::Reaction;
    if !on {
        if reactions::by_user(conn, &[message.id], viewer.id()).await?.is_empty() {
            notifications::withdraw(conn, message.id, kind, viewer.id()).await?;
        }
        return Ok(());
    }
    if notifications::exists(conn, message.id, kind, viewer.id()).await? {
        return Ok(());
    }
    match writing.require_member(conn, sender).await {
        Ok(sender) => writing.notify(&sender, kind, Some(message.id.seq), viewer.id()),
        // They have left.
        Err(Error::NotFound(_)) => {}
        Err(error) => return Err(error),
    }
    Ok(())
}

/// How often each emoji was given to messages that were shown to the viewer.
pub async fn counts(app: &AppContext, ids: &[MessageId]) -> Result<HashMap<MessageId, Vec<ReactionCount>>> {
    let mut conn = app.database.read().await?;
    let mut counts: HashMap<MessageId, Vec<ReactionCount>> = HashMap::new();
    for (id, count) in reactions::counts(&mut conn, ids).await? {
        counts.entry(id).or_default().push(count);
    }
    Ok(counts)
}

/// The emoji that the viewer gave to each of these messages.
pub async fn by_viewer(
    app: &AppContext,
    viewer: &Viewer,
    ids: &[MessageId],
) -> Result<HashMap<MessageId, HashSet<String>>> {
    let mut conn = app.database.read().await?;
    let mut given: HashMap<MessageId, HashSet<String>> = HashMap::new();
    for (id, emoji) in reactions::by_user(&mut conn, ids, viewer.id()).await? {
        given.entry(id).or_default().insert(emoji);
    }
    Ok(given)
}

/// Who gave an emoji, the earliest first.
pub async fn reactors(app: &AppContext, queries: &[ReactorsQuery]) -> Result<HashMap<ReactorsQuery, Vec<UserId>>> {
    let mut conn = app.database.read().await?;
    let reactors = reactions::reactors(&mut conn, queries).await?;
    Ok(queries.iter().cloned().zip(reactors).collect())
}
