//! Read and delivery receipts.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::{DateTime, Utc};

use crate::domain::buckets::group_by_bucket;
use crate::domain::ids::{ChatId, MessageId, UserId};
use crate::domain::member_queries::{MessageLists, ReadersQuery, ReceiptPosition};
use crate::domain::members::{Member, ReadMarkers};
use crate::domain::messages::Message;
use crate::domain::pagination::Page;
use crate::domain::users::Viewer;
use crate::error::{Error, Result};
use crate::service::chat_transaction::ChatTransaction;
use crate::service::commit_outcome::CommitOutcome;
use crate::service::context::AppContext;
use crate::storage::connection::Conn;
use crate::storage::{chats, messages, notifications, receipts, threads};

/// The maximum number of messages of one `markDelivered`.
const MAX_DELIVERED_MESSAGES: usize = 100;

/// A message that was shown to the viewer, whose receipts are asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ReceiptQuery {
    pub id: MessageId,
    pub lists: MessageLists,
    pub sender: Option<UserId>,
    pub sent_at: DateTime<Utc>,
}

impl ReceiptQuery {
    fn thread_root(&self) -> Option<MessageId> {
        self.lists.thread_root_seq.map(|seq| MessageId { chat: self.id.chat, seq })
    }
}

/// The delivery status of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DeliveryStatus {
    Sent,
    Delivered,
    Read,
}

/// Moves the viewer's read marker forward to a message or to the newest message.
///
/// A marker that is further on stays there. A private marker is not shown to other members. The marker is a position in
/// the timeline: a reply that only its thread has moves it to the last message of the timeline before the reply.
///
/// # Errors
///
/// Returns [`Error::NotFound`] if the chat does not exist for the viewer or has no such message, and
/// [`Error::Forbidden`] if the viewer is not a member.
pub async fn mark_read(
    app: &AppContext,
    viewer: &Viewer,
    id: ChatId,
    up_to: Option<MessageId>,
    privately: bool,
) -> Result<Member> {
    if up_to.is_some_and(|message| message.chat != id) {
        return Err(Error::NotFound("message"));
    }
    app.rate_limits.check_write(viewer)?;
    let mut conn = app.database.write().await?;
    let (outcome, member) = conn
        .transaction(async move |conn| {
            let mut transaction = ChatTransaction::lock(conn, viewer, id, &app.clock).await?;
            let previous = transaction.rights(viewer).require_membership()?.clone();
            let (seq, notified_up_to) = match up_to {
                Some(message) => (timeline_seq(conn, &previous, message).await?, message.seq),
                None => (transaction.chat().last_seq, transaction.chat().version),
            };
            let mut member = previous.clone();
            if seq >= member.read_markers.last_read_seq {
                let has_moved = seq > member.read_markers.last_read_seq;
                member.read_markers = ReadMarkers {
                    last_read_seq: seq,
                    last_read_at: if has_moved { Some(transaction.now) } else { member.read_markers.last_read_at },
                    is_private: privately,
                    ..member.read_markers
                };
            }
            member.preferences.marked_unread = false;
            let member = transaction.write_unversioned(conn, &previous, member).await?;
            let count = notifications::mark_read_up_to(conn, &member.id(), notified_up_to, transaction.now).await?;
            transaction.mark_read_for(conn, viewer.id(), count).await?;
            Ok((transaction.commit_changes(conn).await?, member))
        })
        .await?;
    app.publish_outcome(outcome);
    Ok(member)
}

