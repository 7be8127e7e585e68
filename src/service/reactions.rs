//! Reactions.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::messages::locked;
use crate::app::App;
use crate::domain::changes::{Change, MessageChange};
use crate::domain::ids::{MessageId, UserId};
use crate::domain::messages::Message;
use crate::domain::reactions::{MAX_EMOJI, ReactionCount, emoji};
use crate::domain::rights::Refusal;
use crate::domain::users::Viewer;
use crate::error::{Error, Result};
use crate::storage::reactions::ReactorsQuery;
use crate::storage::{chats, messages, reactions};

/// Adds or takes back the viewer's reaction. What is so already changes nothing.
pub async fn set(app: &App, viewer: &Viewer, id: MessageId, text: &str, on: bool) -> Result<Arc<Message>> {
    let emoji = emoji(text)?;
    let mut conn = app.store.write().await?;
    let (chat, message, changes) = conn
        .transaction(async move |conn| {
            let (mut access, mut message) = locked(conn, viewer, id).await?;
            access.rights(viewer, app.clock.now()).membership()?;
            if message.deleted_at.is_some() {
                return Err(Refusal::Deleted.into());
            }
            if on && reactions::other_emoji(conn, id, emoji).await? >= MAX_EMOJI {
                return Err(Error::bad_input("emoji", format!("there are {MAX_EMOJI} emoji on this message already")));
            }
            let changed = match on {
                true => reactions::insert(conn, id, emoji, viewer.id(), app.clock.now()).await?,
                false => reactions::delete(conn, id, emoji, viewer.id()).await?,
            };
            if !changed {
                return Ok((access.chat, Arc::new(message), Vec::new()));
            }
            message.version = access.next_version();
            messages::update(conn, &message).await?;
            chats::update(conn, &access.chat).await?;
            let message = Arc::new(message);
            let change = Change::Message(message.clone(), MessageChange::Reactions);
            Ok((access.chat, message, vec![change]))
        })
        .await?;
    app.publish(&chat, changes);
    Ok(message)
}

/// How often each emoji was given to messages that were shown to the viewer.
pub async fn counts(app: &App, ids: &[MessageId]) -> Result<HashMap<MessageId, Vec<ReactionCount>>> {
    let mut conn = app.store.read().await?;
    let mut counts: HashMap<MessageId, Vec<ReactionCount>> = HashMap::new();
    for (id, count) in reactions::counts(&mut conn, ids).await? {
        counts.entry(id).or_default().push(count);
    }
    Ok(counts)
}

/// The emoji that the viewer gave to each of these messages.
pub async fn of_viewer(app: &App, viewer: &Viewer, ids: &[MessageId]) -> Result<HashMap<MessageId, HashSet<String>>> {
    let mut conn = app.store.read().await?;
    let mut given: HashMap<MessageId, HashSet<String>> = HashMap::new();
    for (id, emoji) in reactions::of_user(&mut conn, ids, viewer.id()).await? {
        given.entry(id).or_default().insert(emoji);
    }
    Ok(given)
}

/// Who gave an emoji, the earliest first.
pub async fn reactors(app: &App, queries: &[ReactorsQuery]) -> Result<HashMap<ReactorsQuery, Vec<UserId>>> {
    let mut conn = app.store.read().await?;
    let mut by_reaction: HashMap<(MessageId, String), Vec<UserId>> = HashMap::new();
    for (message, emoji, user) in reactions::reactors(&mut conn, queries).await? {
        by_reaction.entry((message, emoji)).or_default().push(user);
    }
    let of =
        |query: &ReactorsQuery| by_reaction.get(&(query.message, query.emoji.clone())).cloned().unwrap_or_default();
    Ok(queries.iter().map(|query| (query.clone(), of(query))).collect())
}
