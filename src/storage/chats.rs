//! Chats.

use std::collections::HashMap;

use diesel::prelude::*;
use serde_json::Value;

use crate::domain::buckets::Bucket;
use crate::domain::chats::{
    ActivityKey, Chat, ChatDetails, ChatFilter, ChatKind, GroupCategory, HistoryForNewMembers, Policy, Resource,
};
use crate::domain::ids::{ChatId, OrganizationId, UserId};
use crate::domain::pagination::{PageEnd, PageWindow};
use crate::domain::search::folding::fold;
use crate::domain::text::fold_case;
use crate::error::{Error, Result};
use crate::storage::column_types::{TextValue, TimestampValue, UuidValue, chat_key, parse_text};
use crate::storage::connection::{Conn, RunQueryDsl};
use crate::storage::read_budget::{LargeRow, charge_rows, json_text_bytes};
use crate::storage::schema::{chat_bans, chats, members, users};
use crate::storage::sql::columns::columns;
use crate::storage::sql::conditions::Conditions;
use crate::storage::sql::for_update::{for_update, for_update_skip_locked};
use crate::storage::sql::in_list::in_list;
use crate::storage::sql::keys::{keys_in, of_chat};
use crate::storage::sql::order::OrderFrom;
use crate::storage::sql::values_statement::ValuesStatement;
use crate::storage::unread::unread_count;
use crate::storage::users::{is_named, like_patterns};

/// The columns of a chat.
#[derive(Queryable, Selectable)]
#[diesel(table_name = chats, check_for_backend(diesel::pg::Pg, diesel::sqlite::Sqlite))]
struct ChatRow {
    id: UuidValue,
    organization_id: TextValue<OrganizationId>,
    kind: TextValue<ChatKind>,
    created_by: Option<TextValue<UserId>>,
    created_at: TimestampValue,
    last_activity_at: TimestampValue,
    version: i64,
    details_version: i64,
    last_seq: i64,
    member_count: i32,
    title: Option<String>,
    description: Option<String>,
    avatar_url: Option<String>,
    category: Option<TextValue<GroupCategory>>,
    policy: Value,
    slow_mode_seconds: i32,
    archived_at: Option<TimestampValue>,
    resource_type: Option<String>,
    resource_id: Option<String>,
    changed_at: TimestampValue,
    last_message_seq: i64,
    history_for_new_members: TextValue<HistoryForNewMembers>,
}

impl TryFrom<ChatRow> for Chat {
    type Error = Error;

    fn try_from(row: ChatRow) -> Result<Self> {
        Ok(Self {
            id: ChatId(row.id.0),
            organization: row.organization_id.0,
            kind: row.kind.0,
            details: ChatDetails {
                title: row.title,
                description: row.description,
                avatar_url: row.avatar_url,
                category: row.category.map(|category| category.0),
                policy: parse_policy(&row.policy)?,
                slow_mode_seconds: row.slow_mode_seconds,
                history_for_new_members: row.history_for_new_members.0,
            },
            created_by: row.created_by.map(|user| user.0),
            created_at: row.created_at.0,
            last_activity_at: row.last_activity_at.0,
            changed_at: row.changed_at.0,
            version: row.version,
            details_version: row.details_version,
            last_seq: row.last_seq,
            last_message_seq: row.last_message_seq,
            member_count: row.member_count,
            archived_at: row.archived_at.map(|at| at.0),
            resource: row.resource_type.zip(row.resource_id).map(|(kind, id)| Resource { kind, id }),
        })
    }
}

impl LargeRow for ChatRow {
    fn text_bytes(&self) -> usize {
        let texts = [&self.title, &self.description, &self.avatar_url, &self.resource_type, &self.resource_id];
        texts.into_iter().flatten().map(String::len).sum::<usize>() + json_text_bytes(&self.policy)
    }
}

fn into_chats(rows: Vec<ChatRow>) -> Result<Vec<Chat>> {
    charge_rows(&rows)?;
    rows.into_iter().map(Chat::try_from).collect()
}

fn parse_policy(json: &Value) -> Result<Policy> {
    let rules = json.as_object().into_iter().flatten();
    let rules = rules.map(|(action, role)| Ok((parse_text(action)?, parse_text(role.as_str().unwrap_or_default())?)));
    rules.collect::<Result<_>>().map(Policy)
}

fn policy_json(policy: &Policy) -> Value {
    let rules = policy.0.iter().map(|(action, role)| (<&str>::from(action).to_owned(), <&str>::from(role).into()));
    Value::Object(rules.collect())
}

