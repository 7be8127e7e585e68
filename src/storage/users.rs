//! Users and organisations, as tokens show them.

use chrono::{DateTime, Utc};
use diesel::prelude::*;

use crate::domain::ids::{OrganizationId, UserId};
use crate::domain::pagination::{PageEnd, PageWindow};
use crate::domain::search::folding::fold;
use crate::domain::text;
use crate::domain::users::{NameKey, StoredUser, TokenOrder, User};
use crate::error::{Error, Result};
use crate::storage::column_types::{TextValue, TimestampValue};
use crate::storage::connection::{Conn, RunQueryDsl};
use crate::storage::read_budget::{LargeRow, charge_rows};
use crate::storage::schema::{organizations, users};
use crate::storage::sql::columns::columns;
use crate::storage::sql::conditions::Conditions;
use crate::storage::sql::for_update::for_update;
use crate::storage::sql::in_list::in_list;
use crate::storage::sql::statement_cache::MAX_ROWS;
use crate::storage::sql::values_statement::ValuesStatement;

/// The columns of a user.
#[derive(Queryable, Selectable)]
#[diesel(table_name = users, check_for_backend(diesel::pg::Pg, diesel::sqlite::Sqlite))]
struct UserRow {
    organization_id: TextValue<OrganizationId>,
    id: TextValue<UserId>,
    name: String,
    avatar_url: Option<String>,
    last_seen_at: Option<TimestampValue>,
}

impl From<UserRow> for User {
    fn from(row: UserRow) -> Self {
        Self {
            organization: row.organization_id.0,
            id: row.id.0,
            name: row.name,
            avatar_url: row.avatar_url,
            last_seen_at: row.last_seen_at.map(|at| at.0),
        }
    }
}

impl LargeRow for UserRow {
    fn text_bytes(&self) -> usize {
        self.name.len() + self.avatar_url.as_ref().map_or(0, String::len)
    }
}

fn into_users(rows: Vec<UserRow>) -> Result<Vec<User>> {
    charge_rows(&rows)?;
    Ok(rows.into_iter().map(User::from).collect())
}

/// Locks a user until the transaction ends.
///
/// # Errors
///
/// Returns an error if the statement fails.
pub async fn lock(conn: &mut Conn, organization: &OrganizationId, user: &UserId) -> Result<()> {
    let query = users::table.find((organization.as_str(), user.as_str())).select(users::id);
    let _: Vec<String> = for_update(query).load(conn).await?;
    Ok(())
}

/// Inserts or updates a user as a token describes them, unless a newer token did, and returns the row.
///
/// It inserts the user's organisation if it is new.
///
/// # Errors
///
/// Returns an error if a statement fails.
pub async fn upsert_seen(conn: &mut Conn, user: &User, token: TokenOrder, now: DateTime<Utc>) -> Result<StoredUser> {
    let is_new = match find_seen(conn, user).await? {
        // After a restart most users come back with the token that described them. They cost no write.
        Some(found) if is_unchanged_by(&found, user, token) => return Ok(found),
        found => found.is_none(),
    };
    let profile = (
        users::name.eq(&user.name),
        users::name_folded.eq(text::fold_case(&user.name)),
        users::name_search.eq(Some(fold(&user.name))),
        users::avatar_url.eq(&user.avatar_url),
        users::token_issued_at.eq(Some(TimestampValue(token.issued_at))),
        users::token_expires_at.eq(Some(TimestampValue(token.expires_at))),
    );
    if is_new {
        let created_at = TimestampValue(now);
        diesel::insert_into(organizations::table)
            .values((organizations::id.eq(user.organization.as_str()), organizations::created_at.eq(created_at)))
            .on_conflict_do_nothing()
            .execute(conn)
            .await?;
        diesel::insert_into(users::table)
            .values((
                users::organization_id.eq(user.organization.as_str()),
                users::id.eq(user.id.as_str()),
                users::created_at.eq(created_at),
                profile.clone(),
            ))
            .on_conflict_do_nothing()
            .execute(conn)
            .await?;
    }
    let (issued_at, expires_at) = (TimestampValue(token.issued_at), TimestampValue(token.expires_at));
    let issued_earlier = users::token_issued_at.assume_not_null().lt(issued_at);
    let expires_no_later = users::token_issued_at
        .assume_not_null()
        .eq(issued_at)
        .and(users::token_expires_at.assume_not_null().le(expires_at));
    diesel::update(users::table.find((user.organization.as_str(), user.id.as_str())))
        .filter(users::token_issued_at.is_null().or(issued_earlier).or(expires_no_later))
        .set(profile)
        .execute(conn)
        .await?;
    // The row exists: no user is ever deleted.
    find_seen(conn, user).await?.ok_or(Error::NotFound("user"))
}

/// Returns true if the row says what the token says already, or what a newer token said.
fn is_unchanged_by(found: &StoredUser, user: &User, token: TokenOrder) -> bool {
    found.token_order > Some(token) || (found.token_order == Some(token) && found.user == *user)
}

