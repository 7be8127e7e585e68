//! Messages: sending, reading, pinning and deleting them.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use chrono::TimeDelta;

use crate::access::{ChatAccess, ReadScope};
use crate::domain::chat_events::MessageChange;
use crate::domain::ids::{ChatId, MessageId, UserId};
use crate::domain::message_queries::{CountKey, MessageList, MessagesQuery, PinnedQuery, Readable};
use crate::domain::messages::{Message, MessageDraft, Pinned, SystemMessageKind};
use crate::domain::pagination::{Page, PageEnd, PageWindow};
use crate::domain::users::Viewer;
use crate::error::{Error, Result};
use crate::service::chat_transaction::ChatTransaction;
use crate::service::context::AppContext;
use crate::service::send::batch::SendResult;
use crate::storage::connection::Conn;
use crate::storage::replica_reads::Known;
use crate::storage::{chats, mentions, messages, notifications, polls, reactions, revisions, search_index};

/// The maximum number of pinned messages of a chat.
const MAX_PINNED_MESSAGES: i64 = 100;
/// The age from which on messages are read from the replica.
const MIN_HISTORY_AGE: TimeDelta = TimeDelta::minutes(1);

/// The pages that queries found, by query.
type PagesByQuery<Q> = HashMap<Q, Page<Arc<Message>>>;

/// Sends a message: see [`SendQueue::send`](crate::service::send::queue::SendQueue::send).
///
/// # Errors
///
/// Returns the error of the send.
pub async fn send(app: &AppContext, viewer: Arc<Viewer>, draft: MessageDraft) -> Result<SendResult> {
    app.send_queue.send(viewer, draft).await
}

/// Returns the messages with the given ids that the scope may read, by id.
///
/// # Errors
///
/// Fails only if the database does.
pub async fn by_ids(
    app: &AppContext,
    scope: ReadScope<'_>,
    ids: &[MessageId],
) -> Result<HashMap<MessageId, Arc<Message>>> {
    let mut conn = app.database.read().await?;
    let readable = ChatAccess::retain_with_history(&mut conn, scope, ids, |id| id.chat).await?;
    let readable: Vec<MessageId> = readable.into_iter().filter_map(Readable::into_id).collect();
    let found = messages::by_ids(&mut conn, &readable).await?;
    Ok(found.into_iter().map(|message| (message.id, Arc::new(message))).collect())
}

/// Returns pages of messages of those queries whose chat the scope may read.
///
/// # Errors
///
/// Fails only if the database does.
pub async fn pages(
    app: &AppContext,
    scope: ReadScope<'_>,
    queries: &[MessagesQuery],
) -> Result<PagesByQuery<MessagesQuery>> {
    let mut conn = app.database.read().await?;
    let readable = ChatAccess::retain_with_history(&mut conn, scope, queries, |query| query.list.chat()).await?;
    let fetched = match history_ends(&readable).filter(|_| app.database.has_usable_replica()) {
        Some(ends) => {
            let known = versions(&mut conn, ends.iter().map(|id| id.chat)).await?;
            drop(conn);
            pages_of_history(app, &known, &ends, &readable).await?
        }
        None => messages::pages(&mut conn, &readable).await?,
    };
    let pages = readable.into_iter().zip(fetched).map(|(Readable { query, .. }, rows)| {
        let page = to_page(&query.window, rows);
        (query, page)
    });
    Ok(pages.collect())
}

/// Returns pages of pinned messages of those queries whose chat the scope may read.
///
/// # Errors
///
/// Fails only if the database does.
pub async fn pinned_pages(
    app: &AppContext,
    scope: ReadScope<'_>,
    queries: &[PinnedQuery],
) -> Result<PagesByQuery<PinnedQuery>> {
    let mut conn = app.database.read().await?;
    let readable = ChatAccess::retain_with_history(&mut conn, scope, queries, |query| query.chat).await?;
    let fetched = messages::pinned(&mut conn, &readable).await?;
    let pages = readable.into_iter().zip(fetched).map(|(Readable { query, .. }, rows)| {
        let page = to_page(&query.window, rows);
        (query, page)
    });
    Ok(pages.collect())
}

