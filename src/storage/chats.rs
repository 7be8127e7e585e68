//! Chats and their rows.

use diesel::prelude::*;
use serde_json::Value;

use crate::domain::chats::{ActivityKey, Chat, ChatDetails, ChatFilter, Policy, Resource};
use crate::domain::ids::{ChatId, Nonce, OrganizationId, UserId};
use crate::domain::pagination::{PageEnd, PageWindow};
use crate::domain::text::fold_case;
use crate::error::Result;
use crate::storage::column_types::{TimestampValue, UuidValue, parse_column};
use crate::storage::connection::{Conn, RunQueryDsl};
use crate::storage::members::unread_count;
use crate::storage::schema::{chats, members, users};
use crate::storage::sql::fragments::{Conditions, ForUpdate, OrderFrom, in_list};
use crate::storage::users::escape_like;

type Columns = (
    (
        chats::id,
        chats::organization_id,
        chats::kind,
        chats::created_by,
        chats::created_at,
        chats::last_activity_at,
        chats::version,
        chats::details_version,
        chats::last_seq,
        chats::member_count,
    ),
    (chats::title, chats::description, chats::avatar_url, chats::category, chats::policy, chats::slow_mode_seconds),
    (chats::archived_at, chats::resource_type, chats::resource_id, chats::changed_at),
);
const COLUMNS: Columns = (
    (
        chats::id,
        chats::organization_id,
        chats::kind,
        chats::created_by,
        chats::created_at,
        chats::last_activity_at,
        chats::version,
        chats::details_version,
        chats::last_seq,
        chats::member_count,
    ),
    (chats::title, chats::description, chats::avatar_url, chats::category, chats::policy, chats::slow_mode_seconds),
    (chats::archived_at, chats::resource_type, chats::resource_id, chats::changed_at),
);

type Row = (
    (UuidValue, String, String, Option<String>, TimestampValue, TimestampValue, i64, i64, i64, i32),
    (Option<String>, Option<String>, Option<String>, Option<String>, Value, i32),
    (Option<TimestampValue>, Option<String>, Option<String>, TimestampValue),
);

fn chat((row, details, (archived_at, resource_type, resource_id, changed_at)): Row) -> Result<Chat> {
    let (id, organization, kind, created_by, created_at, last_activity_at, version, details_version, last_seq, count) =
        row;
    let (title, description, avatar_url, category, policy, slow_mode_seconds) = details;
    Ok(Chat {
        id: ChatId(id.0),
        organization: parse_column(&organization)?,
        kind: parse_column(&kind)?,
        details: ChatDetails {
            title,
            description,
            avatar_url,
            category: category.as_deref().map(parse_column).transpose()?,
            policy: parse_policy(&policy)?,
            slow_mode_seconds,
        },
        created_by: created_by.as_deref().map(parse_column).transpose()?,
        created_at: created_at.0,
        last_activity_at: last_activity_at.0,
        changed_at: changed_at.0,
        version,
        details_version,
        last_seq,
        member_count: count,
        archived_at: archived_at.map(|at| at.0),
        resource: resource_type.zip(resource_id).map(|(kind, id)| Resource { kind, id }),
    })
}

fn parse_policy(json: &Value) -> Result<Policy> {
    let rules = json.as_object().into_iter().flatten();
    let rules =
        rules.map(|(action, role)| Ok((parse_column(action)?, parse_column(role.as_str().unwrap_or_default())?)));
    rules.collect::<Result<_>>().map(Policy)
}

fn policy_json(policy: &Policy) -> Value {
    let rules = policy.0.iter().map(|(action, role)| (<&str>::from(action).to_owned(), <&str>::from(role).into()));
    Value::Object(rules.collect())
}

/// What makes a repeated creation the same chat.
#[derive(Debug, Clone, Default)]
pub struct ChatIdempotencyKey {
    pub direct_key: Option<String>,
    pub nonce: Option<Nonce>,
    pub fingerprint: Option<Vec<u8>>,
}

