//! People and organisations, as tokens show them.

use diesel::prelude::*;

use crate::domain::ids::{OrganizationId, UserId};
use crate::domain::pagination::{PageEnd, PageWindow};
use crate::domain::text;
use crate::domain::users::{NameKey, User};
use crate::error::Result;
use crate::storage::column_types::{TimestampValue, parse_column};
use crate::storage::connection::{Conn, RunQueryDsl};
use crate::storage::schema::{organizations, users};
use crate::storage::sql::fragments::{MAX_ROWS, in_list, update_last_seen};
use chrono::{DateTime, Utc};

type Columns = (users::organization_id, users::id, users::name, users::avatar_url, users::last_seen_at);
const COLUMNS: Columns = (users::organization_id, users::id, users::name, users::avatar_url, users::last_seen_at);

type Row = (String, String, String, Option<String>, Option<TimestampValue>);

fn user((organization, id, name, avatar_url, last_seen_at): Row) -> Result<User> {
    let last_seen_at = last_seen_at.map(|at| at.0);
    Ok(User { organization: parse_column(&organization)?, id: parse_column(&id)?, name, avatar_url, last_seen_at })
}

/// Notes a person, and their organisation, as their token shows them now; gives up to which moment
/// their tokens were revoked.
pub async fn upsert_seen(conn: &mut Conn, user: &User, now: DateTime<Utc>) -> Result<Option<DateTime<Utc>>> {
    diesel::insert_into(organizations::table)
        .values((organizations::id.eq(user.organization.as_str()), organizations::created_at.eq(TimestampValue(now))))
        .on_conflict_do_nothing()
        .execute(conn)
        .await?;
    let shown = (
        users::name.eq(&user.name),
        users::name_folded.eq(text::fold_case(&user.name)),
        users::avatar_url.eq(&user.avatar_url),
    );
    let revoked_before: Option<TimestampValue> = diesel::insert_into(users::table)
        .values((
            users::organization_id.eq(user.organization.as_str()),
            users::id.eq(user.id.as_str()),
            users::created_at.eq(TimestampValue(now)),
            shown.clone(),
        ))
        .on_conflict((users::organization_id, users::id))
        .do_update()
        .set(shown)
        .returning(users::revoked_before)
        .get_result(conn)
        .await?;
    Ok(revoked_before.map(|at| at.0))
}

/// Revokes a person's tokens up to this moment. One whom no token showed yet is called by their id.
pub async fn revoke(
    conn: &mut Conn,
    organization: &OrganizationId,
    user: &UserId,
    before: DateTime<Utc>,
) -> Result<()> {
    let revoked = users::revoked_before.eq(Some(TimestampValue(before)));
    diesel::insert_into(users::table)
        .values((
            users::organization_id.eq(organization.as_str()),
            users::id.eq(user.as_str()),
            users::created_at.eq(TimestampValue(before)),
            users::name.eq(user.as_str()),
            users::name_folded.eq(text::fold_case(user.as_str())),
            revoked,
        ))
        .on_conflict((users::organization_id, users::id))
        .do_update()
        .set(revoked)
        .execute(conn)
        .await?;
    Ok(())
}

/// Whose tokens were revoked from a moment on, and up to when.
pub async fn revoked_since(
    conn: &mut Conn,
    since: DateTime<Utc>,
) -> Result<Vec<(OrganizationId, UserId, DateTime<Utc>)>> {
    let rows: Vec<(String, String, Option<TimestampValue>)> = users::table
        .filter(users::revoked_before.is_not_null())
        .filter(users::revoked_before.ge(TimestampValue(since)))
        .select((users::organization_id, users::id, users::revoked_before))
        .load(conn)
        .await?;
    let revoked = rows.into_iter().filter_map(|(organization, user, before)| Some((organization, user, before?.0)));
    revoked
        .map(|(organization, user, before)| Ok((parse_column(&organization)?, parse_column(&user)?, before)))
        .collect()
}

pub async fn by_ids(conn: &mut Conn, organization: &OrganizationId, ids: &[UserId]) -> Result<Vec<User>> {
    let rows: Vec<Row> = users::table
        .filter(users::organization_id.eq(organization.as_str()))
        .filter(in_list(users::id, ids.iter().map(UserId::as_str)))
        .select(COLUMNS)
        .load(conn)
        .await?;
    rows.into_iter().map(user).collect()
}

/// Notes when people were last there; an earlier moment than before changes nothing.
pub async fn record_last_seen(conn: &mut Conn, seen: &[(OrganizationId, UserId, DateTime<Utc>)]) -> Result<()> {
    for some in seen.chunks(MAX_ROWS) {
        let rows = some.iter().map(|(organization, user, at)| {
            (organization.as_str().to_owned(), user.as_str().to_owned(), TimestampValue(*at))
        });
        update_last_seen(rows).execute(conn).await?;
    }
    Ok(())
}

/// People of an organisation by name, one more than asked for, from the window's end.
pub async fn page(
    conn: &mut Conn,
    organization: &OrganizationId,
    search: Option<&str>,
    window: &PageWindow<NameKey>,
) -> Result<Vec<User>> {
    let (after_name, after_id) = window.after.clone().unwrap_or_default();
    let pattern = format!("%{}%", escape_like(&text::fold_case(search.unwrap_or_default())));
    debug_assert_eq!(window.end, PageEnd::First, "people are paged forwards");
    let rows: Vec<Row> = users::table
        .filter(users::organization_id.eq(organization.as_str()))
        .filter(users::name_folded.like(pattern).escape('\\'))
        .filter(
            users::name_folded.gt(after_name.clone()).or(users::name_folded.eq(after_name).and(users::id.gt(after_id))),
        )
        .order((users::name_folded, users::id))
        .limit(window.fetch_limit())
        .select(COLUMNS)
        .load(conn)
        .await?;
    rows.into_iter().map(user).collect()
}

/// Makes a text stand for itself in a LIKE pattern.
pub fn escape_like(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len());
    for character in text.chars() {
        if matches!(character, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern
}
