//! Messages: sending, reading, editing and deleting them.

use std::collections::HashMap;
use std::sync::Arc;

use super::access::Access;
use super::committer::Sent;
use crate::app::App;
use crate::domain::changes::{Change, MessageChange};
use crate::domain::ids::{ChatId, MessageId};
use crate::domain::messages::{Message, MessageDraft, Revision};
use crate::domain::pages::{End, Page, Window};
use crate::domain::text;
use crate::domain::users::Viewer;
use crate::error::{Error, Result};
use crate::storage::messages::MessagesQuery;
use crate::storage::{chats, messages, reactions};

pub async fn send(app: &App, viewer: Arc<Viewer>, draft: MessageDraft) -> Result<Sent> {
    app.committer.send(viewer, draft).await
}

/// The messages among these that the viewer may read: of chats that they are in.
pub async fn by_ids(app: &App, viewer: &Viewer, ids: &[MessageId]) -> Result<HashMap<MessageId, Arc<Message>>> {
    let mut conn = app.store.read().await?;
    let chats: Vec<ChatId> = ids.iter().map(|id| id.chat).collect();
    let access = Access::find(&mut conn, viewer, &chats).await?;
    let open: Vec<MessageId> =
        ids.iter().filter(|id| access.get(&id.chat).is_some_and(|access| access.member().is_some())).copied().collect();
    let found = messages::by_ids(&mut conn, &open).await?;
    Ok(found.into_iter().map(|message| (message.id, Arc::new(message))).collect())
}

/// Pages of messages of chats that the viewer is in; of others, none.
pub async fn pages(
    app: &App,
    viewer: &Viewer,
    queries: &[MessagesQuery],
) -> Result<HashMap<MessagesQuery, Page<Arc<Message>>>> {
    let mut conn = app.store.read().await?;
    let chats: Vec<ChatId> = queries.iter().map(|query| query.chat).collect();
    let access = Access::find(&mut conn, viewer, &chats).await?;
    let is_open = |query: &&MessagesQuery| access.get(&query.chat).is_some_and(|access| access.member().is_some());
    let open: Vec<MessagesQuery> = queries.iter().filter(is_open).cloned().collect();
    let mut pages: HashMap<MessagesQuery, Page<Arc<Message>>> =
        queries.iter().map(|query| (query.clone(), Page::empty())).collect();
    let mut shapes: HashMap<Window<i64>, Vec<MessagesQuery>> = HashMap::new();
    for query in open {
        shapes.entry(query.window.clone()).or_default().push(query);
    }
    for (window, same) in shapes {
        let mut fetched: HashMap<ChatId, Vec<Arc<Message>>> = HashMap::new();
        for message in messages::pages(&mut conn, &same).await? {
            fetched.entry(message.id.chat).or_default().push(Arc::new(message));
        }
        for query in same {
            let page = window.page(fetched.remove(&query.chat).unwrap_or_default());
            pages.insert(query, page);
        }
    }
    Ok(pages)
}

/// A message with its neighbours, `number` in all where there are as many.
pub async fn around(app: &App, viewer: &Viewer, id: MessageId, number: usize) -> Result<Page<Arc<Message>>> {
    let older = number.saturating_sub(1) / 2;
    let chat = id.chat;
    let before = Window { after: None, before: Some(id.seq), end: End::Last, limit: older };
    let from = Window { after: Some(id.seq - 1), before: None, end: End::First, limit: number - older };
    let queries = [MessagesQuery { chat, window: before }, MessagesQuery { chat, window: from }];
    let mut found = pages(app, viewer, &queries).await?;
    let [before, from] = queries.map(|query| found.remove(&query).unwrap_or_else(Page::empty));
    if from.items.first().is_none_or(|message| message.id != id) {
        return Err(Error::NotFound("message"));
    }
    Ok(Page {
        has_previous: before.has_previous,
        has_next: from.has_next,
        items: before.items.into_iter().chain(from.items).collect(),
    })
}