/// Inserts a chat; false where one with this key is there already.
pub async fn insert(conn: &mut Conn, chat: &Chat, key: &ChatIdempotencyKey) -> Result<bool> {
    let details = &chat.details;
    let inserted = diesel::insert_into(chats::table)
        .values((
            (
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
                chats::member_count.eq(chat.member_count),
            ),
            (
                chats::title.eq(&details.title),
                chats::title_folded.eq(details.title.as_deref().map(fold_case)),
                chats::description.eq(&details.description),
                chats::avatar_url.eq(&details.avatar_url),
                chats::category.eq(details.category.map(<&str>::from)),
                chats::policy.eq(policy_json(&details.policy)),
                chats::slow_mode_seconds.eq(details.slow_mode_seconds),
            ),
            (
                chats::direct_key.eq(&key.direct_key),
                chats::nonce.eq(key.nonce.as_ref().map(Nonce::as_str)),
                chats::fingerprint.eq(&key.fingerprint),
                chats::resource_type.eq(chat.resource.as_ref().map(|resource| &resource.kind)),
                chats::resource_id.eq(chat.resource.as_ref().map(|resource| &resource.id)),
            ),
        ))
        .on_conflict_do_nothing()
        .execute(conn)
        .await?;
    Ok(inserted == 1)
}

pub async fn by_direct_key(conn: &mut Conn, organization: &OrganizationId, key: &str) -> Result<Option<Chat>> {
    let rows: Vec<Row> = chats::table
        .filter(chats::organization_id.eq(organization.as_str()))
        .filter(chats::direct_key.eq(key))
        .select(COLUMNS)
        .load(conn)
        .await?;
    rows.into_iter().next().map(chat).transpose()
}

pub async fn by_resource(conn: &mut Conn, organization: &OrganizationId, resource: &Resource) -> Result<Option<Chat>> {
    let rows: Vec<Row> = chats::table
        .filter(chats::organization_id.eq(organization.as_str()))
        .filter(chats::resource_type.eq(&resource.kind))
        .filter(chats::resource_id.eq(&resource.id))
        .select(COLUMNS)
        .load(conn)
        .await?;
    rows.into_iter().next().map(chat).transpose()
}

/// The chat that a person made with this nonce, and what it was made of.
pub async fn by_nonce(
    conn: &mut Conn,
    organization: &OrganizationId,
    creator: &UserId,
    nonce: &Nonce,
) -> Result<Option<(Chat, Option<Vec<u8>>)>> {
    let rows: Vec<(Row, Option<Vec<u8>>)> = chats::table
        .filter(chats::organization_id.eq(organization.as_str()))
        .filter(chats::created_by.eq(creator.as_str()))
        .filter(chats::nonce.eq(nonce.as_str()))
        .select((COLUMNS, chats::fingerprint))
        .load(conn)
        .await?;
    rows.into_iter().next().map(|(row, fingerprint)| Ok((chat(row)?, fingerprint))).transpose()
}

pub async fn by_ids(conn: &mut Conn, organization: &OrganizationId, ids: &[ChatId]) -> Result<Vec<Chat>> {
    let rows: Vec<Row> = chats::table
        .filter(chats::organization_id.eq(organization.as_str()))
        .filter(in_list(chats::id, ids.iter().map(|id| UuidValue(id.0))))
        .select(COLUMNS)
        .load(conn)
        .await?;
    rows.into_iter().map(chat).collect()
}

/// Chats of any organisation, for what is no client's question.
pub async fn by_ids_any_organization(conn: &mut Conn, ids: &[ChatId]) -> Result<Vec<Chat>> {
    let rows: Vec<Row> = chats::table
        .filter(in_list(chats::id, ids.iter().map(|id| UuidValue(id.0))))
        .select(COLUMNS)
        .load(conn)
        .await?;
    rows.into_iter().map(chat).collect()
}

/// Locks chats, always in the order of their ids so that no two transactions wait for each other.
pub async fn lock(conn: &mut Conn, ids: &[ChatId]) -> Result<Vec<Chat>> {
    let query =
        chats::table.filter(in_list(chats::id, ids.iter().map(|id| UuidValue(id.0)))).order(chats::id).select(COLUMNS);
    let rows: Vec<Row> = ForUpdate(query).load(conn).await?;
    rows.into_iter().map(chat).collect()
}

