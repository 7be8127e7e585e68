//! People of the viewer's organisation.

use parking_lot::Mutex;
use std::collections::HashMap;

use chrono::{DateTime, Utc};
use quick_cache::sync::Cache;

use crate::domain::ids::{OrganizationId, UserId};
use crate::domain::pagination::{Page, PageArgs, PageEnd};
use crate::domain::text;
use crate::domain::users::{NameKey, User, UserKey, Viewer};
use crate::error::{Error, Result};
use crate::service::context::AppContext;
use crate::storage::users;

/// People whose row is known to be as their token shows them, so that a request of theirs writes
/// nothing; and up to which moment their tokens were revoked.
pub struct KnownUsers {
    users: Cache<UserKey, (User, Option<DateTime<Utc>>)>,
    /// What was revoked since this node began, as a row read just before may say otherwise.
    revocations: Mutex<HashMap<UserKey, DateTime<Utc>>>,
}

impl KnownUsers {
    /// A person's tokens up to this moment hold no more.
    pub fn record_revocation(&self, organization: &OrganizationId, user: &UserId, before: DateTime<Utc>) {
        let mut revoked = self.revocations.lock();
        let known = revoked.entry((organization.clone(), user.clone())).or_insert(before);
        *known = before.max(*known);
    }

    /// Refuses a token that was revoked since this node began.
    pub fn check_revocation(&self, viewer: &Viewer) -> Result<()> {
        let person = viewer.key();
        let before = self.revocations.lock().get(&person).copied();
        require_not_revoked(viewer, before)
    }
}

impl Default for KnownUsers {
    fn default() -> Self {
        Self { users: Cache::new(100_000), revocations: Mutex::default() }
    }
}

/// Who a token speaks for; they and their organisation exist from now on.
pub async fn authenticate(app: &AppContext, token: &str) -> Result<Viewer> {
    let viewer = app.authenticator.verify(token).await?;
    let key = viewer.key();
    let known = app.known_users.users.get(&key).filter(|(user, _)| *user == viewer.user);
    let revoked_before = match known {
        Some((_, revoked_before)) => revoked_before,
        None => {
            let mut conn = app.database.write().await?;
            let (user, now) = (viewer.user.clone(), app.clock.now());
            let revoked_before = conn.transaction(async move |conn| users::upsert_seen(conn, &user, now).await).await?;
            app.known_users.users.insert(key.clone(), (viewer.user.clone(), revoked_before));
            revoked_before
        }
    };
    require_not_revoked(&viewer, revoked_before)?;
    app.known_users.check_revocation(&viewer)?;
    Ok(viewer)
}

/// Whether a token still holds, those up to a moment being revoked.
fn require_not_revoked(viewer: &Viewer, revoked_before: Option<DateTime<Utc>>) -> Result<()> {
    match revoked_before.filter(|before| viewer.is_revoked(*before)) {
        Some(_) => Err(Error::unauthenticated("the token was revoked")),
        None => Ok(()),
    }
}

pub async fn by_ids(app: &AppContext, organization: &OrganizationId, ids: &[UserId]) -> Result<HashMap<UserId, User>> {
    let mut conn = app.database.read().await?;
    let users = users::by_ids(&mut conn, organization, ids).await?;
    Ok(users.into_iter().map(|user| (user.id.clone(), user)).collect())
}

/// People of the organisation by name.
pub async fn page(app: &AppContext, viewer: &Viewer, search: Option<&str>, args: &PageArgs) -> Result<Page<User>> {
    let window = args.window::<NameKey>(PageEnd::First)?;
    let search = match search.map(str::trim) {
        None | Some("") => None,
        Some(words) => Some(text::validate_line("search", words, 200)?),
    };
    let mut conn = app.database.read().await?;
    let fetched = users::page(&mut conn, viewer.organization(), search.as_deref(), &window).await?;
    Ok(window.to_page(fetched))
}