/// Marks a chat as unread for the viewer; `from` moves the read marker back to before that message.
///
/// # Errors
///
/// Returns [`Error::NotFound`] if the chat does not exist for the viewer or has no such message, and
/// [`Error::Forbidden`] if the viewer is not a member.
pub async fn mark_unread(app: &AppContext, viewer: &Viewer, id: ChatId, from: Option<MessageId>) -> Result<Member> {
    if from.is_some_and(|message| message.chat != id) {
        return Err(Error::NotFound("message"));
    }
    app.rate_limits.check_write(viewer)?;
    let mut conn = app.database.write().await?;
    let (outcome, member) = conn
        .transaction(async move |conn| {
            let mut transaction = ChatTransaction::lock(conn, viewer, id, &app.clock).await?;
            let previous = transaction.rights(viewer).require_membership()?.clone();
            let mut member = previous.clone();
            if let Some(from) = from {
                require_message(conn, &previous, from).await?;
                let seq = messages::previous_in_timeline(conn, from).await?.map_or(0, |message| message.id.seq);
                // Messages that the member may not read are never unread.
                member.move_read_position_back(seq.max(previous.history_after_seq), transaction.now);
            }
            member.preferences.marked_unread = true;
            let member = transaction.write_unversioned(conn, &previous, member).await?;
            Ok((transaction.commit_changes(conn).await?, member))
        })
        .await?;
    app.publish_outcome(outcome);
    Ok(member)
}

/// Returns a message that exists and that the member may read.
async fn require_message(conn: &mut Conn, member: &Member, id: MessageId) -> Result<Message> {
    let message = messages::by_ids(conn, &[id]).await?.pop();
    message.filter(|_| member.may_read(id.seq)).ok_or(Error::NotFound("message"))
}

/// Returns the number of the last message of the timeline up to any message.
async fn timeline_seq(conn: &mut Conn, member: &Member, id: MessageId) -> Result<i64> {
    if require_message(conn, member, id).await?.in_timeline {
        return Ok(id.seq);
    }
    Ok(messages::previous_in_timeline(conn, id).await?.map_or(0, |message| message.id.seq))
}

/// Records that messages arrived at a device of the viewer.
///
/// In each chat, the given message and all before it have arrived. The chats of each bucket are changed in one
/// transaction; a request that fails may be repeated, because no marker moves back.
///
/// # Errors
///
/// Returns [`Error::BadUserInput`] if there are no or too many messages, and [`Error::NotFound`] if the viewer may not
/// read one of them.
pub async fn mark_delivered(app: &AppContext, viewer: &Viewer, up_to: Vec<MessageId>) -> Result<Vec<Member>> {
    if up_to.is_empty() || up_to.len() > MAX_DELIVERED_MESSAGES {
        return Err(Error::bad_input("upTo", format!("must have 1 to {MAX_DELIVERED_MESSAGES} messages")));
    }
    let chats: BTreeSet<ChatId> = up_to.iter().map(|message| message.chat).collect();
    app.rate_limits.check_writes(viewer, chats.len())?;
    let mut conn = app.database.write().await?;
    let mut members = Vec::new();
    for up_to in group_by_bucket(up_to, |message| message.bucket()).into_values() {
        let written = conn.transaction(async move |conn| write_delivered(conn, app, viewer, &up_to).await).await?;
        for (outcome, member) in written {
            app.publish_outcome(outcome);
            members.push(member);
        }
    }
    Ok(members)
}

/// Records that messages of one bucket arrived at a device of the viewer.
async fn write_delivered(
    conn: &mut Conn,
    app: &AppContext,
    viewer: &Viewer,
    up_to: &[MessageId],
) -> Result<Vec<(CommitOutcome, Member)>> {
    let existing = messages::by_ids(conn, up_to).await?;
    if up_to.iter().any(|id| !existing.iter().any(|message| message.id == *id)) {
        return Err(Error::NotFound("message"));
    }
    // The chats are locked in the order of their ids, as everywhere, so that no two transactions block each other.
    let mut newest_by_chat: BTreeMap<ChatId, i64> = BTreeMap::new();
    for message in up_to {
        let seq = newest_by_chat.entry(message.chat).or_default();
        *seq = message.seq.max(*seq);
    }
    let mut written = Vec::new();
    for (chat, seq) in newest_by_chat {
        let (mut transaction, previous) =
            ChatTransaction::lock_for_member(conn, viewer, chat, "message", &app.clock).await?;
        if up_to.iter().any(|id| id.chat == chat && !previous.may_read(id.seq)) {
            return Err(Error::NotFound("message"));
        }
        let mut member = previous.clone();
        member.read_markers.last_delivered_seq = seq.max(member.read_markers.last_delivered_seq);
        let member = transaction.write_unversioned(conn, &previous, member).await?;
        written.push((transaction.commit_changes(conn).await?, member));
    }
    Ok(written)
}

