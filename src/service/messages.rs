//! Messages: sending, reading, editing, pinning and deleting them.

use std::collections::HashMap;
use std::sync::Arc;

use crate::access::{Access, Reader};
use crate::domain::chat_events::MessageChange;
use crate::domain::ids::{MessageId, UserId};
use crate::domain::messages::{Message, MessageDraft, NoticeKind, Pinned, Revision, kind_of};
use crate::domain::pagination::{End, Page, Window};
use crate::domain::rights::Refusal;
use crate::domain::text;
use crate::domain::users::Viewer;
use crate::error::{Error, Result};
use crate::service::blocklist;
use crate::service::chat_transaction::Writing;
use crate::service::context::App;
use crate::service::send::queue::Sent;
use crate::storage::connection::Conn;
use crate::storage::messages::{Counted, List, MessagesQuery, PinnedQuery};
use crate::storage::{messages, notifications, polls, reactions, search};

pub async fn send(app: &App, viewer: Arc<Viewer>, draft: MessageDraft) -> Result<Sent> {
    app.committer.send(viewer, draft).await
}

/// The messages among these that the viewer may read: of chats that they are in.
pub async fn by_ids(app: &App, reader: Reader<'_>, ids: &[MessageId]) -> Result<HashMap<MessageId, Arc<Message>>> {
    let mut conn = app.store.read().await?;
    let open = Access::open(&mut conn, reader, ids, |id| id.chat).await?;
    let found = messages::by_ids(&mut conn, &open).await?;
    Ok(found.into_iter().map(|message| (message.id, Arc::new(message))).collect())
}

type Pages<Q> = HashMap<Q, Page<Arc<Message>>>;

/// Pages of messages of chats that the viewer is in; of others, none.
pub async fn pages(app: &App, reader: Reader<'_>, queries: &[MessagesQuery]) -> Result<Pages<MessagesQuery>> {
    let mut conn = app.store.read().await?;
    let open = Access::open(&mut conn, reader, queries, |query| query.list.chat()).await?;
    let fetched = messages::pages(&mut conn, &open).await?;
    let pages: Vec<_> = open.iter().zip(fetched).map(|(query, rows)| page(&query.window, rows)).collect();
    Ok(open.into_iter().zip(pages).collect())
}

/// Pages of pinned messages of chats that the viewer is in; of others, none.
pub async fn pinned(app: &App, reader: Reader<'_>, queries: &[PinnedQuery]) -> Result<Pages<PinnedQuery>> {
    let mut conn = app.store.read().await?;
    let open = Access::open(&mut conn, reader, queries, |query| query.chat).await?;
    let fetched = messages::pinned(&mut conn, &open).await?;
    let pages: Vec<_> = open.iter().zip(fetched).map(|(query, rows)| page(&query.window, rows)).collect();
    Ok(open.into_iter().zip(pages).collect())
}

fn page<K>(window: &Window<K>, rows: Vec<Message>) -> Page<Arc<Message>> {
    window.page(rows.into_iter().map(Arc::new).collect())
}