/// Writes the chat's own row back: its details, its counter and its number of members.
pub async fn update(conn: &mut Conn, chat: &Chat) -> Result<()> {
    let details = &chat.details;
    diesel::update(chats::table.filter(chats::id.eq(UuidValue(chat.id.0))))
        .set((
            chats::title.eq(&details.title),
            chats::title_folded.eq(details.title.as_deref().map(fold_case)),
            chats::description.eq(&details.description),
            chats::avatar_url.eq(&details.avatar_url),
            chats::category.eq(details.category.map(<&str>::from)),
            chats::policy.eq(policy_json(&details.policy)),
            chats::slow_mode_seconds.eq(details.slow_mode_seconds),
            chats::version.eq(chat.version),
            chats::details_version.eq(chat.details_version),
            chats::last_seq.eq(chat.last_seq),
            chats::member_count.eq(chat.member_count),
            chats::last_activity_at.eq(TimestampValue(chat.last_activity_at)),
            chats::changed_at.eq(TimestampValue(chat.changed_at)),
            chats::archived_at.eq(chat.archived_at.map(TimestampValue)),
        ))
        .execute(conn)
        .await?;
    Ok(())
}

/// Deletes a chat with all that is in it.
pub async fn delete(conn: &mut Conn, id: ChatId) -> Result<()> {
    diesel::delete(chats::table.filter(chats::id.eq(UuidValue(id.0)))).execute(conn).await?;
    Ok(())
}

/// The chats of a person, or the channels that they may join: one more than asked for, from the
/// window's end.
pub async fn page(
    conn: &mut Conn,
    organization: &OrganizationId,
    viewer: &UserId,
    filter: &ChatFilter,
    window: &PageWindow<ActivityKey>,
) -> Result<Vec<Chat>> {
    let own = members::table
        .filter(members::organization_id.eq(organization.as_str()))
        .filter(members::user_id.eq(viewer.as_str()))
        .filter(members::left_at.is_null());
    let conditions = if filter.joinable {
        Conditions::new().and(chats::kind.eq("channel")).and(chats::id.ne_all(own.select(members::chat_id)))
    } else {
        let unread = own.filter(members::marked_unread.or(unread_count().gt(0))).select(members::chat_id);
        let pinned = |is: bool| own.filter(members::pinned.eq(is)).select(members::chat_id);
        Conditions::new()
            .and(chats::id.eq_any(own.select(members::chat_id)))
            .and_option(filter.unread_only.then(|| chats::id.eq_any(unread)))
            .and_option(filter.pinned.map(|is| chats::id.eq_any(pinned(is))))
    };
    let kinds = filter.kinds.as_ref().map(|kinds| kinds.iter().map(<&str>::from).collect::<Vec<_>>());
    let pattern = filter.search.as_deref().map(|words| format!("%{}%", escape_like(words)));
    let conditions = conditions
        .and(chats::archived_at.is_not_null().eq(filter.archived))
        .and_option(kinds.map(|kinds| chats::kind.eq_any(kinds)))
        .and_option(pattern.map(|pattern| {
            let other_person = users::table
                .inner_join(
                    members::table.on(members::organization_id
                        .eq(users::organization_id)
                        .and(members::user_id.eq(users::id))
                        .and(members::user_id.ne(viewer.as_str()))),
                )
                .filter(users::name_folded.like(pattern.clone()).escape('\\'))
                .select(members::chat_id);
            let named = chats::kind.eq("direct").and(chats::id.eq_any(other_person));
            chats::title_folded.assume_not_null().like(pattern).escape('\\').or(named)
        }))
        .and_option(window.after.map(|(at, id)| {
            let (at, id) = (TimestampValue::from_micros_clamped(at), UuidValue(id));
            chats::last_activity_at.lt(at).or(chats::last_activity_at.eq(at).and(chats::id.lt(id)))
        }))
        .and_option(window.before.map(|(at, id)| {
            let (at, id) = (TimestampValue::from_micros_clamped(at), UuidValue(id));
            chats::last_activity_at.gt(at).or(chats::last_activity_at.eq(at).and(chats::id.gt(id)))
        }));
    // The list's first is the newest.
    let end = match window.end {
        PageEnd::First => PageEnd::Last,
        PageEnd::Last => PageEnd::First,
    };
    let rows: Vec<Row> = chats::table
        .filter(chats::organization_id.eq(organization.as_str()))
        .filter(conditions)
        .order((OrderFrom::new(end, chats::last_activity_at), OrderFrom::new(end, chats::id)))
        .limit(window.fetch_limit())
        .select(COLUMNS)
        .load(conn)
        .await?;
    rows.into_iter().map(chat).collect()
}