fn to_page<K>(window: &PageWindow<K>, rows: Vec<Message>) -> Page<Arc<Message>> {
    window.to_page(rows.into_iter().map(Arc::new).collect())
}

/// Returns a message of the chat's timeline with its neighbours, up to `count` messages in all.
///
/// The page is empty if the viewer may not read the message or it is not in the timeline.
///
/// # Errors
///
/// Fails only if the database does.
pub async fn around(app: &AppContext, viewer: &Viewer, id: MessageId, count: usize) -> Result<Page<Arc<Message>>> {
    let list = MessageList::Timeline(id.chat);
    let before = PageWindow { after: None, before: Some(id.seq), end: PageEnd::Last, limit: count };
    let from = PageWindow { after: Some(id.seq - 1), before: None, end: PageEnd::First, limit: count };
    let queries = [MessagesQuery { list, window: before }, MessagesQuery { list, window: from }];
    let mut found = pages(app, viewer.into(), &queries).await?;
    let [before, from] = queries.map(|query| found.remove(&query).unwrap_or_else(Page::empty));
    match from.items.first() {
        Some(message) if message.id == id => Ok(Page::around(before, from, count)),
        _ => Ok(Page::empty()),
    }
}

/// Returns the number of messages for those keys whose chat the scope may read.
///
/// # Errors
///
/// Fails only if the database does.
pub async fn counts(app: &AppContext, scope: ReadScope<'_>, keys: &[CountKey]) -> Result<HashMap<CountKey, i64>> {
    let mut conn = app.database.read().await?;
    let readable = ChatAccess::retain_with_history(&mut conn, scope, keys, CountKey::chat).await?;
    let counts = match app.database.has_usable_replica() {
        true => {
            let known = versions(&mut conn, readable.iter().map(|readable| readable.query.chat())).await?;
            drop(conn);
            let read = async |conn: &mut Conn| messages::counts(conn, &readable).await;
            app.database.read_from_replica(Known::ChatVersions(&known), read).await?
        }
        false => messages::counts(&mut conn, &readable).await?,
    };
    Ok(readable.into_iter().map(|readable| readable.query).zip(counts).collect())
}

/// Returns the versions of chats, as the primary has them.
async fn versions(conn: &mut Conn, chats: impl Iterator<Item = ChatId>) -> Result<Vec<(ChatId, i64)>> {
    let mut ids: Vec<ChatId> = chats.collect();
    ids.sort();
    ids.dedup();
    Ok(chats::versions(conn, &ids).await?.into_iter().collect())
}

/// Returns the messages before which pages end, if all of them end before one.
fn history_ends(queries: &[Readable<MessagesQuery>]) -> Option<Vec<MessageId>> {
    let end = |readable: &Readable<MessagesQuery>| {
        let MessagesQuery { list, window } = &readable.query;
        window.before.map(|seq| MessageId { chat: list.chat(), seq })
    };
    let ends: BTreeSet<MessageId> = queries.iter().map(end).collect::<Option<_>>()?;
    (!ends.is_empty()).then(|| ends.into_iter().collect())
}

/// Returns pages from the replica, if they end before messages that are old enough.
///
/// Other pages come from the primary. Old messages hardly change, so that the replica usually has them as the primary
/// has.
async fn pages_of_history(
    app: &AppContext,
    known: &[(ChatId, i64)],
    ends: &[MessageId],
    queries: &[Readable<MessagesQuery>],
) -> Result<Vec<Vec<Message>>> {
    let created_before = app.clock.now() - MIN_HISTORY_AGE;
    let read = async |conn: &mut Conn| match messages::are_older(conn, ends, created_before).await? {
        true => messages::pages(conn, queries).await.map(Some),
        false => Ok(None),
    };
    match app.database.read_from_replica(Known::ChatVersions(known), read).await? {
        Some(fetched) => Ok(fetched),
        None => messages::pages(&mut app.database.read().await?, queries).await,
    }
}

