//! Messages: sending, reading, editing, pinning and deleting them.

use std::collections::HashMap;
use std::sync::Arc;

use crate::access::{ChatAccess, ReadScope};
use crate::domain::chat_events::MessageChange;
use crate::domain::ids::{MessageId, UserId};
use crate::domain::message_queries::{CountKey, MessageList, MessagesQuery, PinnedQuery};
use crate::domain::messages::{Message, MessageDraft, Pinned, Revision, SystemMessageKind, message_kind};
use crate::domain::pagination::{Page, PageEnd, PageWindow};
use crate::domain::rights::DenialReason;
use crate::domain::text;
use crate::domain::users::Viewer;
use crate::error::{Error, Result};
use crate::service::blocklist;
use crate::service::chat_transaction::ChatTransaction;
use crate::service::context::AppContext;
use crate::service::send::queue::SendResult;
use crate::storage::connection::Conn;
use crate::storage::{messages, notifications, polls, reactions, search};

pub async fn send(app: &AppContext, viewer: Arc<Viewer>, draft: MessageDraft) -> Result<SendResult> {
    app.send_queue.send(viewer, draft).await
}

/// The messages among these that the viewer may read: of chats that they are in.
pub async fn by_ids(
    app: &AppContext,
    reader: ReadScope<'_>,
    ids: &[MessageId],
) -> Result<HashMap<MessageId, Arc<Message>>> {
    let mut conn = app.database.read().await?;
    let open = ChatAccess::retain_readable(&mut conn, reader, ids, |id| id.chat).await?;
    let found = messages::by_ids(&mut conn, &open).await?;
    Ok(found.into_iter().map(|message| (message.id, Arc::new(message))).collect())
}

type PagesByQuery<Q> = HashMap<Q, Page<Arc<Message>>>;

/// Pages of messages of chats that the viewer is in; of others, none.
pub async fn pages(
    app: &AppContext,
    reader: ReadScope<'_>,
    queries: &[MessagesQuery],
) -> Result<PagesByQuery<MessagesQuery>> {
    let mut conn = app.database.read().await?;
    let open = ChatAccess::retain_readable(&mut conn, reader, queries, |query| query.list.chat()).await?;
    let fetched = messages::pages(&mut conn, &open).await?;
    let pages: Vec<_> = open.iter().zip(fetched).map(|(query, rows)| to_page(&query.window, rows)).collect();
    Ok(open.into_iter().zip(pages).collect())
}

/// Pages of pinned messages of chats that the viewer is in; of others, none.
pub async fn pinned_pages(
    app: &AppContext,
    reader: ReadScope<'_>,
    queries: &[PinnedQuery],
) -> Result<PagesByQuery<PinnedQuery>> {
    let mut conn = app.database.read().await?;
    let open = ChatAccess::retain_readable(&mut conn, reader, queries, |query| query.chat).await?;
    let fetched = messages::pinned(&mut conn, &open).await?;
    let pages: Vec<_> = open.iter().zip(fetched).map(|(query, rows)| to_page(&query.window, rows)).collect();
    Ok(open.into_iter().zip(pages).collect())
}

fn to_page<K>(window: &PageWindow<K>, rows: Vec<Message>) -> Page<Arc<Message>> {
    window.to_page(rows.into_iter().map(Arc::new).collect())
}

