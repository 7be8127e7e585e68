//! What was read and what arrived: by the viewer, and by whom else.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Utc};

use crate::domain::ids::{ChatId, MemberId, MessageId, UserId};
use crate::domain::member_queries::ReadersQuery;
use crate::domain::members::{Member, ReadMarkers, UNREAD_CAP, UnreadCounts};
use crate::domain::pagination::Page;
use crate::domain::users::Viewer;
use crate::error::{Error, Result};
use crate::service::chat_transaction::ChatTransaction;
use crate::service::context::AppContext;
use crate::storage::connection::Conn;
use crate::storage::{chats, members, messages, notifications};

/// Moves the viewer's read position forward, to a message or to the newest, and lets the others know
/// or not. A position further on stays as it is.
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
    let mut conn = app.database.write().await?;
    let (told, member) = conn
        .transaction(async move |conn| {
            let mut writing = ChatTransaction::lock(conn, app, viewer, id).await?;
            let mut member = writing.rights(viewer).require_membership()?.clone();
            // What is said in threads counts as seen too where all is.
            let (seq, noticed) = match up_to {
                Some(message) => (require_message(conn, message).await?, message.seq),
                None => (writing.chat().last_seq, writing.chat().version),
            };
            let former = member.clone();
            if seq >= member.read_markers.last_read_seq {
                let moved = seq > member.read_markers.last_read_seq;
                let at = if moved { Some(writing.now) } else { member.read_markers.last_read_at };
                member.read_markers =
                    ReadMarkers { last_read_seq: seq, last_read_at: at, is_private: privately, ..member.read_markers };
            }
            member.preferences.marked_unread = false;
            let member = writing.write_unversioned(conn, &former, member).await?;
            let read = notifications::mark_read_up_to(conn, &member.id(), noticed, writing.now).await?;
            writing.mark_read_for(conn, viewer.id(), read).await?;
            Ok((writing.commit_changes(conn).await?, member))
        })
        .await?;
    app.publish_outcome(told);
    Ok(member)
}

/// Marks a chat as unread for the viewer; from a message on, that and all after it are unread again.
pub async fn mark_unread(app: &AppContext, viewer: &Viewer, id: ChatId, from: Option<MessageId>) -> Result<Member> {
    if from.is_some_and(|message| message.chat != id) {
        return Err(Error::NotFound("message"));
    }
    let mut conn = app.database.write().await?;
    let (told, member) = conn
        .transaction(async move |conn| {
            let mut writing = ChatTransaction::lock(conn, app, viewer, id).await?;
            let mut member = writing.rights(viewer).require_membership()?.clone();
            let former = member.clone();
            if let Some(from) = from {
                require_message(conn, from).await?;
                let seq = messages::previous_in_timeline(conn, from).await?.map_or(0, |message| message.id.seq);
                if seq < member.read_markers.last_read_seq {
                    member.read_markers =
                        ReadMarkers { last_read_seq: seq, last_read_at: Some(writing.now), ..member.read_markers };
                }
            }
            member.preferences.marked_unread = true;
            let member = writing.write_unversioned(conn, &former, member).await?;
            Ok((writing.commit_changes(conn).await?, member))
        })
        .await?;
    app.publish_outcome(told);
    Ok(member)
}

async fn require_message(conn: &mut Conn, message: MessageId) -> Result<i64> {
    let found = messages::by_ids(conn, &[message]).await?.pop();
    found.map(|message| message.id.seq).ok_or(Error::NotFound("message"))
}

/// Chats of one markDelivered.
const MAX_DELIVERED_MESSAGES: usize = 100;

/// Notes that messages arrived at a device of the viewer's: in each chat up to and including one.
pub async fn mark_delivered(app: &AppContext, viewer: &Viewer, up_to: Vec<MessageId>) -> Result<Vec<Member>> {
    if up_to.is_empty() || up_to.len() > MAX_DELIVERED_MESSAGES {
        return Err(Error::bad_input("upTo", format!("must be 1 to {MAX_DELIVERED_MESSAGES}")));
    }
    // The furthest of each chat; in the order of their ids, as locks are taken.
    let mut furthest: BTreeMap<ChatId, i64> = BTreeMap::new();
    for message in &up_to {
        let seq = furthest.entry(message.chat).or_default();
        *seq = message.seq.max(*seq);
    }
    let mut conn = app.database.write().await?;
    let (told, members) = conn
        .transaction(async move |conn| {
            let known = messages::by_ids(conn, &up_to).await?;
            if up_to.iter().any(|id| !known.iter().any(|message| message.id == *id)) {
                return Err(Error::NotFound("message"));
            }
            let (mut told, mut members) = (Vec::new(), Vec::new());
            for (chat, seq) in furthest {
                let (mut writing, former) =
                    ChatTransaction::lock_for_member(conn, app, viewer, chat, "message").await?;
                let mut member = former.clone();
                member.read_markers.last_delivered_seq = seq.max(member.read_markers.last_delivered_seq);
                let member = writing.write_unversioned(conn, &former, member).await?;
                told.push(writing.commit_changes(conn).await?);
                members.push(member);
            }
            Ok((told, members))
        })
        .await?;
    for told in told {
        app.publish_outcome(told);
    }
    Ok(members)
}

