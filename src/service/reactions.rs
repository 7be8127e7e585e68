//! Reactions to messages.

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
use crate::storage::notifications;
use crate::storage::reactions;

/// Adds or removes the viewer's reaction; a reaction that is already so changes nothing.
///
/// # Errors
///
/// Returns [`Error::BadUserInput`] if the text is not one emoji or the message has too many different emoji,
/// [`Error::NotFound`] if the viewer may not read the message, [`Error::Forbidden`] if they may not react to it, and
/// [`Error::RateLimited`] after too many reactions.
pub async fn set(app: &AppContext, viewer: &Viewer, id: MessageId, text: &str, present: bool) -> Result<Arc<Message>> {
    let emoji = normalize_emoji(text)?;
    app.rate_limits.check_reaction(viewer)?;
    let mut conn = app.database.write().await?;
    let (outcome, message) = conn
        .transaction(async move |conn| {
            let (mut transaction, message) = ChatTransaction::lock_message(conn, viewer, id, &app.clock).await?;
            transaction.rights(viewer).can_react(&message)?;
            if present && reactions::count_other_emoji(conn, id, emoji).await? >= MAX_EMOJI_PER_MESSAGE {
                return Err(Error::bad_input(
                    "emoji",
                    format!("must not be one of more than {MAX_EMOJI_PER_MESSAGE} different emoji on the message"),
                ));
            }
            let changed = match present {
                true => reactions::insert(conn, id, emoji, viewer.id(), transaction.now).await?,
                false => reactions::delete(conn, id, emoji, viewer.id()).await?,
            };
            if !changed {
                return Ok((transaction.commit_changes(conn).await?, Arc::new(message)));
            }
            notify_sender(conn, &mut transaction, &message, viewer, present).await?;
            let message = transaction.write_message(conn, message, MessageChange::Reactions).await?;
            Ok((transaction.commit_changes(conn).await?, message))
        })
        .await?;
    app.publish_outcome(outcome);
    Ok(message)
}

/// Notifies the sender of the viewer's first reaction, or withdraws the notification with the last one.
async fn notify_sender(
    conn: &mut Conn,
    transaction: &mut ChatTransaction,
    message: &Message,
    viewer: &Viewer,
    present: bool,
) -> Result<()> {
    let Some(sender) = message.sender.clone().filter(|sender| sender != viewer.id()) else { return Ok(()) };
    let kind = NotificationKind::Reaction;
    if !present {
        if reactions::by_user(conn, &[message.id], viewer.id()).await?.is_empty() {
            notifications::withdraw(conn, message.id, kind, viewer.id()).await?;
        }
        return Ok(());
    }
    if notifications::exists(conn, message.id, kind, viewer.id()).await? {
        return Ok(());
    }
    match transaction.require_member(conn, sender).await {
        Ok(sender) => transaction.notify(&sender, kind, Some(message.id.seq), viewer.id()),
        // The sender has left the chat.
        Err(Error::NotFound(_)) => {}
        Err(error) => return Err(error),
    }
    Ok(())
}

/// Returns the number of reactions per emoji, by message, of messages that were shown to the viewer.
///
/// # Errors
///
/// Fails only if the database does.
pub async fn counts(app: &AppContext, ids: &[MessageId]) -> Result<HashMap<MessageId, Vec<ReactionCount>>> {
    let mut conn = app.database.read().await?;
    let mut counts: HashMap<MessageId, Vec<ReactionCount>> = HashMap::new();
    for (id, count) in reactions::counts(&mut conn, ids).await? {
        counts.entry(id).or_default().push(count);
    }
    Ok(counts)
}

/// Returns the emoji of the viewer's own reactions, by message.
///
/// # Errors
///
/// Fails only if the database does.
pub async fn by_viewer(
    app: &AppContext,
    viewer: &Viewer,
    ids: &[MessageId],
) -> Result<HashMap<MessageId, HashSet<String>>> {
    let mut conn = app.database.read().await?;
    let mut reactions_by_message: HashMap<MessageId, HashSet<String>> = HashMap::new();
    for (id, emoji) in reactions::by_user(&mut conn, ids, viewer.id()).await? {
        reactions_by_message.entry(id).or_default().insert(emoji);
    }
    Ok(reactions_by_message)
}

/// Returns the users who reacted with an emoji, the earliest first.
///
/// # Errors
///
/// Fails only if the database does.
pub async fn reactors(app: &AppContext, queries: &[ReactorsQuery]) -> Result<HashMap<ReactorsQuery, Vec<UserId>>> {
    let mut conn = app.database.read().await?;
    let reactors = reactions::reactors(&mut conn, queries).await?;
    Ok(queries.iter().cloned().zip(reactors).collect())
}