/// All messages of a chat that the viewer is in, deleted ones too.
pub async fn count(app: &App, viewer: &Viewer, chat: ChatId) -> Result<i64> {
    let mut conn = app.store.read().await?;
    let access = Access::find(&mut conn, viewer, &[chat]).await?;
    match access.get(&chat).and_then(Access::member) {
        Some(_) => messages::count(&mut conn, chat).await,
        None => Ok(0),
    }
}

/// The former texts of messages that were shown to the viewer, oldest first.
pub async fn revisions(app: &App, ids: &[MessageId]) -> Result<HashMap<MessageId, Vec<Revision>>> {
    let mut conn = app.store.read().await?;
    let mut revisions: HashMap<MessageId, Vec<Revision>> = HashMap::new();
    for (id, revision) in messages::revisions(&mut conn, ids).await? {
        revisions.entry(id).or_default().push(revision);
    }
    Ok(revisions)
}

/// Replaces the text of the viewer's own message and keeps the former one. The same text again
/// changes nothing.
pub async fn edit(app: &App, viewer: &Viewer, id: MessageId, new: &str) -> Result<Arc<Message>> {
    let new = text::block("text", new, app.config.limits.message_characters)?;
    let mut conn = app.store.write().await?;
    let (chat, message, changes) = conn
        .transaction(async move |conn| {
            let (mut access, mut message) = locked(conn, viewer, id).await?;
            let now = app.clock.now();
            access.rights(viewer, now).can_edit(&message)?;
            let old = message.text.replace(new.clone()).unwrap_or_default();
            if old == new {
                return Ok((access.chat, Arc::new(message), Vec::new()));
            }
            messages::keep_revision(conn, &message, &old, now).await?;
            message.edited_at = Some(now);
            message.version = access.next_version();
            messages::update(conn, &message).await?;
            chats::update(conn, &access.chat).await?;
            let message = Arc::new(message);
            let change = Change::Message(message.clone(), MessageChange::Edited);
            Ok((access.chat, message, vec![change]))
        })
        .await?;
    app.publish(&chat, changes);
    Ok(message)
}

/// Deletes a message: its place stays, and nothing of what it said. Once deleted stays deleted.
pub async fn delete(app: &App, viewer: &Viewer, id: MessageId) -> Result<Arc<Message>> {
    let mut conn = app.store.write().await?;
    let (chat, message, changes) = conn
        .transaction(async move |conn| {
            let (mut access, mut message) = locked(conn, viewer, id).await?;
            let now = app.clock.now();
            access.rights(viewer, now).can_delete(&message)?;
            if message.deleted_at.is_some() {
                return Ok((access.chat, Arc::new(message), Vec::new()));
            }
            message.text = None;
            message.deleted_at = Some(now);
            message.version = access.next_version();
            messages::update(conn, &message).await?;
            messages::forget_revisions(conn, id).await?;
            reactions::clear(conn, id).await?;
            chats::update(conn, &access.chat).await?;
            let message = Arc::new(message);
            let change = Change::Message(message.clone(), MessageChange::Deleted);
            Ok((access.chat, message, vec![change]))
        })
        .await?;
    app.publish(&chat, changes);
    Ok(message)
}

/// A message that the viewer may read, with its chat locked. What they may not read is not there.
pub(super) async fn locked(
    conn: &mut crate::storage::Conn,
    viewer: &Viewer,
    id: MessageId,
) -> Result<(Access, Message)> {
    let access = match Access::lock(conn, viewer, id.chat).await {
        Err(Error::NotFound(_)) => Err(Error::NotFound("message")),
        access => access,
    }?;
    if access.member().is_none() {
        return Err(Error::NotFound("message"));
    }
    let message = messages::by_ids(conn, &[id]).await?.pop().ok_or(Error::NotFound("message"))?;
    Ok((access, message))
}