/// Inserts a chat and returns `true`, or returns `false` if a chat with this id exists.
///
/// The fingerprint is that of the request, if it had a nonce.
///
/// # Errors
///
/// Returns an error if the statement fails.
pub async fn insert(conn: &mut Conn, chat: &Chat, fingerprint: Option<&[u8]>) -> Result<bool> {
    let details = &chat.details;
    let inserted = diesel::insert_into(chats::table)
        .values((
            (
                chats::bucket.eq(chat.id.bucket().number()),
                chats::id.eq(UuidValue(chat.id.0)),
                chats::organization_id.eq(chat.organization.as_str()),
                chats::kind.eq(<&str>::from(chat.kind)),
                chats::created_by.eq(chat.created_by.as_ref().map(UserId::as_str)),
                chats::created_at.eq(TimestampValue(chat.created_at)),
                chats::last_activity_at.eq(TimestampValue(chat.last_activity_at)),
                chats::changed_at.eq(TimestampValue(chat.changed_at)),
                chats::version.eq(chat.version),
                chats::details_version.eq(chat.details_version),
                chats::last_seq.eq(chat.last_seq),
                chats::last_message_seq.eq(chat.last_message_seq),
                chats::member_count.eq(chat.member_count),
            ),
            (
                chats::title.eq(&details.title),
                chats::title_folded.eq(details.title.as_deref().map(fold_case)),
                chats::title_search.eq(details.title.as_deref().map(fold)),
                chats::description.eq(&details.description),
                chats::avatar_url.eq(&details.avatar_url),
                chats::category.eq(details.category.map(<&str>::from)),
                chats::policy.eq(policy_json(&details.policy)),
                chats::slow_mode_seconds.eq(details.slow_mode_seconds),
                chats::history_for_new_members.eq(<&str>::from(details.history_for_new_members)),
            ),
            (
                chats::fingerprint.eq(fingerprint),
                chats::resource_type.eq(chat.resource.as_ref().map(|resource| &resource.kind)),
                chats::resource_id.eq(chat.resource.as_ref().map(|resource| &resource.id)),
            ),
        ))
        .on_conflict_do_nothing()
        .execute(conn)
        .await?;
    Ok(inserted == 1)
}

/// Returns a chat with the fingerprint of the request that created it, if that had a nonce.
///
/// The chat is locked until the transaction ends.
///
/// # Errors
///
/// Returns an error if the statement fails.
pub async fn lock_with_fingerprint(conn: &mut Conn, id: ChatId) -> Result<Option<(Chat, Option<Vec<u8>>)>> {
    let query =
        chats::table.filter(of_chat((chats::bucket, chats::id), id)).select((columns::<ChatRow>(), chats::fingerprint));
    let rows: Vec<(ChatRow, Option<Vec<u8>>)> = for_update(query).load(conn).await?;
    rows.into_iter().next().map(|(row, fingerprint)| Ok((Chat::try_from(row)?, fingerprint))).transpose()
}

/// Returns the chats of an organisation with these ids.
///
/// # Errors
///
/// Returns an error if the statement fails.
pub async fn by_ids(conn: &mut Conn, organization: &OrganizationId, ids: &[ChatId]) -> Result<Vec<Chat>> {
    let rows: Vec<ChatRow> = chats::table
        .filter(chats::organization_id.eq(organization.as_str()))
        .filter(keys_in((chats::bucket, chats::id), ids.iter().map(|id| chat_key(*id))))
        .select(columns::<ChatRow>())
        .load(conn)
        .await?;
    into_chats(rows)
}

/// Returns the chats with these ids of any organisation, for work that no client asked for.
///
/// # Errors
///
/// Returns an error if the statement fails.
pub async fn by_ids_any_organization(conn: &mut Conn, ids: &[ChatId]) -> Result<Vec<Chat>> {
    let rows: Vec<ChatRow> = chats::table
        .filter(keys_in((chats::bucket, chats::id), ids.iter().map(|id| chat_key(*id))))
        .select(columns::<ChatRow>())
        .load(conn)
        .await?;
    into_chats(rows)
}

/// Returns the versions of the chats with these ids that exist, of any organisation.
///
/// The query is for work that no client asked for.
///
/// # Errors
///
/// Returns an error if the statement fails.
pub async fn versions(conn: &mut Conn, ids: &[ChatId]) -> Result<HashMap<ChatId, i64>> {
    let rows: Vec<(UuidValue, i64)> = chats::table
        .filter(keys_in((chats::bucket, chats::id), ids.iter().map(|id| chat_key(*id))))
        .select((chats::id, chats::version))
        .load(conn)
        .await?;
    Ok(rows.into_iter().map(|(chat, version)| (ChatId(chat.0), version)).collect())
}

