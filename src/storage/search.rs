//! Full-text search for messages.

use diesel::prelude::*;

use crate::domain::ids::{ChatId, MessageId, OrganizationId, UserId};
use crate::domain::message_queries::{CreatedAtKey, MessageSearch, created_at_key};
use crate::domain::messages::Message;
use crate::domain::pagination::PageWindow;
use crate::domain::search::terms::TermPrefix;
use crate::error::Result;
use crate::storage::column_types::{TimestampValue, UuidValue};
use crate::storage::connection::{Conn, RunQueryDsl};
use crate::storage::messages::by_ids;
use crate::storage::schema::{members, mentions, messages};
use crate::storage::sql::conditions::Conditions;
use crate::storage::sql::full_text::MatchesFullText;

/// The kinds of messages that have an attachment.
const ATTACHMENT_KINDS: [&str; 4] = ["image", "video", "audio", "file"];

/// Returns the messages in the viewer's chats that match a search, newest first.
///
/// A search without words finds the messages of users that meet its other conditions. It returns one message more than
/// the window shows, if there are more.
///
/// # Errors
///
/// Returns an error if the statement fails.
pub async fn page(
    conn: &mut Conn,
    organization: &OrganizationId,
    viewer: &UserId,
    search: &MessageSearch,
    window: &PageWindow<CreatedAtKey>,
) -> Result<Vec<Message>> {
    let bucket = organization.bucket().number();
    let of_chat = members::bucket.eq(messages::bucket).and(members::chat_id.eq(messages::chat_id));
    let kinds = search.kinds.as_ref().map(|kinds| kinds.iter().map(<&str>::from).collect::<Vec<_>>());
    let viewer_mentions = mentions::table
        .filter(mentions::bucket.eq(messages::bucket))
        .filter(mentions::chat_id.eq(messages::chat_id))
        .filter(mentions::seq.eq(messages::seq))
        .filter(mentions::user_id.eq(viewer.as_str()));
    let prefix = TermPrefix::new(organization);
    let has_words = !search.query.is_empty();
    let full_text = || MatchesFullText { tsquery: search.query.tsquery(&prefix), fts5: search.query.fts5(&prefix) };
    let conditions = Conditions::new()
        .and_option(has_words.then(full_text))
        .and_option((!has_words && kinds.is_none()).then(|| messages::kind.ne("system")))
        .and_option(search.chat.map(|chat| messages::chat_id.eq(UuidValue(chat.0))))
        .and_option(search.sender.as_ref().map(|sender| messages::sender_id.assume_not_null().eq(sender.as_str())))
        .and_option(kinds.map(|kinds| messages::kind.eq_any(kinds)))
        .and_option(search.has_attachment.map(|has| messages::kind.eq_any(ATTACHMENT_KINDS).eq(has)))
        .and_option(
            search.mentions_viewer.then(|| messages::mentions_everyone.or(diesel::dsl::exists(viewer_mentions))),
        )
        .and_option(search.since.map(|since| messages::created_at.ge(TimestampValue(since))))
        .and_option(search.until.map(|until| messages::created_at.lt(TimestampValue(until))))
        .and_option(window.after.map(|(at, chat, seq)| {
            let (at, chat) = (TimestampValue::from_micros_clamped(at), UuidValue(chat));
            let at_same_time = messages::chat_id.lt(chat).or(messages::chat_id.eq(chat).and(messages::seq.lt(seq)));
            messages::created_at.lt(at).or(messages::created_at.eq(at).and(at_same_time))
        }));
    let keys: Vec<(UuidValue, i64)> = messages::table
        .inner_join(members::table.on(of_chat))
        .filter(messages::bucket.eq(bucket))
        .filter(members::bucket.eq(bucket))
        .filter(members::organization_id.eq(organization.as_str()))
        .filter(members::user_id.eq(viewer.as_str()))
        .filter(members::left_at.is_null())
        .filter(messages::seq.gt(members::history_after_seq))
        .filter(conditions)
        .filter(messages::deleted_at.is_null())
        .order((messages::created_at.desc(), messages::chat_id.desc(), messages::seq.desc()))
        .limit(window.fetch_limit())
        .select((messages::chat_id, messages::seq))
        .load(conn)
        .await?;
    let ids: Vec<MessageId> = keys.into_iter().map(|(chat, seq)| MessageId { chat: ChatId(chat.0), seq }).collect();
    let mut messages = by_ids(conn, &ids).await?;
    messages.sort_by_key(|message| std::cmp::Reverse(created_at_key(message)));
    Ok(messages)
}