/// What the viewer has not read in these chats.
pub async fn unread_counts(app: &AppContext, ids: &[MemberId]) -> Result<HashMap<MemberId, UnreadCounts>> {
    let mut conn = app.database.read().await?;
    Ok(members::unread_counts(&mut conn, ids).await?.into_iter().collect())
}

/// What a person has not read, over all their chats but muted and archived ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnreadTotals {
    pub chats: i64,
    pub unread: UnreadCounts,
    pub notifications: i64,
}

pub async fn unread_totals(app: &AppContext, viewer: &Viewer) -> Result<UnreadTotals> {
    let mut conn = app.database.read().await?;
    let (organization, user) = (viewer.organization(), viewer.id());
    let counts = members::unread_counts_by_chat(&mut conn, organization, user, app.clock.now()).await?;
    let notifications = notifications::count_unread(&mut conn, organization, user, UNREAD_CAP).await?;
    let messages = counts.iter().map(|unread| unread.messages.min(UNREAD_CAP)).sum();
    let mentions = counts.iter().map(|unread| unread.mentions.min(UNREAD_CAP)).sum();
    Ok(UnreadTotals { chats: counts.len() as i64, unread: UnreadCounts { messages, mentions }, notifications })
}

/// A message that was shown to the viewer, for what the others made of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ReceiptQuery {
    pub id: MessageId,
    pub sender: Option<UserId>,
    pub sent_at: DateTime<Utc>,
}

/// How far a message has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DeliveryStatus {
    Sent,
    Delivered,
    Read,
}

/// How far messages have come with at least one of the others. In a large chat nobody is told.
pub async fn delivery_statuses(
    app: &AppContext,
    messages: &[ReceiptQuery],
) -> Result<HashMap<ReceiptQuery, DeliveryStatus>> {
    let mut conn = app.database.read().await?;
    let chats = chats_with_receipts(app, &mut conn, messages.iter().map(|message| message.id.chat)).await?;
    let positions = members::receipt_positions(&mut conn, &chats).await?;
    let status = |message: &ReceiptQuery| {
        let others = positions.get(&message.id.chat).into_iter().flatten().filter(|position| {
            message.sender.as_ref() != Some(&position.user) && position.joined_at <= message.sent_at
        });
        let status = others.map(|position| match message.id.seq {
            seq if seq <= position.read_seq => DeliveryStatus::Read,
            seq if seq <= position.delivered_seq => DeliveryStatus::Delivered,
            _ => DeliveryStatus::Sent,
        });
        status.max().unwrap_or(DeliveryStatus::Sent)
    };
    Ok(messages.iter().map(|message| (message.clone(), status(message))).collect())
}

/// People who have read messages that were shown to the viewer.
pub async fn readers(app: &AppContext, queries: &[ReadersQuery]) -> Result<HashMap<ReadersQuery, Page<UserId>>> {
    let mut conn = app.database.read().await?;
    let chats = chats_with_receipts(app, &mut conn, queries.iter().map(|query| query.message.chat)).await?;
    let open: Vec<_> = queries.iter().filter(|query| chats.contains(&query.message.chat)).cloned().collect();
    let fetched = members::readers(&mut conn, &open).await?;
    let pages: Vec<_> = open.iter().zip(fetched).map(|(query, users)| query.window.to_page(users)).collect();
    Ok(open.into_iter().zip(pages).collect())
}

/// The chats among these that are small enough for all to be told who read what.
async fn chats_with_receipts(
    app: &AppContext,
    conn: &mut Conn,
    chats: impl Iterator<Item = ChatId>,
) -> Result<Vec<ChatId>> {
    let mut ids: Vec<ChatId> = chats.collect();
    ids.sort();
    ids.dedup();
    let largest = app.config.limits.max_receipt_members;
    let chats = chats::by_ids_any_organization(conn, &ids).await?;
    Ok(chats.iter().filter(|chat| chat.has_receipts(largest)).map(|chat| chat.id).collect())
}