/// Returns the delivery statuses of messages: the furthest that each has reached with another member.
///
/// In a chat that is too large for receipts, every message has the status `Sent`.
///
/// # Errors
///
/// Fails only if the database does.
pub async fn delivery_statuses(
    app: &AppContext,
    messages: &[ReceiptQuery],
) -> Result<HashMap<ReceiptQuery, DeliveryStatus>> {
    let mut conn = app.database.read().await?;
    let chats = chats_with_receipts(app, &mut conn, messages.iter().map(|message| message.id.chat)).await?;
    let positions = receipts::positions(&mut conn, &chats).await?;
    let roots: Vec<MessageId> = messages.iter().filter_map(ReceiptQuery::thread_root).collect();
    let in_threads = if roots.is_empty() { HashMap::new() } else { threads::read_positions(&mut conn, &roots).await? };
    let has_read = |message: &ReceiptQuery, position: &ReceiptPosition| {
        let in_thread = message.thread_root().and_then(|root| in_threads.get(&(root, position.user.clone())));
        let in_timeline = message.lists.in_timeline && message.id.seq <= position.read_seq;
        in_timeline || in_thread.is_some_and(|read_seq| message.id.seq <= *read_seq)
    };
    let status = |message: &ReceiptQuery| {
        let others = positions.get(&message.id.chat).into_iter().flatten().filter(|position| {
            message.sender.as_ref() != Some(&position.user) && position.joined_at <= message.sent_at
        });
        let statuses = others.map(|position| match message.id.seq {
            _ if has_read(message, position) => DeliveryStatus::Read,
            seq if seq <= position.delivered_seq => DeliveryStatus::Delivered,
            _ => DeliveryStatus::Sent,
        });
        statuses.max().unwrap_or(DeliveryStatus::Sent)
    };
    Ok(messages.iter().map(|message| (message.clone(), status(message))).collect())
}

/// Returns pages of the users who have read messages; none in a chat too large for receipts.
///
/// # Errors
///
/// Fails only if the database does.
pub async fn readers(app: &AppContext, queries: &[ReadersQuery]) -> Result<HashMap<ReadersQuery, Page<UserId>>> {
    let mut conn = app.database.read().await?;
    let chats = chats_with_receipts(app, &mut conn, queries.iter().map(|query| query.message.chat)).await?;
    let answered: Vec<_> = queries.iter().filter(|query| chats.contains(&query.message.chat)).cloned().collect();
    let fetched = receipts::readers(&mut conn, &answered).await?;
    let pages: Vec<_> = answered.iter().zip(fetched).map(|(query, users)| query.window.to_page(users)).collect();
    Ok(answered.into_iter().zip(pages).collect())
}

/// Returns those of the given chats that are small enough for receipts.
async fn chats_with_receipts(
    app: &AppContext,
    conn: &mut Conn,
    chats: impl Iterator<Item = ChatId>,
) -> Result<Vec<ChatId>> {
    let mut ids: Vec<ChatId> = chats.collect();
    ids.sort();
    ids.dedup();
    let max_members = app.settings.limits.max_receipt_members;
    let chats = chats::by_ids_any_organization(conn, &ids).await?;
    Ok(chats.iter().filter(|chat| chat.has_receipts(max_members)).map(|chat| chat.id).collect())
}
