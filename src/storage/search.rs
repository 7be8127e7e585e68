//! The full-text index. Texts are cut into words by [`crate::domain::search`], not by the engines, so
//! that both find the same.

use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::Bool;

use crate::domain::ids::{ChatId, MessageId, OrganizationId, UserId};
use crate::domain::message_queries::{CreatedAtKey, MessageSearch, created_at_key};
use crate::domain::messages::Message;
use crate::domain::pagination::PageWindow;
use crate::domain::search::{tsvector, words};
use crate::error::Result;
use crate::storage::column_types::{TimestampValue, UuidValue};
use crate::storage::connection::{Conn, RunQueryDsl};
use crate::storage::messages::by_ids;
use crate::storage::schema::{members, mentions, messages};
use crate::storage::sql::fragments::Conditions;
use crate::storage::sql::full_text::{DeleteFullText, IndexFullText, MatchesFullText};

/// Puts what messages say into the index.
pub async fn index(conn: &mut Conn, said: impl Iterator<Item = (MessageId, &str)>) -> Result<()> {
    let is_postgres = matches!(conn, Conn::Postgres(_));
    let rows: Vec<_> = said
        .filter_map(|(id, text)| {
            let words = words(text);
            let spelled = if is_postgres { tsvector(&words) } else { words.join(" ") };
            (!words.is_empty()).then_some((UuidValue(id.chat.0), id.seq, spelled))
        })
        .collect();
    if !rows.is_empty() {
        IndexFullText::new(rows).execute(conn).await?;
    }
    Ok(())
}

/// Takes a message out of the index.
pub async fn delete(conn: &mut Conn, id: MessageId) -> Result<()> {
    DeleteFullText(UuidValue(id.chat.0), id.seq).execute(conn).await?;
    Ok(())
}

/// Puts all messages into an index that has none of them yet, as one has that a migration made. To be
/// called in a transaction. Tells how many they were.
pub async fn rebuild(conn: &mut Conn) -> Result<usize> {
    let any = sql::<Bool>("EXISTS (SELECT 1 FROM message_words)");
    let texts = messages::table.filter(messages::text.is_not_null());
    let filled: Vec<bool> = texts.limit(1).select(any).load(conn).await?;
    if filled != [false] {
        return Ok(0);
    }
    let mut number = 0;
    let mut last: Option<(UuidValue, i64)> = None;
    loop {
        let beyond = last
            .map(|(chat, seq)| messages::chat_id.gt(chat).or(messages::chat_id.eq(chat).and(messages::seq.gt(seq))));
        let some: Vec<(UuidValue, i64, Option<String>)> = texts
            .filter(Conditions::new().and_option(beyond))
            .order((messages::chat_id, messages::seq))
            .limit(1_000)
            .select((messages::chat_id, messages::seq, messages::text))
            .load(conn)
            .await?;
        let Some((chat, seq, _)) = some.last() else { return Ok(number) };
        last = Some((*chat, *seq));
        number += some.len();
        let said = some
            .iter()
            .filter_map(|(chat, seq, text)| Some((MessageId { chat: ChatId(chat.0), seq: *seq }, text.as_deref()?)));
        index(conn, said).await?;
    }
}

/// The kinds of messages that are files.
const FILE_KINDS: [&str; 4] = ["image", "video", "audio", "file"];

/// Messages in the viewer's chats that are found, newest first, one more than asked for.
pub async fn page(
    conn: &mut Conn,
    organization: &OrganizationId,
    viewer: &UserId,
    search: &MessageSearch,
    window: &PageWindow<CreatedAtKey>,
) -> Result<Vec<Message>> {
    let own = members::table
        .filter(members::organization_id.eq(organization.as_str()))
        .filter(members::user_id.eq(viewer.as_str()))
        .filter(members::left_at.is_null())
        .select(members::chat_id);
    let kinds = search.kinds.as_ref().map(|kinds| kinds.iter().map(<&str>::from).collect::<Vec<_>>());
    let named = mentions::table
        .filter(mentions::chat_id.eq(messages::chat_id))
        .filter(mentions::seq.eq(messages::seq))
        .filter(mentions::user_id.eq(viewer.as_str()));
    let conditions = Conditions::new()
        .and(MatchesFullText { tsquery: search.query.tsquery(), fts5: search.query.fts5() })
        .and(messages::chat_id.eq_any(own))
        .and_option(search.chat.map(|chat| messages::chat_id.eq(UuidValue(chat.0))))
        .and_option(search.sender.as_ref().map(|sender| messages::sender_id.assume_not_null().eq(sender.as_str())))
        .and_option(kinds.map(|kinds| messages::kind.eq_any(kinds)))
        .and_option(search.has_attachment.map(|has| messages::kind.eq_any(FILE_KINDS).eq(has)))
        .and_option(search.mentions_viewer.then(|| messages::mentions_everyone.or(diesel::dsl::exists(named))))
        .and_option(search.since.map(|since| messages::created_at.ge(TimestampValue(since))))
        .and_option(search.until.map(|until| messages::created_at.lt(TimestampValue(until))))
        .and_option(window.after.map(|(at, chat, seq)| {
            let (at, chat) = (TimestampValue::from_micros_clamped(at), UuidValue(chat));
            let within = messages::chat_id.lt(chat).or(messages::chat_id.eq(chat).and(messages::seq.lt(seq)));
            messages::created_at.lt(at).or(messages::created_at.eq(at).and(within))
        }));
    let found: Vec<(UuidValue, i64)> = messages::table
        .filter(conditions)
        .filter(messages::deleted_at.is_null())
        .order((messages::created_at.desc(), messages::chat_id.desc(), messages::seq.desc()))
        .limit(window.fetch_limit())
        .select((messages::chat_id, messages::seq))
        .load(conn)
        .await?;
    let ids: Vec<MessageId> = found.into_iter().map(|(chat, seq)| MessageId { chat: ChatId(chat.0), seq }).collect();
    let mut messages = by_ids(conn, &ids).await?;
    messages.sort_by_key(|message| std::cmp::Reverse(created_at_key(message)));
    Ok(messages)
}