/// Returns a chat, locked until the transaction ends.
///
/// # Errors
///
/// Returns an error if the statement fails.
pub async fn lock_one(conn: &mut Conn, id: ChatId) -> Result<Option<Chat>> {
    Ok(lock(conn, id.bucket(), &[id]).await?.pop())
}

/// Returns chats of one bucket, locked until the transaction ends.
///
/// It locks them in the order of their ids, so that no two transactions wait for each other.
///
/// # Errors
///
/// Returns an error if the statement fails.
pub async fn lock(conn: &mut Conn, bucket: Bucket, ids: &[ChatId]) -> Result<Vec<Chat>> {
    let query = chats::table
        .filter(chats::bucket.eq(bucket.number()))
        .filter(in_list(chats::id, ids.iter().map(|id| UuidValue(id.0))))
        .order(chats::id)
        .select(columns::<ChatRow>());
    let rows: Vec<ChatRow> = for_update(query).load(conn).await?;
    into_chats(rows)
}

/// Returns the chats of one bucket that no other transaction has locked, and the ids of the others.
///
/// The chats are locked until the transaction ends. The others exist, but their lock would have to be waited for.
/// SQLite locks no single chats, so it has none.
///
/// # Errors
///
/// Returns an error if a statement fails.
pub async fn lock_free(conn: &mut Conn, bucket: Bucket, ids: &[ChatId]) -> Result<(Vec<Chat>, Vec<ChatId>)> {
    let query = chats::table
        .filter(chats::bucket.eq(bucket.number()))
        .filter(in_list(chats::id, ids.iter().map(|id| UuidValue(id.0))))
        .order(chats::id)
        .select(columns::<ChatRow>());
    let rows: Vec<ChatRow> = for_update_skip_locked(query).load(conn).await?;
    let locked = into_chats(rows)?;
    let is_locked = |id: &&ChatId| locked.iter().any(|chat| chat.id == **id);
    let missing: Vec<ChatId> = ids.iter().filter(|id| !is_locked(id)).copied().collect();
    if missing.is_empty() || !conn.locks_rows() {
        return Ok((locked, Vec::new()));
    }
    let held = versions(conn, &missing).await?.into_keys().collect();
    Ok((locked, held))
}

/// Writes everything that can change in a chat.
///
/// # Errors
///
/// Returns an error if the statement fails.
pub async fn update(conn: &mut Conn, chat: &Chat) -> Result<()> {
    let details = &chat.details;
    diesel::update(chats::table.find(chat_key(chat.id)))
        .set((
            chats::title.eq(&details.title),
            chats::title_folded.eq(details.title.as_deref().map(fold_case)),
            chats::title_search.eq(details.title.as_deref().map(fold)),
            chats::description.eq(&details.description),
            chats::avatar_url.eq(&details.avatar_url),
            chats::category.eq(details.category.map(<&str>::from)),
            chats::policy.eq(policy_json(&details.policy)),
            chats::slow_mode_seconds.eq(details.slow_mode_seconds),
            chats::history_for_new_members.eq(<&str>::from(details.history_for_new_members)),
            chats::version.eq(chat.version),
            chats::details_version.eq(chat.details_version),
            chats::last_seq.eq(chat.last_seq),
            chats::last_message_seq.eq(chat.last_message_seq),
            chats::member_count.eq(chat.member_count),
            chats::last_activity_at.eq(TimestampValue(chat.last_activity_at)),
            chats::changed_at.eq(TimestampValue(chat.changed_at)),
            chats::archived_at.eq(chat.archived_at.map(TimestampValue)),
        ))
        .execute(conn)
        .await?;
    Ok(())
}

/// Writes the versions, last sequence numbers and times of chats that took messages.
///
/// There is at least one, and they are of one bucket.
///
/// # Errors
///
/// Returns an error if the statement fails.
pub async fn update_counters(conn: &mut Conn, bucket: Bucket, chats: impl Iterator<Item = &Chat>) -> Result<()> {
    let rows = chats.map(|chat| {
        vec![
            UuidValue(chat.id.0).into(),
            chat.version.into(),
            chat.last_seq.into(),
            TimestampValue(chat.last_activity_at).into(),
            TimestampValue(chat.changed_at).into(),
            chat.last_message_seq.into(),
        ]
    });
    let update = ValuesStatement::new(
        "UPDATE chats SET version = sent.column2, last_seq = sent.column3, last_activity_at = sent.column4, \
         changed_at = sent.column5, last_message_seq = sent.column6 FROM ",
        rows,
        " AS sent WHERE chats.id = sent.column1 AND chats.bucket = ",
    );
    update.in_bucket(bucket).execute(conn).await?;
    Ok(())
}