/// Returns the users whom messages mention, by user id, of messages that were shown to the viewer.
///
/// # Errors
///
/// Fails only if the database does.
pub async fn mentioned_users(app: &AppContext, ids: &[MessageId]) -> Result<HashMap<MessageId, Vec<UserId>>> {
    let mut conn = app.database.read().await?;
    let mut mentioned: HashMap<MessageId, Vec<UserId>> = HashMap::new();
    for (id, user) in mentions::users(&mut conn, ids).await? {
        mentioned.entry(id).or_default().push(user);
    }
    Ok(mentioned)
}

/// Deletes a message: a tombstone keeps its position and nothing of its content.
///
/// A message that is deleted already stays as it is.
///
/// # Errors
///
/// Returns [`Error::NotFound`] if the viewer may not read the message, and [`Error::Forbidden`] if they may not delete
/// it.
pub async fn delete(app: &AppContext, viewer: &Viewer, id: MessageId) -> Result<Arc<Message>> {
    app.rate_limits.check_write(viewer)?;
    let mut conn = app.database.write().await?;
    let (outcome, message) = conn
        .transaction(async move |conn| {
            let (mut transaction, mut message) = ChatTransaction::lock_message(conn, viewer, id, &app.clock).await?;
            transaction.rights(viewer).can_delete(&message)?;
            if message.is_deleted() {
                return Ok((transaction.commit_changes(conn).await?, Arc::new(message)));
            }
            message.tombstone(transaction.now);
            revisions::delete_all(conn, id).await?;
            mentions::delete_all(conn, id).await?;
            reactions::delete_all(conn, id).await?;
            polls::delete_votes(conn, id).await?;
            search_index::delete(conn, id).await?;
            let read = notifications::mark_read_by_message(conn, id, transaction.now).await?;
            transaction.record_read_notifications(&read);
            let message = transaction.write_message(conn, message, MessageChange::Deleted).await?;
            decrement_reply_count(conn, &mut transaction, &message).await?;
            Ok((transaction.commit_changes(conn).await?, message))
        })
        .await?;
    app.publish_outcome(outcome);
    Ok(message)
}

/// Takes a deleted reply off the reply count of its thread.
async fn decrement_reply_count(conn: &mut Conn, transaction: &mut ChatTransaction, reply: &Message) -> Result<()> {
    let Some(root) = reply.thread_root() else { return Ok(()) };
    if let Some(mut root) = messages::by_ids(conn, &[root]).await?.pop() {
        root.reply_count -= 1;
        transaction.write_message(conn, root, MessageChange::Thread).await?;
    }
    Ok(())
}

/// Pins or unpins a message; a message that is already so stays as it is.
///
/// # Errors
///
/// Returns [`Error::NotFound`] if the viewer may not read the message, [`Error::Forbidden`] if they may not pin in the
/// chat, and [`Error::BadUserInput`] if the chat has too many pinned messages.
pub async fn set_pinned(app: &AppContext, viewer: &Viewer, id: MessageId, pinned: bool) -> Result<Arc<Message>> {
    app.rate_limits.check_write(viewer)?;
    let mut conn = app.database.write().await?;
    let (outcome, message) = conn
        .transaction(async move |conn| {
            let (mut transaction, mut message) = ChatTransaction::lock_message(conn, viewer, id, &app.clock).await?;
            transaction.rights(viewer).can_pin(&message)?;
            if message.pinned.is_some() == pinned {
                return Ok((transaction.commit_changes(conn).await?, Arc::new(message)));
            }
            if pinned && messages::count(conn, CountKey::Pinned(id.chat)).await? >= MAX_PINNED_MESSAGES {
                let rule = format!("a chat can have at most {MAX_PINNED_MESSAGES} pinned messages");
                return Err(Error::bad_input("messageId", rule));
            }
            message.pinned = pinned.then(|| Pinned { pinned_at: transaction.now, pinned_by: viewer.id().clone() });
            let message = transaction.write_message(conn, message, MessageChange::Pin).await?;
            if pinned {
                let kind = SystemMessageKind::MessagePinned;
                transaction.system_message(kind, viewer.id(), None, Some(id.to_string()));
            }
            Ok((transaction.commit_changes(conn).await?, message))
        })
        .await?;
    app.publish_outcome(outcome);
    Ok(message)
}