/// Returns the row of a user; `None` if no token has shown them yet.
///
/// # Errors
///
/// Returns an error if the statement fails.
pub async fn find_seen(conn: &mut Conn, user: &User) -> Result<Option<StoredUser>> {
    type Times = (Option<TimestampValue>, Option<TimestampValue>, Option<TimestampValue>);
    let rows: Vec<(String, Option<String>, Times)> = users::table
        .filter(users::organization_id.eq(user.organization.as_str()))
        .filter(users::id.eq(user.id.as_str()))
        .select((
            users::name,
            users::avatar_url,
            (users::token_issued_at, users::token_expires_at, users::revoked_before),
        ))
        .load(conn)
        .await?;
    Ok(rows.into_iter().next().map(|(name, avatar_url, (issued_at, expires_at, revoked_before))| StoredUser {
        user: User { name, avatar_url, last_seen_at: None, ..user.clone() },
        token_order: issued_at
            .zip(expires_at)
            .map(|(issued_at, expires_at)| TokenOrder { issued_at: issued_at.0, expires_at: expires_at.0 }),
        revoked_before: revoked_before.map(|at| at.0),
    }))
}

/// Revokes a user's tokens up to a time.
///
/// A user whom no token has shown yet is inserted with their id as the name.
///
/// # Errors
///
/// Returns an error if the statement fails.
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
            users::name_search.eq(Some(fold(user.as_str()))),
            revoked,
        ))
        .on_conflict((users::organization_id, users::id))
        .do_update()
        .set(revoked)
        .execute(conn)
        .await?;
    Ok(())
}

/// Returns the users whose tokens were revoked since a time, with the end of the revoked period.
///
/// # Errors
///
/// Returns an error if the statement fails.
pub async fn revoked_since(
    conn: &mut Conn,
    since: DateTime<Utc>,
) -> Result<Vec<(OrganizationId, UserId, DateTime<Utc>)>> {
    let rows: Vec<(TextValue<OrganizationId>, TextValue<UserId>, Option<TimestampValue>)> = users::table
        .filter(users::revoked_before.is_not_null())
        .filter(users::revoked_before.ge(TimestampValue(since)))
        .select((users::organization_id, users::id, users::revoked_before))
        .load(conn)
        .await?;
    let revocations =
        rows.into_iter().filter_map(|(organization, user, before)| Some((organization.0, user.0, before?.0)));
    Ok(revocations.collect())
}

/// Returns the users of an organisation with these ids.
///
/// # Errors
///
/// Returns an error if the statement fails.
pub async fn by_ids(conn: &mut Conn, organization: &OrganizationId, ids: &[UserId]) -> Result<Vec<User>> {
    let rows: Vec<UserRow> = users::table
        .filter(users::organization_id.eq(organization.as_str()))
        .filter(in_list(users::id, ids.iter().map(UserId::as_str)))
        .select(columns::<UserRow>())
        .load(conn)
        .await?;
    into_users(rows)
}

/// Writes when users were last online; an earlier time than the stored one changes nothing.
///
/// # Errors
///
/// Returns an error if a statement fails.
pub async fn record_last_seen(conn: &mut Conn, seen: &[(OrganizationId, UserId, DateTime<Utc>)]) -> Result<()> {
    for chunk in seen.chunks(MAX_ROWS) {
        let rows = chunk.iter().map(|(organization, user, at)| {
            vec![organization.as_str().into(), user.as_str().into(), TimestampValue(*at).into()]
        });
        let update = ValuesStatement::new(
            "UPDATE users SET last_seen_at = seen.column3 FROM ",
            rows,
            " AS seen WHERE users.organization_id = seen.column1 AND users.id = seen.column2 \
             AND (users.last_seen_at IS NULL OR users.last_seen_at < seen.column3) \
             AND NOT EXISTS (SELECT 1 FROM organizations WHERE organizations.id = users.organization_id \
             AND organizations.move_state IS NOT NULL)",
        );
        update.execute(conn).await?;
    }
    Ok(())
}

/// Returns an organisation's users whose names contain a text, ordered by name.
///
/// It returns one user more than the window shows, if there are more. The window has to begin at the list's start.
///
/// # Errors
///
/// Returns an error if the statement fails.
pub async fn page(
    conn: &mut Conn,
    organization: &OrganizationId,
    search: Option<&str>,
    window: &PageWindow<NameKey>,
) -> Result<Vec<User>> {
    let (after_name, after_id) = window.after.clone().unwrap_or_default();
    debug_assert_eq!(window.end, PageEnd::First, "users are paged forwards");
    let rows: Vec<UserRow> = users::table
        .filter(users::organization_id.eq(organization.as_str()))
        .filter(search.map(is_named).unwrap_or_default())
        .filter(
            users::name_folded.gt(after_name.clone()).or(users::name_folded.eq(after_name).and(users::id.gt(after_id))),
        )
        .order((users::name_folded, users::id))
        .limit(window.fetch_limit())
        .select(columns::<UserRow>())
        .load(conn)
        .await?;
    into_users(rows)
}

/// Returns the condition that a user's name contains a text.
///
/// A name that is not yet in the form by which it is found has to contain the text in lower case.
pub fn is_named(text: &str) -> Conditions<'static> {
    let [folded, lower] = like_patterns(text);
    let not_yet = users::name_search.is_null().and(users::name_folded.like(lower).escape('\\'));
    Conditions::new().and(users::name_search.assume_not_null().like(folded).escape('\\').or(not_yet))
}

/// Returns the patterns of texts that contain a text, in their folded and in their lower-case form.
pub fn like_patterns(text: &str) -> [String; 2] {
    [fold(text), text::fold_case(text)].map(|text| format!("%{}%", escape_like(&text)))
}

/// Escapes a text so that a `LIKE` pattern matches it literally.
fn escape_like(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len());
    for character in text.chars() {
        if matches!(character, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern
}