/// Deletes a chat with everything in it.
///
/// # Errors
///
/// Returns an error if the statement fails.
pub async fn delete(conn: &mut Conn, id: ChatId) -> Result<()> {
    diesel::delete(chats::table.find(chat_key(id))).execute(conn).await?;
    Ok(())
}

/// Returns a user's chats, or the channels that the user may join, newest activity first.
///
/// It returns one chat more than the window shows, if there are more, counted from the window's end.
///
/// # Errors
///
/// Returns an error if the statement fails.
pub async fn page(
    conn: &mut Conn,
    organization: &OrganizationId,
    viewer: &UserId,
    filter: &ChatFilter,
    window: &PageWindow<ActivityKey>,
) -> Result<Vec<Chat>> {
    let bucket = organization.bucket().number();
    let memberships = members::table
        .filter(members::bucket.eq(bucket))
        .filter(members::organization_id.eq(organization.as_str()))
        .filter(members::user_id.eq(viewer.as_str()))
        .filter(members::left_at.is_null());
    let conditions = if filter.joinable {
        let bans = chat_bans::table
            .filter(chat_bans::bucket.eq(bucket))
            .filter(chat_bans::organization_id.eq(organization.as_str()))
            .filter(chat_bans::user_id.eq(viewer.as_str()));
        Conditions::new()
            .and(chats::kind.eq("channel"))
            .and(chats::id.ne_all(memberships.select(members::chat_id)))
            .and(chats::id.ne_all(bans.select(chat_bans::chat_id)))
    } else {
        let unread = memberships.filter(members::marked_unread.or(unread_count(bucket).gt(0))).select(members::chat_id);
        let with_pin = |pinned: bool| memberships.filter(members::pinned.eq(pinned)).select(members::chat_id);
        Conditions::new()
            .and(chats::id.eq_any(memberships.select(members::chat_id)))
            .and_option(filter.unread_only.then(|| chats::id.eq_any(unread)))
            .and_option(filter.pinned.map(|pinned| chats::id.eq_any(with_pin(pinned))))
    };
    let kinds = filter.kinds.as_ref().map(|kinds| kinds.iter().map(<&str>::from).collect::<Vec<_>>());
    let conditions = conditions
        .and(chats::archived_at.is_not_null().eq(filter.archived))
        .and_option(kinds.map(|kinds| chats::kind.eq_any(kinds)))
        .and_option(filter.search.as_deref().map(|text| {
            let chats_with_named_user = users::table
                .inner_join(
                    members::table.on(members::organization_id
                        .eq(users::organization_id)
                        .and(members::user_id.eq(users::id))
                        .and(members::user_id.ne(viewer.as_str()))),
                )
                .filter(users::organization_id.eq(organization.as_str()))
                .filter(members::bucket.eq(bucket))
                .filter(is_named(text))
                .select(members::chat_id);
            let direct = chats::kind.eq("direct").and(chats::id.eq_any(chats_with_named_user));
            let named_viewer = users::table
                .filter(users::organization_id.eq(organization.as_str()))
                .filter(users::id.eq(viewer.as_str()))
                .filter(is_named(text));
            let own_notes =
                chats::kind.eq("direct").and(chats::member_count.eq(1)).and(diesel::dsl::exists(named_viewer));
            let [folded, lower] = like_patterns(text);
            let not_yet =
                chats::title_search.is_null().and(chats::title_folded.assume_not_null().like(lower).escape('\\'));
            chats::title_search.assume_not_null().like(folded).escape('\\').or(not_yet).or(direct).or(own_notes)
        }))
        .and_option(window.after.map(|(at, id)| {
            let (at, id) = (TimestampValue::from_micros_clamped(at), UuidValue(id));
            chats::last_activity_at.lt(at).or(chats::last_activity_at.eq(at).and(chats::id.lt(id)))
        }))
        .and_option(window.before.map(|(at, id)| {
            let (at, id) = (TimestampValue::from_micros_clamped(at), UuidValue(id));
            chats::last_activity_at.gt(at).or(chats::last_activity_at.eq(at).and(chats::id.gt(id)))
        }));
    // The list begins with the newest chat, so its first end is the last one by rising keys.
    let end = match window.end {
        PageEnd::First => PageEnd::Last,
        PageEnd::Last => PageEnd::First,
    };
    let rows: Vec<ChatRow> = chats::table
        .filter(chats::bucket.eq(bucket))
        .filter(chats::organization_id.eq(organization.as_str()))
        .filter(conditions)
        .order((OrderFrom::new(end, chats::last_activity_at), OrderFrom::new(end, chats::id)))
        .limit(window.fetch_limit())
        .select(columns::<ChatRow>())
        .load(conn)
        .await?;
    into_chats(rows)
}