/// A message of the chat's own with its neighbours, `number` in all where there are as many.
pub async fn around(app: &AppContext, viewer: &Viewer, id: MessageId, number: usize) -> Result<Page<Arc<Message>>> {
    let older = number.saturating_sub(1) / 2;
    let list = MessageList::Timeline(id.chat);
    let before = PageWindow { after: None, before: Some(id.seq), end: PageEnd::Last, limit: older };
    let from = PageWindow { after: Some(id.seq - 1), before: None, end: PageEnd::First, limit: number - older };
    let queries = [MessagesQuery { list, window: before }, MessagesQuery { list, window: from }];
    let mut found = pages(app, viewer.into(), &queries).await?;
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

/// How many messages there are in chats that the viewer is in; in others, none.
pub async fn counts(app: &AppContext, reader: ReadScope<'_>, counted: &[CountKey]) -> Result<HashMap<CountKey, i64>> {
    let mut conn = app.database.read().await?;
    let open = ChatAccess::retain_readable(&mut conn, reader, counted, CountKey::chat).await?;
    let counts = messages::counts(&mut conn, &open).await?;
    Ok(open.into_iter().zip(counts).collect())
}

/// The former texts of messages that were shown to the viewer, oldest first.
pub async fn revisions(app: &AppContext, ids: &[MessageId]) -> Result<HashMap<MessageId, Vec<Revision>>> {
    let mut conn = app.database.read().await?;
    let mut revisions: HashMap<MessageId, Vec<Revision>> = HashMap::new();
    for (id, revision) in messages::revisions(&mut conn, ids).await? {
        revisions.entry(id).or_default().push(revision);
    }
    Ok(revisions)
}

/// Whom messages that were shown to the viewer mention, by user id.
pub async fn mentioned_users(app: &AppContext, ids: &[MessageId]) -> Result<HashMap<MessageId, Vec<UserId>>> {
    let mut conn = app.database.read().await?;
    let mut mentioned: HashMap<MessageId, Vec<UserId>> = HashMap::new();
    for (id, user) in messages::mentioned_users(&mut conn, ids).await? {
        mentioned.entry(id).or_default().push(user);
    }
    Ok(mentioned)
}

/// Replaces the text of the viewer's own message and keeps the former one. The same text again
/// changes nothing. Nobody is mentioned by an edit.
pub async fn edit(app: &AppContext, viewer: &Viewer, id: MessageId, new: &str) -> Result<Arc<Message>> {
    let new = text::validate_block("text", new, app.config.limits.max_message_characters)?;
    let mut conn = app.database.write().await?;
    let (told, message) = conn
        .transaction(async move |conn| {
            let (mut writing, mut message) = ChatTransaction::lock_message(conn, app, viewer, id).await?;
            writing.rights(viewer).can_edit(&message)?;
            let old = message.text.take().ok_or(DenialReason::NoText)?;
            let new = blocklist::load_for_viewer(conn, viewer).await?.apply("text", new)?;
            if old == new {
                return Ok((writing.commit_changes(conn).await?, Arc::new(Message { text: Some(old), ..message })));
            }
            messages::insert_revision(conn, &message, &old, writing.now).await?;
            search::delete(conn, id).await?;
            search::index(conn, std::iter::once((id, new.as_str()))).await?;
            message.kind = message_kind(Some(&new), &message.content);
            message.text = Some(new);
            message.edited_at = Some(writing.now);
            let message = writing.write_message(conn, message, MessageChange::Edited).await?;
            Ok((writing.commit_changes(conn).await?, message))
        })
        .await?;
    app.publish_outcome(told);
    Ok(message)
}

/// Deletes a message: its place stays, and nothing of what it said. Once deleted stays deleted.
pub async fn delete(app: &AppContext, viewer: &Viewer, id: MessageId) -> Result<Arc<Message>> {
    let mut conn = app.database.write().await?;
    let (told, message) = conn
        .transaction(async move |conn| {
            let (mut writing, mut message) = ChatTransaction::lock_message(conn, app, viewer, id).await?;
            writing.rights(viewer).can_delete(&message)?;
            if message.is_deleted() {
                return Ok((writing.commit_changes(conn).await?, Arc::new(message)));
            }
            message.tombstone(writing.now);
            messages::delete_revisions(conn, id).await?;
            messages::delete_mentions(conn, id).await?;
            reactions::delete_all(conn, id).await?;
            polls::delete_votes(conn, id).await?;
            search::delete(conn, id).await?;
            let read = notifications::mark_read_by_message(conn, id, writing.now).await?;
            writing.record_read_notifications(&read);
            let message = writing.write_message(conn, message, MessageChange::Deleted).await?;
            decrement_reply_count(conn, &mut writing, &message).await?;
            Ok((writing.commit_changes(conn).await?, message))
        })
        .await?;
    app.publish_outcome(told);
    Ok(message)
}

/// A reply that was deleted counts in its thread no more.
async fn decrement_reply_count(conn: &mut Conn, writing: &mut ChatTransaction, reply: &Message) -> Result<()> {
    let Some(root) = reply.thread_root() else { return Ok(()) };
    if let Some(mut root) = messages::by_ids(conn, &[root]).await?.pop() {
        root.reply_count -= 1;
        writing.write_message(conn, root, MessageChange::Thread).await?;
    }
    Ok(())
}

/// Messages that a chat may have pinned.
const MAX_PINNED_MESSAGES: i64 = 100;

/// Pins a message, or takes it off. What is so already changes nothing.
pub async fn set_pinned(app: &AppContext, viewer: &Viewer, id: MessageId, pinned: bool) -> Result<Arc<Message>> {
    let mut conn = app.database.write().await?;
    let (told, message) = conn
        .transaction(async move |conn| {
            let (mut writing, mut message) = ChatTransaction::lock_message(conn, app, viewer, id).await?;
            writing.rights(viewer).can_pin(&message)?;
            if message.pinned.is_some() == pinned {
                return Ok((writing.commit_changes(conn).await?, Arc::new(message)));
            }
            if pinned && messages::count(conn, CountKey::Pinned(id.chat)).await? >= MAX_PINNED_MESSAGES {
                let full = format!("would be the {}st pinned message of the chat", MAX_PINNED_MESSAGES + 1);
                return Err(Error::bad_input("messageId", full));
            }
            message.pinned = pinned.then(|| Pinned { pinned_at: writing.now, pinned_by: viewer.id().clone() });
            let message = writing.write_message(conn, message, MessageChange::Pin).await?;
            if pinned {
                writing.system_message(SystemMessageKind::MessagePinned, viewer.id(), None, Some(id.to_string()));
            }
            Ok((writing.commit_changes(conn).await?, message))
        })
        .await?;
    app.publish_outcome(told);
    Ok(message)
}
