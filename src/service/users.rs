//! People of the viewer's organisation.

use std::collections::HashMap;
use std::sync::Mutex;

use chrono::{DateTime, Utc};
use quick_cache::sync::Cache;

use crate::domain::ids::{OrganizationId, UserId};
use crate::domain::pagination::{End, Page, PageArgs};
use crate::domain::text;
use crate::domain::users::{Person, User, Viewer};
use crate::error::{Error, Result};
use crate::lock::lock;
use crate::service::context::App;
use crate::storage::users;

/// People whose row is known to be as their token shows them, so that a request of theirs writes
/// nothing; and up to which moment their tokens were revoked.
pub struct Seen {
    people: Cache<Person, (User, Option<DateTime<Utc>>)>,
    /// What was revoked since this node began, as a row read just before may say otherwise.
    revoked: Mutex<HashMap<Person, DateTime<Utc>>>,
}

impl Seen {
    /// A person's tokens up to this moment hold no more.
    pub fn revoke(&self, organization: &OrganizationId, user: &UserId, before: DateTime<Utc>) {
        let mut revoked = lock(&self.revoked);
        let known = revoked.entry((organization.clone(), user.clone())).or_insert(before);
        *known = before.max(*known);
    }

    /// Refuses a token that was revoked since this node began.
    pub fn check(&self, viewer: &Viewer) -> Result<()> {
        let person = viewer.person();
        let before = lock(&self.revoked).get(&person).copied();
        held(viewer, before)
    }
}

impl Default for Seen {
    fn default() -> Self {
        Self { people: Cache::new(100_000), revoked: Mutex::default() }
    }
}

/// Who a token speaks for; they and their organisation exist from now on.
pub async fn authenticate(app: &App, token: &str) -> Result<Viewer> {
    let viewer = app.auth.verify(token).await?;
    let key = viewer.person();
    let known = app.seen.people.get(&key).filter(|(user, _)| *user == viewer.user);
    let revoked_before = match known {
        Some((_, revoked_before)) => revoked_before,
        None => {
            let mut conn = app.store.write().await?;
            let (user, now) = (viewer.user.clone(), app.clock.now());
            let revoked_before = conn.transaction(async move |conn| users::see(conn, &user, now).await).await?;
            app.seen.people.insert(key.clone(), (viewer.user.clone(), revoked_before));
            revoked_before
        }
    };
    held(&viewer, revoked_before)?;
    app.seen.check(&viewer)?;
    Ok(viewer)
}

/// Whether a token still holds, those up to a moment being revoked.
fn held(viewer: &Viewer, revoked_before: Option<DateTime<Utc>>) -> Result<()> {
    match revoked_before.filter(|before| viewer.is_revoked(*before)) {
        Some(_) => Err(Error::unauthenticated("the token was revoked")),
        None => Ok(()),
    }
}

pub async fn by_ids(app: &App, organization: &OrganizationId, ids: &[UserId]) -> Result<HashMap<UserId, User>> {
    let mut conn = app.store.read().await?;
    let users = users::by_ids(&mut conn, organization, ids).await?;
    Ok(users.into_iter().map(|user| (user.id.clone(), user)).collect())
}

pub fn by_name(user: &User) -> users::ByName {
    (text::folded(&user.name), user.id.to_string())
}

/// People of the organisation by name.
pub async fn page(app: &App, viewer: &Viewer, search: Option<&str>, args: &PageArgs) -> Result<Page<User>> {
    let window = args.window::<users::ByName>(End::First)?;
    let search = match search.map(str::trim) {
        None | Some("") => None,
        Some(words) => Some(text::line("search", words, 200)?),
    };
    let mut conn = app.store.read().await?;
    let fetched = users::page(&mut conn, viewer.organization(), search.as_deref(), &window).await?;
    Ok(window.page(fetched))
}