/// A message of the chat's own with its neighbours, `number` in all where there are as many.
pub async fn around(app: &App, viewer: &Viewer, id: MessageId, number: usize) -> Result<Page<Arc<Message>>> {
    let older = number.saturating_sub(1) / 2;
    let list = List::Timeline(id.chat);
    let before = Window { after: None, before: Some(id.seq), end: End::Last, limit: older };
    let from = Window { after: Some(id.seq - 1), before: None, end: End::First, limit: number - older };
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
pub async fn counts(app: &App, reader: Reader<'_>, counted: &[Counted]) -> Result<HashMap<Counted, i64>> {
    let mut conn = app.store.read().await?;
    let open = Access::open(&mut conn, reader, counted, Counted::chat).await?;
    let counts = messages::counts(&mut conn, &open).await?;
    Ok(open.into_iter().zip(counts).collect())
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

/// Whom messages that were shown to the viewer mention, by user id.
pub async fn mentioned(app: &App, ids: &[MessageId]) -> Result<HashMap<MessageId, Vec<UserId>>> {
    let mut conn = app.store.read().await?;
    let mut mentioned: HashMap<MessageId, Vec<UserId>> = HashMap::new();
    for (id, user) in messages::mentioned(&mut conn, ids).await? {
        mentioned.entry(id).or_default().push(user);
    }
    Ok(mentioned)
}

/// Replaces the text of the viewer's own message and keeps the former one. The same text again
/// changes nothing. Nobody is mentioned by an edit.
pub async fn edit(app: &App, viewer: &Viewer, id: MessageId, new: &str) -> Result<Arc<Message>> {
    let new = text::block("text", new, app.config.limits.message_characters)?;
    let mut conn = app.store.write().await?;
    let (told, message) = conn
        .transaction(async move |conn| {
            let (mut writing, mut message) = Writing::lock_message(conn, app, viewer, id).await?;
            writing.rights(viewer).can_edit(&message)?;
            let old = message.text.take().ok_or(Refusal::NoText)?;
            let new = blocklist::own(conn, viewer).await?.pass("text", new)?;
            if old == new {
                return Ok((writing.finish(conn).await?, Arc::new(Message { text: Some(old), ..message })));
            }
            messages::keep_revision(conn, &message, &old, writing.now).await?;
            search::forget(conn, id).await?;
            search::index(conn, std::iter::once((id, new.as_str()))).await?;
            message.kind = kind_of(Some(&new), &message.content);
            message.text = Some(new);
            message.edited_at = Some(writing.now);
            let message = writing.write_message(conn, message, MessageChange::Edited).await?;
            Ok((writing.finish(conn).await?, message))
        })
        .await?;
    app.tell(told);
    Ok(message)
}

/// Deletes a message: its place stays, and nothing of what it said. Once deleted stays deleted.
pub async fn delete(app: &App, viewer: &Viewer, id: MessageId) -> Result<Arc<Message>> {
    let mut conn = app.store.write().await?;
    let (told, message) = conn
        .transaction(async move |conn| {
            let (mut writing, mut message) = Writing::lock_message(conn, app, viewer, id).await?;
            writing.rights(viewer).can_delete(&message)?;
            if message.is_deleted() {
                return Ok((writing.finish(conn).await?, Arc::new(message)));
            }
            message.erase(writing.now);
            messages::forget_revisions(conn, id).await?;
            messages::forget_mentions(conn, id).await?;
            reactions::clear(conn, id).await?;
            polls::clear(conn, id).await?;
            search::forget(conn, id).await?;
            let read = notifications::read_message(conn, id, writing.now).await?;
            writing.read(&read);
            let message = writing.write_message(conn, message, MessageChange::Deleted).await?;
            shorten_thread(conn, &mut writing, &message).await?;
            Ok((writing.finish(conn).await?, message))
        })
        .await?;
    app.tell(told);
    Ok(message)
}

/// A reply that was deleted counts in its thread no more.
async fn shorten_thread(conn: &mut Conn, writing: &mut Writing, reply: &Message) -> Result<()> {
    let Some(root) = reply.thread_root() else { return Ok(()) };
    if let Some(mut root) = messages::by_ids(conn, &[root]).await?.pop() {
        root.reply_count -= 1;
        writing.write_message(conn, root, MessageChange::Thread).await?;
    }
    Ok(())
}

/// Messages that a chat may have pinned.
const MAX_PINNED: i64 = 100;

/// Pins a message, or takes it off. What is so already changes nothing.
pub async fn pin(app: &App, viewer: &Viewer, id: MessageId, pinned: bool) -> Result<Arc<Message>> {
    let mut conn = app.store.write().await?;
    let (told, message) = conn
        .transaction(async move |conn| {
            let (mut writing, mut message) = Writing::lock_message(conn, app, viewer, id).await?;
            writing.rights(viewer).can_pin(&message)?;
            if message.pinned.is_some() == pinned {
                return Ok((writing.finish(conn).await?, Arc::new(message)));
            }
            if pinned && messages::count(conn, Counted::Pinned(id.chat)).await? >= MAX_PINNED {
                let full = format!("would be the {}st pinned message of the chat", MAX_PINNED + 1);
                return Err(Error::bad_input("messageId", full));
            }
            message.pinned = pinned.then(|| Pinned { at: writing.now, by: viewer.id().clone() });
            let message = writing.write_message(conn, message, MessageChange::Pin).await?;
            if pinned {
                writing.notice(NoticeKind::MessagePinned, viewer.id(), None, Some(id.to_string()));
            }
            Ok((writing.finish(conn).await?, message))
        })
        .await?;
    app.tell(told);
    Ok(message)
}
